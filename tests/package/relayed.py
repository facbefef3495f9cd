#!/usr/bin/env python3
"""Two peers of a relay that is upgraded meanwhile: relayed.py RELAY-ADDRESS OWN-ADDRESS ISSUERS-FILE. Writes a new issuer's
key into the file, says "issuer", and waits for a line; binds both peers, passes datagrams and says "passing"; on the next
line says how long none passed at worst. Fails when none pass any more; nobody proves anything anew."""
import base64
import os
import select
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../system"))
from test_relay import Key, Peer, lease  # noqa: E402


def main():
    relay, own, issuers = sys.argv[1:]
    issuer, keys = Key(), [Key(), Key()]
    with open(issuers, "w") as f:
        f.write("ed25519." + base64.urlsafe_b64encode(issuer.public).decode().rstrip("=") + "\n")
    print("issuer", flush=True)
    sys.stdin.readline()
    peers = [Peer(4821, key, side, own) for side, key in enumerate(keys)]
    shown = lease(issuer, keys)
    for peer in peers:
        peer.relay = (relay, 4821)
        if reason := peer.bind(shown):
            sys.exit(f"refused: reason {reason}")
    passed, last, worst = 0, time.monotonic(), 0.0
    while not (passed and select.select([sys.stdin], [], [], 0)[0]):
        peers[0].send(peers[0].header + os.urandom(1200))
        came = peers[1].receive_kind(48, 0.005)
        now = time.monotonic()
        if now - last > 30:
            sys.exit("nothing passes any more")
        if not came:
            continue
        if not passed:
            print("passing", flush=True)
        else:
            worst = max(worst, now - last)
        passed, last = passed + 1, now
        time.sleep(0.001)
    print(f"{passed} datagrams passed on; none for {worst * 1e3:.0f} ms at worst", flush=True)


if __name__ == "__main__":
    main()
