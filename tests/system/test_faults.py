#!/usr/bin/env python3
"""Worse than one stage killed: all at once, the keeper, everything stopped in turn, a stage that can't start."""
import os
import signal
import time

from harness import STAGES, SystemTest, main, wait_for


def children(pid):
    """Process ids of all descendants of PID."""
    found, parents = [], {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as f:
                    parents.setdefault(int(f.read().rsplit(") ", 1)[1].split()[1]), []).append(int(entry))
            except OSError:
                pass  # it ended meanwhile
    queue = [pid]
    while queue:
        for child in parents.get(queue.pop(), []):
            found.append(child)
            queue.append(child)
    return found


def lives(pid):
    """Whether PID runs. One that ended and whose new parent does not care (a container's first process) does not."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(") ", 1)[1][0] not in "ZX"
    except OSError:
        return False


class Faults(SystemTest):
    def setUp(self):
        super().setUp()
        _, self.display = self.xvfb()
        self.target(self.display)

    def start_and_press(self, *options):
        self.host_process = self.host(self.display, *options)
        self.running = self.probe(220, "--pause", "60")
        wait_for(lambda: self.presses_seen() > 1, 20, lambda: "presses: " + self.read_log("probe"))

    def end(self, connects):
        self.running.send_signal(signal.SIGTERM)
        self.assertEqual(self.probe_result(self.running, 30)["connects"], connects)

    def test_all_stages_killed_at_the_same_time(self):
        self.start_and_press()
        before = {name: self.ready_pid(name) for name in STAGES}
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)
        for name in STAGES:
            self.wait_successor(name, before[name], 30)
        self.wait_for_press(20)
        self.end(connects=1)  # the session outlives even that

    def test_sigstop_of_transport_and_identity(self):
        self.start_and_press()
        for name in ["identity", "transport"]:
            with self.subTest(stage=name):
                self.wait_successor(name, self.kill(name, signal.SIGSTOP))
                self.wait_for_press(20)
        self.end(connects=1)

    def test_sigstop_of_the_supervisor(self):
        """Nobody needs it from one moment to the next; what it did not see meanwhile costs no stage its life."""
        self.start_and_press()
        before = {name: self.ready_pid(name) for name in STAGES + ["supervisor"]}
        os.kill(before["supervisor"], signal.SIGSTOP)
        time.sleep(1)
        base = self.presses_seen()
        wait_for(lambda: self.presses_seen() > base + 1, 30, "presses while the supervisor stands still")
        os.kill(before["supervisor"], signal.SIGCONT)
        self.wait_for_press()
        after = wait_for(self.all_ready, 30, lambda: str(self.stages()))
        self.assertEqual({n: after[n]["pid"] for n in STAGES}, {n: before[n] for n in STAGES})
        self.end(connects=1)

    def test_the_keeper_killed_ends_the_host_and_leaves_nobody(self):
        self.start_and_press()
        pids = children(self.host_process.pid)
        self.assertGreaterEqual(len(pids), len(STAGES) + 1)
        self.host_process.kill()
        self.host_process.wait()
        wait_for(lambda: not any(lives(pid) for pid in pids), 30,
                 lambda: f"all gone; left: {[pid for pid in pids if lives(pid)]}")
        self.host(self.display, port=self.port)  # the folder and the port are free for the next one
        self.wait_for_press(30)
        self.end(connects=2)

    def test_an_encoder_that_cannot_start(self):
        """Its plug-ins are missing: the rest serves, the status says which stage and why, and it recovers."""
        os.mkdir(self.path("empty"))
        os.chmod(self.path("empty"), 0o755)
        self.host(self.display, "--set", f"encoder.plugin_dir={self.path('empty')}", ready=False)
        wait_for(lambda: self.stages().get("encoder", {}).get("state") in ("backing off", "failed"), 20,
                 lambda: str(self.stages()))
        status = self.ctl("status")
        self.assertEqual(status.returncode, 75)
        self.assertIn("gstreamer1.0-plugins-ugly", status.stdout)
        wait_for(lambda: all(self.stages()[n]["state"] == "ready" for n in STAGES if n != "encoder"), 30,
                 lambda: str(self.stages()))
        self.viewer("waiting")
        self.said("waiting", "Connected")
        self.said("waiting", "encoder")  # the client is told why there is no picture
        restarts = self.stages()["encoder"]["restarts"]
        time.sleep(2)
        self.assertLess(self.stages()["encoder"]["restarts"] - restarts, 8, "the pauses grow")


if __name__ == "__main__":
    main()
