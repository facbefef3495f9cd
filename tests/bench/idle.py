"""idle.py SECONDS still|soak: a host on Xvfb with one headless viewer; prints CPU and memory of the host's processes,
first while a picture moves (to touch all the memory there is), then for SECONDS of a still screen, or of work (soak).
Growth is between the means of the first and the last fifth of the samples, after ten seconds of warming up."""
import json
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../system"))
from harness import SystemTest, unittest, wait_for  # noqa: E402

SOAK = len(sys.argv) > 2 and sys.argv.pop(2) == "soak"
SECONDS = int(sys.argv.pop(1)) if len(sys.argv) > 1 else 20
WARM_UP = 10


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_kib(pid):
    """(resident, proportional share, private) of a process."""
    values = {"Private": 0}
    with open(f"/proc/{pid}/smaps_rollup") as f:
        for line in f:
            name, _, rest = line.partition(":")
            if name in ("Rss", "Pss"):
                values[name] = int(rest.split()[0])
            elif name in ("Private_Clean", "Private_Dirty"):
                values["Private"] += int(rest.split()[0])
    return values["Rss"], values["Pss"], values["Private"]


def mean(values):
    return sum(values) / len(values)


class Idle(SystemTest):
    def measure(self, pids, seconds):
        """CPU in per cent and samples of memory_kib(), one a second, of each process."""
        before = {name: cpu_seconds(pid) for name, pid in pids.items()}
        samples = {name: [] for name in pids}
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            for name, pid in pids.items():
                samples[name].append(memory_kib(pid))
            time.sleep(min(1, max(0, began + seconds - time.monotonic())))
        wall = time.monotonic() - began
        return {name: 100 * (cpu_seconds(pid) - before[name]) / wall for name, pid in pids.items()}, samples

    def report(self, title, measured):
        cpu, samples = measured
        print(title)
        growth = {}
        for name in cpu if SOAK and len(samples["transport"]) > 100 else []:
            tenth = len(samples[name]) // 10
            print(f"  {name:<11} private KiB, each a tenth of the time later:",
                  *(samples[name][i * tenth][2] for i in range(10)), samples[name][-1][2])
        for name in cpu:
            rss, pss, _ = samples[name][-1]
            fifth = max(1, len(samples[name]) // 5)
            growth[name] = mean([s[2] for s in samples[name][-fifth:]]) - mean([s[2] for s in samples[name][:fifth]])
            print(f"  {name:<11} cpu {cpu[name]:5.2f} %   rss {rss / 1024:7.1f} MiB   pss {pss / 1024:7.1f} MiB"
                  f"   private memory grew by {growth[name]:7.1f} KiB")
        total = {"cpu_percent": round(sum(cpu.values()), 2),
                 "rss_mib": round(sum(s[-1][0] for s in samples.values()) / 1024, 1),
                 "pss_mib": round(sum(s[-1][1] for s in samples.values()) / 1024, 1),
                 "growth_kib": {name: round(value, 1) for name, value in growth.items()}}
        print(f"  all of them cpu {total['cpu_percent']:.2f} %   rss {total['rss_mib']} MiB   pss {total['pss_mib']} MiB"
              f"   private memory grew by {sum(growth.values()):.1f} KiB")
        return total

    def test_idle(self):
        _, display = self.xvfb()
        target = self.target(display)
        self.host(display)
        length = SECONDS + WARM_UP + 60
        if SOAK:
            self.probe(length)
        else:
            self.viewer("viewer", seconds=length)
        wait_for(lambda: self.sessions(), 10, "a session")
        pids = {name: row["pid"] for name, row in self.stages().items()}
        self.measure(pids, WARM_UP if SOAK else 2)
        moving = self.report("30 frames a second of a small motion:", self.measure(pids, 5))
        if SOAK:
            rest = self.report(f"the same and keys, {SECONDS} s:", self.measure(pids, SECONDS))
        else:
            self.stop(target)
            time.sleep(3)
            rest = self.report(f"still screen, {SECONDS} s:", self.measure(pids, SECONDS))
        self.assertEqual({name: row["pid"] for name, row in self.stages().items()}, pids, "nobody was restarted")
        print(json.dumps({"moving": moving, "soak" if SOAK else "still": rest}))


unittest.main(argv=sys.argv[:1])
