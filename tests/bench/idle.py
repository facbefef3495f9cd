"""idle.py SECONDS: a host on Xvfb with one headless viewer; prints CPU and memory of the host's processes, first
while a picture moves (to touch all the memory there is), then while the screen is still."""
import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../system"))
from harness import BIN, SystemTest, unittest, wait_for  # noqa: E402

SECONDS = int(sys.argv.pop(1)) if len(sys.argv) > 1 else 20


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_kib(pid):
    """(resident, proportional share) of a process."""
    values = {}
    with open(f"/proc/{pid}/smaps_rollup") as f:
        for line in f:
            name, _, rest = line.partition(":")
            if name in ("Rss", "Pss"):
                values[name] = int(rest.split()[0])
    return values["Rss"], values["Pss"]


class Idle(SystemTest):
    def measure(self, pids, seconds):
        before = {name: cpu_seconds(pid) for name, pid in pids.items()}
        began = time.monotonic()
        time.sleep(seconds)
        wall = time.monotonic() - began
        return {name: 100 * (cpu_seconds(pid) - before[name]) / wall for name, pid in pids.items()}

    def report(self, title, pids, cpu):
        memory = {name: memory_kib(pid) for name, pid in pids.items()}
        print(title)
        for name in pids:
            print(f"  {name:<11} cpu {cpu[name]:5.2f} %   rss {memory[name][0] / 1024:7.1f} MiB   "
                  f"pss {memory[name][1] / 1024:7.1f} MiB")
        total = {"cpu_percent": round(sum(cpu.values()), 2),
                 "rss_mib": round(sum(m[0] for m in memory.values()) / 1024, 1),
                 "pss_mib": round(sum(m[1] for m in memory.values()) / 1024, 1)}
        print(f"  all of them cpu {total['cpu_percent']:.2f} %   rss {total['rss_mib']} MiB   pss {total['pss_mib']} MiB")
        return total

    def test_idle(self):
        _, display = self.xvfb()
        target = self.target(display)
        self.host(display)
        viewer = self.path("viewer.identity")
        self.authorize(viewer)
        self.start("viewer", [f"{BIN}/wavry-client", f"127.0.0.1:{self.port}", "--headless", "--identity", viewer,
                              "--seconds", str(SECONDS + 60)])
        wait_for(lambda: self.sessions(), 10, "a session")
        pids = {name: row["pid"] for name, row in self.stages().items()}
        time.sleep(2)
        moving = self.report("30 frames a second of a small motion:", pids, self.measure(pids, 5))
        self.stop(target)
        time.sleep(3)
        still = self.report(f"still screen, {SECONDS} s:", pids, self.measure(pids, SECONDS))
        print(json.dumps({"moving": moving, "still": still}))


unittest.main(argv=sys.argv[:1])
