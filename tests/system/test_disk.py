#!/usr/bin/env python3
"""Full disks, where the client and the host write: said in words, and nothing but the file is lost."""
import os
import signal
import subprocess
import unittest

from harness import BIN, STAGES, SystemTest, main, wait_for

KIB = 1024


@unittest.skipIf(os.geteuid() != 0, "needs root for a small file system")
class Disk(SystemTest):
    def small_disk(self, name, size):
        """A tmpfs of SIZE bytes that everybody passes through; gone at the end of the test."""
        path = self.path(name)
        os.mkdir(path)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "none", path], check=False,
                          stderr=subprocess.DEVNULL).returncode != 0:
            self.skipTest("no file system can be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", path], check=False)
        return path

    @staticmethod
    def fill(path):
        """Writes a file until PATH's file system is full; returns the file."""
        name = os.path.join(path, "filler")
        with open(name, "wb", buffering=0) as f:
            try:
                while True:
                    f.write(bytes(4096))
            except OSError:
                return name

    def setUp(self):
        super().setUp()
        _, self.display = self.xvfb()

    def test_the_files_of_a_client(self):
        self.target(self.display)
        self.host(self.display)
        disk = self.small_disk("disk", 64 * KIB)
        client = self.viewer("client", "--record", f"{disk}/video.mkv", "--snapshot", f"{disk}/picture.png",
                             "--stats-json", f"{disk}/numbers.json")
        self.said("client", f"The recording {disk}/video.mkv has stopped: the disk is full. The session goes on.", 20)
        self.assertEqual(len(self.sessions()), 1)
        client.send_signal(signal.SIGINT)
        self.assertEqual(client.wait(60), 73, self.read_log("client"))
        for name in ["picture.png", "numbers.json"]:
            self.assertIn(f"{disk}/{name} can't be written: No space left on device", self.read_log("client"))
        self.assertEqual(os.listdir(disk), ["video.mkv"], "no half file, no temporary file")

    def test_the_hosts_identity(self):
        """No room for the key: said with the path; with room the stage starts by itself and keeps its key."""
        disk = self.small_disk("host.state", 64 * KIB)
        filler = self.fill(disk)
        process = self.host(self.display, ready=False)
        # While it starts once more it says so; between two tries it says why.
        wait_for(lambda: all(words in self.ctl("status").stdout for words in ("No space left on device", disk)), 20,
                 lambda: f"{self.stages()} {self.read_log('host')}")
        self.assertIsNone(process.poll())
        os.unlink(filler)
        wait_for(self.all_ready, 40, lambda: str(self.stages()))

    def test_the_list_of_known_keys(self):
        """A list that can't be saved is not half saved: who was known stays known, the refusal says why."""
        disk = self.small_disk("host.state", 256 * KIB)
        self.target(self.display)
        self.host(self.display)
        self.authorize(self.path("probe.identity"))
        self.fill(disk)
        key = subprocess.run([f"{BIN}/wavry-client", "--identity", self.path("other.identity"), "--print-key"],
                             text=True, check=True, stdout=subprocess.PIPE,
                             env={**os.environ, "XDG_CONFIG_HOME": self.path("config")}).stdout.strip()
        refused = self.ctl("authorize", key)
        self.assertNotEqual(refused.returncode, 0)
        self.assertIn("No space left on device", refused.stderr)
        self.assertEqual(self.ctl("peers").stdout.count("wavry1"), 1)
        self.assertEqual(self.all_ready() and len(self.all_ready()), len(STAGES) + 1)
        self.said_by_probe()

    def said_by_probe(self):
        process = self.start("probe", [f"{BIN}/wavry-probe", "127.0.0.1", "--port", str(self.port), "--identity",
                                       self.path("probe.identity"), "--host-key", self.host_key(), "--seconds", "220", "--verbose"])
        wait_for(lambda: self.presses_seen() > 1, 30, lambda: self.read_log("probe"))
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(60), 0, self.read_log("probe"))


if __name__ == "__main__":
    main()
