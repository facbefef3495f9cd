#!/usr/bin/env python3
"""Any stage can be killed: the session stays, the picture and the input come back by themselves."""
import os
import signal
import time

from harness import STAGES, SystemTest, main, wait_for


class Restart(SystemTest):
    def setUp(self):
        super().setUp()
        _, self.display = self.xvfb()
        self.target(self.display)
        self.host_process = self.host(self.display)

    def kill_and_recover(self, name, sig):
        """Ends stage NAME with SIG; returns the seconds until a press was seen again."""
        before = self.kill(name, sig)
        began = time.monotonic()
        self.wait_successor(name, before)
        self.wait_for_press()
        return time.monotonic() - began

    def test_sigkill_of_every_stage(self):
        probe = self.probe(220, "--pause", "60")
        wait_for(lambda: self.presses_seen() > 2, 30, lambda: "presses seen first: " + self.read_log("probe"))
        session = self.sessions()[0]["id"]
        for name in STAGES + ["supervisor", "transport"]:
            with self.subTest(stage=name):
                self.kill_and_recover(name, signal.SIGKILL)
                self.assertEqual([s["id"] for s in self.sessions()], [session], f"the session outlives {name}")
        self.assertIsNone(self.host_process.poll())
        probe.send_signal(signal.SIGTERM)
        result = self.probe_result(probe, 30)
        self.assertEqual(result["connects"], 1, "one connection from beginning to end")

    def test_transport_again_and_again(self):
        """Its death is a short freeze: no new connection, no held key left, nothing else restarted."""
        probe = self.probe(220, "--pause", "60")
        wait_for(lambda: self.presses_seen() > 2, 30, lambda: "presses seen first: " + self.read_log("probe"))
        pids = {name: row["pid"] for name, row in self.stages().items() if name != "transport"}
        for _ in range(5):
            self.kill_and_recover("transport", signal.SIGKILL)
            time.sleep(1.2)  # of use for a while: the next one is started at once
        result = self.ctl("restart", "transport")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.wait_for_press()
        self.assertEqual({name: row["pid"] for name, row in self.stages().items() if name != "transport"}, pids)
        probe.send_signal(signal.SIGTERM)
        result = self.probe_result(probe, 30)
        self.assertEqual(result["connects"], 1, "one connection from beginning to end")
        print(f"longest freeze over six restarts of transport: {result['longest_freeze_ms']} ms")
        self.assertLess(result["longest_freeze_ms"], 5000)  # generous: this machine may be busy

    def test_sigstop_is_a_fault_too(self):
        probe = self.probe(220, "--pause", "60")
        wait_for(lambda: self.presses_seen() > 2, 30, lambda: "presses seen first: " + self.read_log("probe"))
        for name in ["capture", "encoder", "input", "transport"]:
            with self.subTest(stage=name):
                self.kill_and_recover(name, signal.SIGSTOP)
        probe.send_signal(signal.SIGTERM)
        self.assertEqual(self.probe_result(probe, 30)["connects"], 1)

    def test_supervisor_death_leaves_stages_untouched(self):
        before = {name: row["pid"] for name, row in self.stages().items()}
        after = self.wait_successor("supervisor", self.kill("supervisor"))
        for name in STAGES:
            self.assertEqual(after[name]["pid"], before[name], name)
        self.assertNotEqual(after["supervisor"]["pid"], before["supervisor"])

    def test_restart_by_wavryctl(self):
        before = self.ready_pid("encoder")
        result = self.ctl("restart", "encoder")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.wait_successor("encoder", before)
        result = self.ctl("restart", "nonsense")
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("nonsense", result.stderr)

    def test_stop_leaves_nothing_behind(self):
        pids = [row["pid"] for row in self.stages().values()]
        self.assertEqual(self.stop(self.host_process), 0, self.read_log("host"))
        wait_for(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids), 30, "all processes gone")
        left = os.listdir(self.path("host.run")) if os.path.exists(self.path("host.run")) else []
        self.assertEqual(left, [])


if __name__ == "__main__":
    main()
