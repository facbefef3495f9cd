"""Networks made of namespaces: a host and a client, each behind routers of a given kind, with a relay and two STUN servers on
the public side and 20 ms between the client and everything else. Needs root and nftables.

    client -- [inner NAT] -- NAT -- access -- 20 ms -- public -- NAT -- host
              second NAT -----------'             relay, stun1, stun2
              198.51.100.0/24                     203.0.113.0/24

Kinds: none (a public address), full (endpoint-independent mapping and filtering), port (endpoint-independent mapping,
filtering by address and port: Linux' masquerade), sym (another port for each destination), double (port behind port)."""
import os
import socket
import struct
import subprocess
import sys
import time

RELAY_PORT, STUN_PORT = 3479, 3478
RELAY, STUN1, STUN2 = "203.0.113.10", "203.0.113.11", "203.0.113.12"
RELAY6, STUN6 = "2001:db8:1::10", "2001:db8:1::11"
SIDES = {"access": 2, "public": 1}
V4 = {"access": "198.51.100", "public": "203.0.113"}
COOKIE = 0x2112A442


def run(*command, namespace=None, text=None):
    prefix = ["nsenter", f"--net=/run/netns/{namespace}"] if namespace else []
    return subprocess.run([*prefix, *command], input=text, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)


def must(*command, namespace=None, text=None):
    done = run(*command, namespace=namespace, text=text)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} in {namespace}: {done.stdout}")
    return done.stdout


def missing():
    """Why there can be no such networks here; "" when there can."""
    if os.geteuid() != 0:
        return "namespaces need root"
    for tool in ("nft", "ip", "nsenter"):
        if run("which", tool).returncode:
            return f"{tool} is missing"
    name = f"wavryprobe{os.getpid()}"
    if run("ip", "netns", "add", name).returncode:
        return "network namespaces can't be made here"
    done = run("nft", "-f", "-", namespace=name, text="table ip t {\n chain c {\n type nat hook postrouting priority srcnat\n"
               " ip protocol udp masquerade fully-random\n }\n}\n")
    run("ip", "netns", "del", name)
    return "" if done.returncode == 0 else f"no NAT in namespaces here: {done.stdout}"


