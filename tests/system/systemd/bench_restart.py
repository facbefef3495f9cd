#!/usr/bin/env python3
"""bench_restart.py [--kills N] [--restarts N] [--stops N]: a client streams from a host that systemd runs in a
container, while each stage is killed (SIGKILL), restarted (systemctl) and stopped (SIGSTOP). Prints how long the client
saw nothing new: for input from a press that was lost or waited until it, or the next one, was seen, else until the next
picture. The host uses no press that waited for it for more than 200 ms, so the client makes another one then."""
import argparse
import json
import os
import signal
import sys
import time

from container import STAGES, WATCHDOG_S, Client, Container, Wire, freeze_ms, now, wait_for

PAUSE_S = 1.2  # a stage that was of use for a second is started again at once
LIMITS = {"transport": 80, "input": 200, "capture": 300, "encoder": 300}
UNNOTICED = ["identity", "supervisor"]
AGAIN_MS = 250  # 200 ms in the host, where a press grows stale, and the way there and back
SEEN_MS = 60  # shorter than this is a frame or two late: nobody's fault in particular


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


def limit_of(kind, stage):
    if stage in UNNOTICED:
        return SEEN_MS
    return WATCHDOG_S * 1e3 + 300 if kind == "stop" else LIMITS[stage]


def run(container, client, plan):
    """Returns [(kind, stage, at, until)]."""
    events = []
    for kind, stage, count in plan:
        for i in range(count):
            if sys.stderr.isatty():
                print(f"\r{kind} {stage} {i + 1}/{count}   ", end="", file=sys.stderr, flush=True)
            old = container.main_pid(stage)
            at = now()
            if kind == "restart":
                container.systemctl("restart", container.service(stage))
            else:
                container.kill(stage, {"kill": "KILL", "stop": "STOP"}[kind])
            events.append((kind, stage, at, recover(container, client, stage, old)))
    return events


def lost_after_recovery(result, events):
    """Presses that began when every stage was well, and were not seen: [(moment, the last fault before it)]."""
    lost = []
    for at, latency in result["presses"]:
        before = [(at - begin, kind, stage, until - begin) for kind, stage, begin, until in events if begin - 0.05 <= at]
        if not latency and not (before and min(before)[0] <= min(before)[3]):
            lost.append((at, min(before, default=None)))
    return lost


def table(result, events):
    rows = []
    for kind in ("kill", "restart", "stop"):
        for stage in STAGES + ["supervisor"]:
            pairs = [freeze_ms(result, at, until) for k, s, at, until in events if (k, s) == (kind, stage)]
            if not pairs:
                continue
            values = [waiting if stage == "input" else still for still, waiting in pairs]
            rows.append({"what": kind, "stage": stage, "count": len(values), "p50_ms": quantile(values, 0.5),
                         "p95_ms": quantile(values, 0.95), "max_ms": max(values), "limit_ms": limit_of(kind, stage),
                         "all_ms": [round(value) for value in values]})
    return rows


def report(result, events, others, json_path):
    """Prints what was seen, and returns what is not as it must be."""
    rows = table(result, events)
    print(f"{'':9}{'stage':12}{'count':>6}{'p50':>9}{'p95':>9}{'max':>9}   freeze in ms (0: less than 40)")
    for row in rows:
        print(f"{row['what']:9}{row['stage']:12}{row['count']:6}{row['p50_ms']:9.0f}{row['p95_ms']:9.0f}"
              f"{row['max_ms']:9.0f}   wanted p95 <= {row['limit_ms']:.0f}")
    lost = lost_after_recovery(result, events)
    for at, fault in lost[:20]:
        print("lost: " + (f"{fault[0]:.2f} s after {fault[1]} {fault[2]}, which was over after {fault[3]:.2f} s" if fault
                          else "before the first fault")
              + f"; the picture stood still for {freeze_ms(result, at, at + 1)[0]:.0f} ms meanwhile")
    zeros = {"sessions_dropped": result["connects"] - 1, "events_lost_after_recovery": len(lost), **others}
    summary = {**zeros, "presses": len(result["presses"]), "machine": busy()}
    print(", ".join(f"{key.replace('_', ' ')} {value}" for key, value in summary.items()))
    if json_path:
        with open(json_path, "w") as f:
            json.dump({"rows": rows, **summary}, f, indent=2)
    return ([f"{row['what']} {row['stage']}" for row in rows if row["p95_ms"] > row["limit_ms"]]
            + [name for name, value in zeros.items() if value])


def main():
    parser = argparse.ArgumentParser(prog="./wavry bench restart", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--stops", type=int, default=10)
    parser.add_argument("--stages", default=",".join(STAGES + ["supervisor"]))
    parser.add_argument("--json", metavar="FILE")
    options = parser.parse_args()
    stages = options.stages.split(",")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended from outside"))  # and the container goes, too
    container = Container()
    client = wire = None
    try:
        container.install()
        begun = now()
        container.systemctl("start", "wavry-host.target")
        took = now() - begun
        print(f"cold start to ready {took:.2f} s (wanted <= 1.5); {busy()}")
        container.wait_ready()
        if ":50" not in container.show("wavry-capture", "StatusText")["StatusText"]:
            sys.exit("capture does not show the display: presses would have no effect")
        wire = Wire(container)
        client = Client(container, container.dir, again=AGAIN_MS)
        client.wait_press()
        plan = [(kind, stage, count) for kind, count in
                (("kill", options.kills), ("restart", options.restarts), ("stop", options.stops)) for stage in stages]
        events = run(container, client, plan)
        result = client.finish()
        seen = wire.finish()
        print(f"datagrams captured: {seen['from_clients']} from the client, {seen['from_host']} from the host, "
              f"{seen['copies']} copies")
        others = {"nonces_reused": seen["reused"], "keys_left_down": len(container.held_keys())}
        missed = (["cold start"] if took > 1.5 else []) + report(result, events, others, options.json)
    finally:
        if client:
            client.stop()
        if wire:
            wire.stop()
        container.down()
    if missed:
        sys.exit("not met: " + ", ".join(missed))


if __name__ == "__main__":
    main()
