#!/usr/bin/env python3
"""What goes wrong on a machine that runs a host under systemd: a full disk, a key that others can read, memory that was
written over, a store that another version left. The rest serves, status says which and why, nobody crashes for ever."""
import os
import re
import shutil
import subprocess
import time
import unittest

from container import BIN, STAGES, Client, has_failed, installed, wait_for

STATE = "/var/lib/wavry/identity"
GARBAGE = os.urandom(4096)
container = None


def setUpModule():
    global container
    container = installed()
    shutil.copy(f"{BIN}/wavry-old-store", f"{container.root}/usr/local/bin/")


class Faults(unittest.TestCase):
    def setUp(self):
        self.addCleanup(self.leave)
        container.systemctl("start", "wavry-host.target")
        container.wait_ready()

    def leave(self):
        if has_failed(self):
            print(container.journal(lines=80))
        container.systemctl("stop", "wavry-host.target", check=False)
        wait_for(lambda: not container.processes(), 30, container.processes)

    def client(self):
        client = Client(container, container.dir)
        self.addCleanup(client.stop)
        client.wait_press()
        return client

    def restart(self, stage):
        """Restarts its unit without waiting for it to become well."""
        container.systemctl("--no-block", "restart", container.service(stage))

    def says(self, stage, *words, seconds=20):
        """Waits until wavryctl status says them all about the stage, and that the others serve."""
        def seen():
            stages = container.stages()
            return (all(word in stages.get(stage, {}).get("status", "") for word in words)
                    and all(stages[name]["state"] == "ready" for name in STAGES if name != stage))
        wait_for(seen, seconds, lambda: f"{words}: {container.stages().get(stage)}")

    # ---- files

    def test_wrong_permissions_of_the_key(self):
        client = self.client()
        path = f"{STATE}/{self.key_file()}"
        container.run("chmod", "0644", path, check=True)
        self.addCleanup(container.run, "chmod", "0600", path)
        self.restart("identity")
        self.says("identity", path, "can be read or written by others", "chmod 600")
        container.wait_status("wavry-supervisor", "identity")
        client.wait_press()
        container.run("chmod", "0600", path, check=True)
        container.wait_ready(25)
        self.assertEqual(client.finish()["connects"], 1, "the session knew nothing of it")

    def test_a_key_of_another_user(self):
        path = f"{STATE}/{self.key_file()}"
        owner = container.run("stat", "-c", "%U:%G", path, check=True).stdout.strip()
        container.run("chown", "root:root", path, check=True)
        self.addCleanup(container.run, "chown", owner, path)
        self.restart("identity")
        self.says("identity", path)
        container.run("chown", owner, path, check=True)
        container.wait_ready(25)

    @staticmethod
    def key_file():
        names = container.run("ls", STATE, check=True).stdout.split()
        return next(name for name in names if "identity" in name or "key" in name)

    def test_a_full_disk_under_var(self):
        """No room for the key at the first start: said, and healed by room. Later: what is known stays known."""
        container.systemctl("stop", "wavry-host.target")
        wait_for(lambda: not container.processes(), 30, container.processes)
        container.run("mount", "-t", "tmpfs", "-o", "size=256k,mode=0755", "small", "/var/lib/wavry", check=True)
        self.addCleanup(container.run, "umount", "-l", "/var/lib/wavry")
        self.addCleanup(self.leave)
        self.fill()
        container.systemctl("--no-block", "start", "wavry-host.target")
        self.says("identity", "No space left on device", STATE)
        self.empty()
        container.wait_ready(30)
        client = self.client()
        self.fill()
        key = subprocess.run([f"{BIN}/wavry-client", "--identity", f"{container.dir}/other.identity", "--print-key"],
                             text=True, check=True, stdout=subprocess.PIPE,
                             env={**os.environ, "XDG_CONFIG_HOME": container.dir}).stdout.strip()
        refused = container.run("wavryctl", "authorize", key)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("No space left on device", refused.stderr)
        container.kill("identity", "KILL")
        time.sleep(0.2)
        container.wait_ready()
        self.assertEqual(container.run("wavryctl", "peers").stdout.count("wavry1"), 1)
        client.wait_press()
        self.assertEqual(client.finish()["connects"], 1)

    @staticmethod
    def fill():
        """Every last byte. /bin/sh in a pipe: dd ends with an error, as it should."""
        container.run("sh", "-c", "cat /dev/zero >/var/lib/wavry/filler; i=0; while echo x >/var/lib/wavry/f$i; do i=$((i+1));"
                      " [ $i -lt 2000 ] || break; done; rm -f /var/lib/wavry/f$i")

    @staticmethod
    def empty():
        container.run("sh", "-c", "rm -f /var/lib/wavry/filler /var/lib/wavry/f[0-9]*", check=True)

    # ---- memory

    @staticmethod
    def place(item):
        """The memory called ITEM, by way of the supervisor's descriptor."""
        pid, fd = container.memory(item)
        return f"/proc/{container.host_pid(pid)}/fd/{fd}"

    @staticmethod
    def spoil(place, where):
        with open(place, "r+b", buffering=0) as memory:
            for offset in where:
                memory.seek(offset)
                memory.write(GARBAGE)

    @staticmethod
    def end_stopped(stage, pid):
        """Before the watchdog does, or after it did."""
        container.run("kill", "-KILL", str(pid))
        container.wait_new(stage, pid)

    def assert_calm(self, before):
        """Nobody starts again and again."""
        container.wait_ready(20)
        time.sleep(2)
        after = container.stages()
        for stage in STAGES:
            self.assertLessEqual(after[stage]["restarts"] - before[stage]["restarts"], 3, f"{stage}: {after[stage]}")

    def test_a_spoilt_vault_of_sessions(self):
        client = self.client()
        before = container.stages()
        old, place = container.main_pid("transport"), self.place("wavry-session-vault")
        container.kill("transport", "STOP")  # so that it writes nothing in between
        self.spoil(place, range(0, 64 * 1024, 4096))
        self.end_stopped("transport", old)
        wait_for(lambda: client.presses_of_new_session(), 20, lambda: client.log()[-1500:])
        self.assert_calm(before)
        client.wait_press()
        self.assertEqual(client.finish()["connects"], 2, "a new session, since the old one's state was no more")

    def test_a_spoilt_page_of_identity(self):
        """Whose keys nobody knows any more is not served on: told so, and connects anew."""
        client = self.client()
        before = container.stages()
        old, place = container.main_pid("identity"), self.place("wavry-identity-page")
        container.kill("identity", "STOP")
        self.spoil(place, range(0, 64 * 1024, 4096))
        self.end_stopped("identity", old)
        wait_for(lambda: client.presses_of_new_session(), 20, lambda: client.log()[-1500:])
        self.assert_calm(before)
        client.wait_press()
        self.assertEqual(client.finish()["connects"], 2, "a new session, since the old one's keys were no more")

    def test_spoilt_rings(self):
        for item in ("wavry-raw", "wavry-au"):
            with self.subTest(item=item):
                client = self.client()
                before = container.stages()
                self.spoil(self.place(item), [0])
                time.sleep(1)
                self.assert_calm(before)
                client.wait_press(20)
                self.assertEqual(client.finish()["connects"], 1)

    def test_a_spoilt_page_of_metrics(self):
        client = self.client()
        before = container.stages()
        self.spoil(self.place("wavry-metrics"), [0])
        container.run("wavryctl", "metrics", "--json")
        client.wait_press()
        self.assert_calm(before)
        client.wait_press()
        self.assertEqual(client.finish()["connects"], 1)

    # ---- the store

    def test_a_store_of_another_version(self):
        container.systemctl("stop", "wavry-host.target")
        wait_for(lambda: not container.processes(), 30, container.processes)
        drop = "/etc/systemd/system/wavry-supervisor.service.d"
        self.addCleanup(container.systemctl, "daemon-reload")
        self.addCleanup(container.run, "rm", "-rf", drop)
        container.write(f"{drop}/old.conf", "[Service]\nWatchdogSec=0\nExecStart=\n"
                        "ExecStart=/usr/local/bin/wavry-old-store\n")
        container.systemctl("daemon-reload")
        container.systemctl("start", "wavry-supervisor")
        self.assertEqual(container.show("wavry-supervisor", "NFileDescriptorStore")["NFileDescriptorStore"], "6")
        container.run("rm", "-rf", drop, check=True)
        container.systemctl("daemon-reload")
        container.systemctl("restart", "wavry-supervisor")
        container.systemctl("start", "wavry-host.target")
        container.wait_ready(20)
        for name in ("frames-of-version-0", "raw-frames", "session-vault", "metrics-encoder", "au-event"):
            wait_for(lambda n=name: re.search(rf"not what its name says.*name={n}", container.journal("-u", "wavry-supervisor", lines=200)),
                     30, lambda: container.journal("-u", "wavry-supervisor", lines=60))
        self.client().finish()
        begun = container.run("date", "+%s.%N").stdout.strip()
        container.systemctl("restart", "wavry-supervisor")
        container.wait_ready()

        def since():
            return container.run("journalctl", "-b", "--no-pager", "-o", "cat", "-u", "wavry-supervisor", "-S", "@" + begun).stdout
        wait_for(lambda: len(since().splitlines()) >= 8, 30, since)
        self.assertNotIn("not what its name says", since(), "once left out it is out of the store")


if __name__ == "__main__":
    unittest.main(verbosity=2)