class Nets:
    def __init__(self, bin_dir, delay_ms=20):
        self.bin, self.delay_ms, self.names, self.processes = bin_dir, delay_ms, {}, []

    def space(self, name):
        full = self.names.get(name)
        if not full:
            full = self.names[name] = f"wv{os.getpid()}{name}"
            must("ip", "netns", "add", full)
            must("ip", "link", "set", "lo", "up", namespace=full)
            for which in ("all", "default"):  # or the first seconds of IPv6 are spent on looking for doubles
                must("sh", "-c", f"echo 0 > /proc/sys/net/ipv6/conf/{which}/accept_dad", namespace=full)
        return full

    def ip(self, name, *arguments):
        return must("ip", *arguments, namespace=self.space(name))

    def set(self, name, key, value):
        must("sh", "-c", f"echo {value} > /proc/sys/net/{key}", namespace=self.space(name))

    def pair(self, a, device_a, b, device_b):
        must("ip", "link", "add", device_a, "netns", self.space(a), "type", "veth", "peer", "name", device_b, "netns", self.space(b))
        for name, device in ((a, device_a), (b, device_b)):
            self.ip(name, "link", "set", device, "up")

    def bridge(self, name):
        self.ip(name, "link", "add", "br0", "type", "bridge")
        self.ip(name, "link", "set", "br0", "up")

    def join(self, name, device, bridge, port, *addresses):
        """An interface of NAME on the bridge, with public ADDRESSES."""
        self.pair(name, device, bridge, port)
        self.ip(bridge, "link", "set", port, "master", "br0")
        for address in addresses:
            self.ip(name, "addr", "add", address, "dev", device, *(["nodad"] if ":" in address else []))
        if any(":" not in a for a in addresses):
            self.ip(name, "route", "add", "default", "via", f"{V4[bridge]}.254")
        if any(":" in a for a in addresses):
            self.ip(name, "-6", "route", "add", "default", "via", f"2001:db8:{SIDES[bridge]}::fe")

    def up(self):
        for side, number in SIDES.items():
            self.bridge(side)
            self.ip(side, "addr", "add", f"{V4[side]}.254/24", "dev", "br0")
            self.ip(side, "addr", "add", f"2001:db8:{number}::fe/64", "dev", "br0", "nodad")
            self.set(side, "ipv4/ip_forward", 1)
            self.set(side, "ipv6/conf/all/forwarding", 1)
        wire = subprocess.Popen([f"{self.bin}/bench-linkem", *map(self.space, SIDES), "wan0", f"delay_ms={self.delay_ms}", "queue_kib=4096"],
                                stdin=subprocess.PIPE)
        self.processes.append(wire)
        self.wait_for_wire()
        for side, other in (("access", "public"), ("public", "access")):
            self.ip(side, "link", "set", "wan0", "up")
            self.ip(side, "route", "add", f"{V4[other]}.0/24", "dev", "wan0")
            self.ip(side, "-6", "route", "add", f"2001:db8:{SIDES[other]}::/64", "dev", "wan0")
        self.join("relay", "eth0", "public", "relay", f"{RELAY}/24", f"{RELAY6}/64", f"{STUN1}/24", f"{STUN2}/24", f"{STUN6}/64")
        self.stuns = self.start("relay", sys.executable, os.path.abspath(__file__), STUN1, STUN2, STUN6)

    def wait_for_wire(self):
        deadline = time.monotonic() + 20
        while any(run("ip", "link", "show", "wan0", namespace=self.space(side)).returncode for side in SIDES):
            if time.monotonic() > deadline:
                raise RuntimeError("the link did not come")
            time.sleep(0.02)

    def start(self, name, *command, **options):
        options.setdefault("stdout", subprocess.DEVNULL)
        process = subprocess.Popen(["nsenter", f"--net=/run/netns/{self.space(name)}", *command], **options)
        self.processes.append(process)
        return process

    def stop(self, process):
        if process.poll() is None and process.stdin:  # ends by itself, and tidies up
            process.stdin.close()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                pass
        if process.poll() is None:
            process.kill()
        process.wait()
        if process in self.processes:
            self.processes.remove(process)

    def down(self):
        for process in list(self.processes):
            self.stop(process)
        for full in self.names.values():
            run("ip", "netns", "del", full)
        self.names.clear()

    # ---- homes ----

    def nat(self, name, kind, inside):
        flags = " fully-random" if kind == "sym" else ""
        full = (" chain in {\n  type nat hook prerouting priority dstnat\n"
                f'  iifname "wan" udp dport 1024-65535 dnat to {inside}\n }}\n' if kind == "full" else "")
        allow = '  iifname "wan" udp dport 1024-65535 accept\n' if kind == "full" else ""
        must("nft", "-f", "-", namespace=self.space(name), text=(
            "table ip nat {\n chain out {\n  type nat hook postrouting priority srcnat\n"
            f'  oifname "wan" ip protocol udp masquerade{flags}\n  oifname "wan" masquerade\n }}\n{full}}}\n'
            "table inet filter {\n chain blocked {\n }\n chain forward {\n  type filter hook forward priority filter\n  policy drop\n"
            "  jump blocked\n  ct state { established, related } accept\n"
            f'  iifname "lan" accept\n{allow} }}\n chain input {{\n  type filter hook input priority filter\n'
            '  iifname "wan" ct state new drop\n }\n}\n'))

    def router(self, name, kind, bridge, port, public, lan, inside):
        """A NAT of NAME between PUBLIC on BRIDGE and the network LAN.0/24 of INSIDE."""
        self.set(name, "ipv4/ip_forward", 1)
        self.join(name, "wan", bridge, port, public)
        self.lan(name, kind, lan, inside)

    def lan(self, name, kind, lan, inside, device="eth0"):
        self.pair(inside, device, name, "lan")
        self.ip(name, "addr", "add", f"{lan}.1/24", "dev", "lan")
        self.ip(inside, "addr", "add", f"{lan}.2/24", "dev", device)
        self.nat(name, kind, f"{lan}.2")

    def home(self, who, kind, bridge, number):
        """WHO gets a network of KIND with the public address NUMBER of that side."""
        public, lan = f"{V4[bridge]}.{number}/24", f"10.{number}.0"
        if kind == "none":
            self.join(who, "eth0", bridge, who, public)
            return
        if kind == "v6":
            self.join(who, "eth0", bridge, who, f"2001:db8:{SIDES[bridge]}::{number}/64")
            must("nft", "-f", "-", namespace=self.space(who), text=(
                "table inet filter {\n chain input {\n  type filter hook input priority filter\n  policy drop\n"
                '  iifname "lo" accept\n  ip6 nexthdr icmpv6 accept\n  ct state { established, related } accept\n }\n}\n'))
            return
        outer = f"{who}nat"
        if kind == "double":
            middle = f"{who}mid"
            self.router(outer, "port", bridge, outer, public, f"10.{100 + number}.0", middle)
            self.ip(middle, "link", "set", "eth0", "down")
            self.ip(middle, "link", "set", "eth0", "name", "wan")
            self.ip(middle, "link", "set", "wan", "up")
            self.set(middle, "ipv4/ip_forward", 1)
            self.ip(middle, "route", "add", "default", "via", f"10.{100 + number}.0.1")
            self.lan(middle, "port", lan, who)
        else:
            self.router(outer, kind, bridge, outer, public, lan, who)
        self.ip(who, "route", "add", "default", "via", f"{lan}.1")

    def block(self, router, *rules):
        """Forwards no datagram that a rule names; none: all again."""
        text = "flush chain inet filter blocked\n" + "".join(f"add rule inet filter blocked {rule} drop\n" for rule in rules)
        must("nft", "-f", "-", namespace=self.space(router), text=text)


def stun(addresses):
    """Answers Binding requests at each of the addresses, as far as a test needs it."""
    import selectors
    selector = selectors.DefaultSelector()
    for address in addresses:
        s = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        s.bind((address, STUN_PORT))
        selector.register(s, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            request, sender = key.fileobj.recvfrom(2048)
            if len(request) < 20 or request[:2] != b"\0\1":
                continue
            v6 = key.fileobj.family == socket.AF_INET6
            raw = socket.inet_pton(key.fileobj.family, sender[0].split("%")[0])
            mask = request[4:20]
            value = struct.pack(">BBH", 0, 2 if v6 else 1, sender[1] ^ (COOKIE >> 16)) + bytes(a ^ b for a, b in zip(raw, mask))
            attribute = struct.pack(">HH", 0x0020, len(value)) + value
            key.fileobj.sendto(b"\1\1" + struct.pack(">H", len(attribute)) + request[4:20] + attribute, sender)


if __name__ == "__main__":
    stun(sys.argv[1:])
