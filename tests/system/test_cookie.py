#!/usr/bin/env python3
"""An X server that wants a cookie. Started as root the stages are other users, who can't read the person's file."""
import os
import secrets
import signal
import struct

from harness import SystemTest, main, wait_for


def authority(cookie):
    """The bytes of an Xauthority file with COOKIE for every display (FamilyWild)."""
    fields = [b"", b"", b"MIT-MAGIC-COOKIE-1", cookie]
    return struct.pack(">H", 0xFFFF) + b"".join(struct.pack(">H", len(f)) + f for f in fields)


class Cookie(SystemTest):
    def write(self, name, cookie):
        path = self.path(name)
        with open(path, "wb", opener=lambda p, flags: os.open(p, flags, 0o600)) as f:
            f.write(authority(cookie))
        return path

    def setUp(self):
        super().setUp()
        cookie = secrets.token_bytes(16)
        self.right = self.write("right", cookie)
        self.wrong = self.write("wrong", bytes(16))
        _, self.display = self.xvfb(access=("-auth", self.right))

    def test_stages_get_the_cookie(self):
        self.target(self.display, XAUTHORITY=self.right)
        self.host(self.display, XAUTHORITY=self.right)
        probe = self.probe(220, "--pause", "60")
        wait_for(lambda: self.presses_seen() > 1, 30, lambda: "presses: " + self.read_log("probe"))
        for root, _, files in os.walk(self.path("host.run")):
            for name in files:
                if name == "Xauthority":  # the copies, where there are any
                    self.assertEqual(os.stat(os.path.join(root, name)).st_mode & 0o7777, 0o400)
        for name in ["capture", "input"]:  # a stage that starts again gets it again
            self.wait_successor(name, self.kill(name))
            self.wait_for_press()
        probe.send_signal(signal.SIGTERM)
        self.assertEqual(self.probe_result(probe, 30)["connects"], 1)

    def test_a_wrong_cookie_is_said(self):
        self.host(self.display, XAUTHORITY=self.wrong)
        wait_for(lambda: "XAUTHORITY" in self.stages()["capture"]["status"], 30, lambda: str(self.stages()))
        self.assertIn(self.display, self.stages()["capture"]["status"])


if __name__ == "__main__":
    main()
