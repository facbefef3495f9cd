#!/usr/bin/env python3
"""bench_restart.py [--kills N] [--restarts N] [--stops N]: a client streams from a host that systemd runs in a
container, while each stage is killed (SIGKILL), restarted (systemctl) and stopped (SIGSTOP). Prints how long the client
saw nothing new: for input until a waiting press was seen, else until the next picture."""
import argparse
import json
import os
import sys
import time

from container import STAGES, Client, Container, freeze_ms, now, wait_for

PAUSE_S = 1.2  # a stage that was of use for a second is started again at once
LIMITS = {"transport": 80, "input": 200, "capture": 300, "encoder": 300}


def quantile(values, share):
    values = sorted(values)
    return values[min(int(share * len(values)), len(values) - 1)] if values else 0.0


def busy():
    return f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors"


def recover(container, client, stage, old):
    wait_for(lambda: container.main_pid(stage) not in (0, old), 20, f"a new {stage}")
    if stage == "supervisor":
        container.wait_ready()
    else:
        container.wait_new(stage, old)
    client.wait_press()
    until = now()
    time.sleep(PAUSE_S)
    return until


def run(container, client, plan):
    """Returns [(kind, stage, at, until)]."""
    events = []
    for kind, stage, count in plan:
        for i in range(count):
            print(f"\r{kind} {stage} {i + 1}/{count}   ", end="", file=sys.stderr, flush=True)
            old = container.main_pid(stage)
            at = now()
            if kind == "restart":
                container.systemctl("restart", container.service(stage))
            else:
                container.kill(stage, {"kill": "KILL", "stop": "STOP"}[kind])
            events.append((kind, stage, at, recover(container, client, stage, old)))
    print("\r" + " " * 40 + "\r", end="", file=sys.stderr)
    return events


def lost_after_recovery(result, events):
    """Presses that began when every stage was well, and were not seen."""
    faults = [(at - 0.05, until) for _, _, at, until in events]
    return sum(1 for at, latency in result["presses"]
               if not latency and not any(begin <= at <= end for begin, end in faults))


def report(result, events, json_path):
    rows = []
    for kind in ("kill", "restart", "stop"):
        for stage in STAGES + ["supervisor"]:
            pairs = [freeze_ms(result, at, until) for k, s, at, until in events if (k, s) == (kind, stage)]
            if not pairs:
                continue
            values = [waiting if stage == "input" else still for still, waiting in pairs]
            limit = LIMITS.get(stage) if kind == "kill" else None
            rows.append({"what": kind, "stage": stage, "count": len(values), "p50_ms": quantile(values, 0.5),
                         "p95_ms": quantile(values, 0.95), "max_ms": max(values), "limit_ms": limit})
    print(f"{'':9}{'stage':12}{'count':>6}{'p50':>9}{'p95':>9}{'max':>9}   freeze in ms (0: less than 40)")
    for row in rows:
        limit = row["limit_ms"]
        print(f"{row['what']:9}{row['stage']:12}{row['count']:6}{row['p50_ms']:9.0f}{row['p95_ms']:9.0f}"
              f"{row['max_ms']:9.0f}" + (f"   wanted p95 <= {limit}" if limit else ""))
    summary = {"sessions_dropped": result["connects"] - 1, "events_lost_after_recovery": lost_after_recovery(result, events),
               "presses": len(result["presses"]), "machine": busy()}
    print(", ".join(f"{key.replace('_', ' ')} {value}" for key, value in summary.items()))
    if json_path:
        with open(json_path, "w") as f:
            json.dump({"rows": rows, **summary}, f, indent=2)


def main():
    parser = argparse.ArgumentParser(prog="./wavry bench restart", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--stops", type=int, default=10)
    parser.add_argument("--stages", default=",".join(STAGES + ["supervisor"]))
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    stages = options.stages.split(",")
    container = Container()
    client = None
    try:
        container.install()
        begun = now()
        container.systemctl("start", "wavry-host.target")
        print(f"cold start to ready {now() - begun:.2f} s (wanted <= 1.5); {busy()}")
        container.wait_ready()
        client = Client(container, container.dir)
        client.wait_press()
        plan = [(kind, stage, count) for kind, count in
                (("kill", options.kills), ("restart", options.restarts), ("stop", options.stops)) for stage in stages]
        events = run(container, client, plan)
        report(client.finish(), events, options.json)
        held = container.run("runuser", "-u", "wavry-display", "--", "env", "DISPLAY=:50",
                             "XAUTHORITY=/run/wavry-display/Xauthority", "wavry-held-keys").stdout.split()
        print(f"keys left down {len(held)}")
    finally:
        if client:
            client.stop()
        container.down()


if __name__ == "__main__":
    main()
