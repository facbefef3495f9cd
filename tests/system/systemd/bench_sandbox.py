#!/usr/bin/env python3
"""bench_sandbox.py [--starts N]: how long systemd takes to start a unit that says "ready" at once, with none, each, and
all of the lines of confinement of the host's units, and without each. Medians; rounds are interleaved, so that a busy
moment of the machine is in all of them."""
import argparse
import os
import re

from container import Container, now

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../units/parts/hardening.inc")
SERVICE = ("[Unit]\nStartLimitIntervalSec=0\n"
           "[Service]\nType=exec\nUser=wavry-transport\nExecStart=/bin/sleep infinity\nKillSignal=SIGKILL\n")


def groups():
    """{name: lines} of the file; lines of one directive that stand together are one."""
    found = {}
    with open(SOURCE) as f:
        for line in f:
            if match := re.match(r"(\w+)=", line):
                name = "SystemCallFilter" if match[1].startswith("SystemCall") else match[1]
                found[name] = found.get(name, "") + line
    found["PrivateUsers"] = "PrivateUsers=yes\n"  # of the units that can have it
    return found


def median(values):
    values = sorted(values)
    return values[len(values) // 2]


def main():
    parser = argparse.ArgumentParser(prog="./wavry bench sandbox", description=__doc__)
    parser.add_argument("--starts", type=int, default=15)
    options = parser.parse_args()
    container = Container()
    try:
        container.install()
        found = groups()
        everything = "".join(found.values())
        units = {"nothing": "", "everything": everything, **found,
                 **{f"without {name}": everything.replace(lines, "") if lines in everything else
                    "".join(other for key, other in found.items() if key != name) for name, lines in found.items()}}
        names = {what: f"cost-{i}.service" for i, what in enumerate(units)}
        for what, lines in units.items():
            container.write(f"/etc/systemd/system/{names[what]}", SERVICE + lines)
        container.systemctl("daemon-reload")
        took = {what: [] for what in units}
        for _ in range(options.starts):
            for what, unit in names.items():
                begun = now()
                container.systemctl("start", unit)
                took[what].append((now() - begun) * 1e3)
                container.systemctl("stop", unit)
    finally:
        container.down()
    bare = median(took["nothing"])
    whole = median(took["everything"])
    print(f"a start without confinement {bare:.1f} ms, with all of it {whole:.1f} ms "
          f"(medians of {options.starts}, systemctl itself included)\n")
    print("| directive | alone adds ms | without it ms less |\n|---|---|---|")
    for what in sorted(found, key=lambda name: median(took[name]), reverse=True):
        print(f"| {what} | {median(took[what]) - bare:.1f} | {whole - median(took['without ' + what]):.1f} |")


if __name__ == "__main__":
    main()
