#!/usr/bin/env python3
"""Several clients at one host, several hosts on one machine, and clients that are sent to sleep."""
import os
import signal
import subprocess
import time

from harness import SystemTest, main, wait_for


class Crowd(SystemTest):
    def setUp(self):
        super().setUp()
        _, self.display = self.xvfb()
        self.target(self.display)

    def roles(self):
        return {row["name"]: row["controls"] for row in self.sessions()}

    def test_only_one_controls_and_control_passes_on(self):
        self.host(self.display)
        _, screen = self.xvfb()
        second_screen = self.xvfb()[1]
        first = self.client_window(screen, name="first")
        self.said("first", "Connected")
        self.client_window(second_screen, name="second")
        self.said("second", "first controls this host.")
        wait_for(lambda: self.roles() == {"first": True, "second": False}, 30, lambda: str(self.roles()))
        self.press(second_screen)
        self.press_until_seen(screen, "first")  # which shows that the other had its time
        self.assertEqual(self.events("second"), 0)
        self.stop(first)
        wait_for(lambda: self.roles() == {"second": True}, 30, lambda: str(self.roles()))
        self.press_until_seen(second_screen, "second")

    @staticmethod
    def press(display):
        for command in (["mousemove", "300", "250"], ["key", "a"]):
            subprocess.run(["xdotool", *command], env={**os.environ, "DISPLAY": display}, check=True)
            time.sleep(0.2)

    def press_until_seen(self, display, name):
        """Again and again: a client that is connected may not have its window yet."""
        wait_for(lambda: self.press(display) or self.events(name) > 0, 30, lambda: str(self.sessions()))

    def events(self, name):
        """Input events of session NAME that reached the input stage's door."""
        return sum(row["input_events"] for row in self.sessions() if row["name"] == name)

    def test_a_view_only_client_never_controls(self):
        self.host(self.display)
        _, screen = self.xvfb()
        self.client_window(screen, "--view-only", name="watcher")
        wait_for(lambda: self.roles() == {"watcher": False}, 30, lambda: str(self.roles()))
        self.press(screen)
        time.sleep(0.5)
        self.assertEqual(self.metrics()["input"]["events_injected_total"]["value"], 0)
        probe = self.probe(220)  # the one who may control does, though later
        wait_for(lambda: self.presses_seen() > 3, 30, lambda: "presses: " + self.read_log("probe"))
        self.assertGreater(self.end_probe(probe)["input_seen"], 2)

    def test_more_clients_than_places(self):
        self.host(self.display)
        places = 8
        viewers = {}
        for i in range(places + 1):
            viewers[i] = self.viewer(f"v{i}", "--give-up", "3")
            wait_for(lambda: len(self.sessions()) == min(i + 1, places), 30, lambda: str(self.roles()))
        self.said(f"v{places}", "has no free place")
        self.assertEqual(viewers[places].wait(60), 75)
        self.stop(viewers[0])
        self.viewer("late")
        self.said("late", "Connected")
        time.sleep(1)
        for i in range(1, places):
            viewers[i].send_signal(signal.SIGTERM)
        for i in range(1, places):
            self.assertEqual(viewers[i].wait(30), 0, f"v{i} saw pictures until its end: {self.read_log(f'v{i}')}")

    def test_two_hosts_on_one_machine(self):
        _, other_display = self.xvfb()
        self.place = "one"
        self.host(self.display)
        one = self.viewer("at-one")
        self.said("at-one", "Connected")
        self.place = "two"
        self.host(other_display)
        self.viewer("at-two")
        self.said("at-two", "Connected")
        self.assertEqual(list(self.roles()), ["at-two"])
        self.assertEqual(self.ctl("stop").returncode, 0)
        self.place = "one"
        self.assertEqual(list(self.roles()), ["at-one"], "one is untouched by the end of the other")
        self.assertIsNone(one.poll())

    def test_a_client_waits_for_its_host(self):
        """The host is stopped and started again: the client says so, waits, and is back by itself."""
        first = self.host(self.display)
        self.viewer("patient")
        self.said("patient", "Connected")
        self.assertEqual(self.stop(first), 0)
        self.said("patient", "goes away")
        self.host(self.display, port=self.port)
        wait_for(lambda: self.read_log("patient").count("Connected") == 2, 20, lambda: self.read_log("patient"))
        wait_for(lambda: self.sessions() and self.sessions()[0]["frames_sent"] > 10, 30, "pictures again")

    def test_a_client_that_slept(self):
        """Five seconds of SIGSTOP, as when a laptop's lid is closed for a moment: afterwards it goes on."""
        self.host(self.display)
        probe = self.probe(220, "--pause", "60")
        wait_for(lambda: self.presses_seen() > 1, 30, lambda: "presses: " + self.read_log("probe"))
        probe.send_signal(signal.SIGSTOP)
        time.sleep(5)
        probe.send_signal(signal.SIGCONT)
        self.wait_for_press(30)
        self.assertEqual(len(self.sessions()), 1)
        probe.send_signal(signal.SIGTERM)
        self.assertGreater(self.probe_result(probe, 30)["frames_shown"], 10)


if __name__ == "__main__":
    main()
