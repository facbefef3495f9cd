#!/usr/bin/env python3
"""The person at the host's desktop is told who is connected and who controls, by a real session bus."""
import subprocess

from harness import BIN, SystemTest, main


class Notify(SystemTest):
    def setUp(self):
        super().setUp()
        _, self.display = self.xvfb("640x480")
        bus = subprocess.Popen(["dbus-daemon", "--session", "--nofork", "--print-address=1"], stdout=subprocess.PIPE,
                               stdin=subprocess.DEVNULL, text=True)
        self.addCleanup(bus.stdout.close)
        self.addCleanup(self.stop, bus)
        self.address = bus.stdout.readline().strip()

    def bubbles(self):
        self.start("bubbles", [f"{BIN}/wavry-bubbles"], DBUS_SESSION_BUS_ADDRESS=self.address)
        self.said("bubbles", "ready")

    def notify(self):
        return self.start("notify", [f"{BIN}/wavry-notify", "--socket", self.path("host.run/control.sock")],
                          DBUS_SESSION_BUS_ADDRESS=self.address)

    def test_who_comes_controls_and_goes_is_said(self):
        self.bubbles()
        process = self.notify()  # before there is a host
        self.host(self.display)
        first = self.viewer("Ann")
        self.said("bubbles", "1 urgency=2 Ann is connected and controls this computer")
        self.viewer("Bob", "--view-only")
        self.said("bubbles", "2 urgency=1 Bob is connected and watches this computer")
        self.stop(first)
        self.said("bubbles", "1 urgency=1 Ann is no longer connected")
        self.ctl("stop")
        self.said("bubbles", "2 urgency=1 Bob is no longer connected")
        self.assertEqual(len(self.read_log("bubbles").splitlines()), 5, self.read_log("bubbles"))
        self.assertEqual(self.stop(process), 0)

    def test_a_desktop_that_shows_nothing_yet_is_told_later(self):
        self.host(self.display)
        self.viewer("Ann")
        self.said("Ann", "Connected")
        process = self.notify()
        self.said("notify", "notifications can't be shown")
        self.bubbles()
        self.said("bubbles", "Ann is connected and controls")
        self.assertEqual(self.stop(process), 0)
        self.assertEqual(self.read_log("notify").count("can't be shown"), 1)

    def test_without_a_bus_it_says_so(self):
        result = subprocess.run([f"{BIN}/wavry-notify"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                check=False, timeout=20, env={"DBUS_SESSION_BUS_ADDRESS": "unix:path=/nonexistent"})
        self.assertEqual(result.returncode, 69)
        self.assertIn("no session bus", result.stdout)


if __name__ == "__main__":
    main()
