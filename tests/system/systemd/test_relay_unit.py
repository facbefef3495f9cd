#!/usr/bin/env python3
"""The relay as systemd runs it, with two peers outside of the container that talk through it: killed, stopped, reloaded,
restarted; what its unit keeps and what it forbids."""
import base64
import os
import re
import subprocess
import time
import unittest

from container import BIN, WATCHDOG_S, has_failed, installed, wait_for
from test_relay import Key, Peer, lease  # of the folder above, which container.py looks into

PORT = 4821
UNIT = "wavry-relay"
BEAT = "wavry-relay-beat"
EXPOSURE = {UNIT: 0.5, BEAT: 1.2}
# What heartbeats are for: a gateway is looked up and connected to, from the machine's own network.
CONNECTS = {"inet_datagram", "inet_stream", "inet6_datagram", "netlink_socket", "abstract_socket"}
KILLS = 3
WAIT_S = 30  # for what must come
container = None


def setUpModule():
    global container
    container = installed()


class RelayUnit(unittest.TestCase):
    def setUp(self):
        self.addCleanup(self.show_journal)
        self.issuer, self.keys = Key(), [Key(), Key()]
        self.configure()
        self.trust(self.issuer)
        container.systemctl("start", UNIT)
        self.addCleanup(self.stop)

    @staticmethod
    def stop():
        container.systemctl("stop", f"{UNIT}.socket", UNIT, check=False)
        container.systemctl("reset-failed", UNIT, check=False)

    def show_journal(self):
        if has_failed(self):
            print(container.journal("-u", f"{UNIT}*", lines=60))

    @staticmethod
    def configure(*lines):
        """The peers' addresses are private ones."""
        container.write("/etc/wavry/relay.conf", "\n".join(["[relay]", "name=r", "allow=private", *lines, ""]))

    @staticmethod
    def trust(*issuers):
        container.write("/etc/wavry/relay-issuers", "".join(
            "ed25519." + base64.urlsafe_b64encode(key.public).decode().rstrip("=") + "\n" for key in issuers))

    @staticmethod
    def pid():
        return int(container.show(UNIT, "MainPID")["MainPID"])

    @staticmethod
    def is_active():
        return container.show(UNIT, "ActiveState")["ActiveState"] == "active"

    def status_is(self, text, seconds=WAIT_S):
        wait_for(lambda: text in container.show(UNIT, "StatusText")["StatusText"], seconds,
                 lambda: f"'{text}' in the status, which is {container.show(UNIT, 'StatusText')}")

    def wait_new(self, old, seconds=WAIT_S):
        wait_for(lambda: self.pid() not in (0, old) and self.is_active(), seconds,
                 lambda: "a new relay\n" + container.journal("-u", UNIT, lines=20))

    def peer(self, side):
        peer = Peer(PORT, self.keys[side], side, container.address.rsplit(".", 1)[0] + ".1")
        peer.relay = (container.address, PORT)
        self.addCleanup(peer.socket.close)
        return peer

    def pair(self):
        shown, peers = lease(self.issuer, self.keys), [self.peer(0), self.peer(1)]
        for peer in peers:
            self.assertEqual(peer.bind(shown), 0)
        return peers

    @staticmethod
    def passes(one, other):
        while other.receive(0.01):  # what waited in the socket meanwhile
            pass
        return one.pass_to(other, os.urandom(1200), 0.1)

    def assert_passing(self, a, b):
        for one, other in ((a, b), (b, a)):
            wait_for(lambda: self.passes(one, other), WAIT_S, "datagrams pass without a new proof")

    def test_start_and_stop(self):
        self.status_is("0 of 10000 leases")
        self.assertRegex(container.run("ps", "-o", "user:20=", "-p", str(self.pid())).stdout, "^wavry-relay *$")
        self.assertIn(f":{PORT}", container.run("ss", "-lun").stdout)
        a, b = self.pair()
        self.assert_passing(a, b)
        self.status_is("1 of 10000 leases, 2 sides bound")
        self.stop()
        wait_for(lambda: not container.processes(), WAIT_S, container.processes)
        self.assertNotIn(f":{PORT}", container.run("ss", "-lun").stdout, "nobody listens")
        self.assertNotEqual(container.run("test", "-e", "/run/wavry-relay").returncode, 0)
        container.systemctl("start", UNIT)
        self.assertFalse(a.pass_to(b, b"x", 0.3), "a stop gives leases up")
        self.pair()

    def test_leases_outlive_the_process(self):
        a, b = self.pair()
        self.status_is("2 sides bound")
        for sig in ["KILL"] * KILLS + ["SEGV", "TERM"]:
            old, begun = self.pid(), time.monotonic()
            container.run("kill", f"-{sig}", str(old), check=True)
            self.assert_passing(a, b)
            print(f"SIG{sig}: passing again after {(time.monotonic() - begun) * 1e3:.0f} ms")
            self.wait_new(old)
        old = self.pid()
        container.systemctl("restart", UNIT)
        self.assertNotIn(self.pid(), (0, old))
        self.assert_passing(a, b)
        wait_for(lambda: container.show(UNIT, "NFileDescriptorStore")["NFileDescriptorStore"] == "2", WAIT_S,
                 "leases and metrics, once")

    def test_watchdog(self):
        a, b = self.pair()
        old, begun = self.pid(), time.monotonic()
        container.run("kill", "-STOP", str(old), check=True)
        self.wait_new(old)
        print(f"stopped, and ready again after {time.monotonic() - begun:.2f} s (watchdog {WATCHDOG_S} s)")
        self.assert_passing(a, b)

    def test_reload(self):
        a, b = self.pair()
        old = self.pid()
        self.configure("max_leases=500")
        container.systemctl("reload", UNIT)
        self.wait_new(old)
        self.assert_passing(a, b)
        self.status_is("1 of 500 leases")
        old = self.pid()
        self.configure("max_lease=500")
        self.assertNotEqual(container.systemctl("reload", UNIT, check=False).returncode, 0, "a wrong one is refused")
        wait_for(lambda: re.search(r"relay\.conf:4.*max_lease", container.journal("-u", UNIT, lines=200)), 30,
                 "the line that is wrong, in the journal")
        self.assertEqual(self.pid(), old, "the relay that runs is unharmed")
        self.assert_passing(a, b)
        self.configure()
        self.trust(Key())
        container.systemctl("reload", UNIT)
        self.wait_new(old)
        self.assertFalse(a.pass_to(b, b"x", 0.3), "an issuer that is no longer trusted takes its leases along")

    def test_draining_outlives_the_process(self):
        a, b = self.pair()
        container.systemctl("kill", "-s", "SIGUSR1", UNIT)
        self.status_is("draining: 1 of")
        old = self.pid()
        container.run("kill", "-KILL", str(old), check=True)
        self.wait_new(old)
        self.status_is("draining: 1 of")
        self.assert_passing(a, b)

    def test_configuration_that_is_refused(self):
        """Said once and not tried for ever; the port is given back when the unit is stopped."""
        self.stop()
        container.write("/etc/wavry/relay.conf", "[relay]\nname=r\nlisten=here\n")
        self.assertNotEqual(container.systemctl("start", UNIT, check=False).returncode, 0)
        wait_for(lambda: container.show(UNIT, "ActiveState")["ActiveState"] == "failed", WAIT_S, "the unit gives up")
        time.sleep(0.5)
        shown = container.show(UNIT, "ActiveState", "NRestarts", "ExecMainStatus")
        self.assertEqual(shown, {"ActiveState": "failed", "NRestarts": "0", "ExecMainStatus": "78"})

    def test_exposure(self):
        for unit, most in EXPOSURE.items():
            text = container.run("systemd-analyze", "security", "--no-pager", unit).stdout
            score = float(re.search(r"Overall exposure level for \S+: (\S+)", text).group(1))
            print(f"{unit}: exposure {score}")
            self.assertLessEqual(score, most, f"{unit}\n{text}")

    def test_forbidden_actions(self):
        """The same as stages may not (probe.c), beside a host, whose files and doors are there to be reached for."""
        container.write("/home/person/secret", "x")
        subprocess.run(["cp", f"{BIN}/../lib/libwavry-forbidden.so", f"{container.root}/usr/lib/probe.so"], check=True)
        self.addCleanup(container.systemctl, "stop", "wavry-host.target")
        container.systemctl("start", "wavry-host.target")
        container.wait_ready()
        self.configure("[relay-beat]", "gateway=https://127.0.0.1:1", "name=r")
        self.addCleanup(container.systemctl, "stop", BEAT, check=False)
        for unit, needed in ((UNIT, set()), (BEAT, CONNECTS)):
            with self.subTest(unit=unit):
                lines = self.probe(unit, "WatchdogSec=0\n" if unit == UNIT else "")
                print(f"{unit}: {len(lines)} forbidden actions tried")
                self.assertGreaterEqual(len(lines), 40)
                possible = [line for line in lines if "result=refused" not in line and "result=killed" not in line]
                names = {re.search(r"name=(\S+)", line).group(1) for line in possible}
                self.assertEqual(names - needed, set(), possible)

    @staticmethod
    def probe(unit, options):
        """OPTIONS: no watchdog while it probes; everything else is as in service."""
        drop = f"/etc/systemd/system/{unit}.service.d"
        other, keeper = container.main_pid("identity"), container.show("wavry-supervisor", "MainPID")["MainPID"]
        container.write(f"{drop}/probe.conf", f"[Service]\n{options}TimeoutStartSec=60\n"
                        f"Environment=LD_PRELOAD=/usr/lib/probe.so PROBE_OTHER={other} PROBE_KEEPER={keeper}\n")
        container.systemctl("daemon-reload")
        try:
            begun = container.run("date", "+%s.%N").stdout.strip()
            container.systemctl("--no-block", "restart", unit)
            return wait_for(lambda: RelayUnit.probe_lines(unit, begun), 40,
                            lambda: container.journal("-u", unit, lines=100))
        finally:
            container.run("rm", "-rf", drop)
            container.systemctl("daemon-reload")
            container.systemctl("stop", unit, check=False)

    @staticmethod
    def probe_lines(unit, begun):
        text = container.run("journalctl", "-b", "--no-pager", "-o", "cat", "-u", unit, "-S", "@" + begun).stdout
        lines = [line for line in text.splitlines() if line.startswith("PROBE ")]
        return lines[:-1] if lines and lines[-1] == "PROBE end" else None


if __name__ == "__main__":
    unittest.main(verbosity=2)
