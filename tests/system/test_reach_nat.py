#!/usr/bin/env python3
"""A whole host and a client behind NATs, by name: the real gateway, the real relay with its heartbeats, and the way that
both find: direct where it can be, else through the relay, which is said."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import unittest

import harness
import nets
from harness import BIN, wait_for

GATEWAY = os.environ.get("WAVRY_GATEWAY", f"{BIN}/wavry-gateway")
PASSWORD = "correct horse battery"
NAME, ADDRESS = "gateway.test:8443", f"{nets.RELAY}:8443"
PUBLIC, HOST6 = "9.9.9.9", "2001:db8:77::2"
NO_PORT = "no router here forwards a port"
WHY_NOT = nets.missing() or ("" if os.path.exists(GATEWAY) else "there is no wavry-gateway beside the other programs")
ASK = """
import json, ssl, sys, urllib.request
method, url, token, body = sys.argv[1:]
context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
request = urllib.request.Request(url, method=method, data=body.encode() if body else None,
    headers={"Authorization": "Bearer " + token, **({"Content-Type": "application/json"} if body else {})})
print(urllib.request.urlopen(request, context=context, timeout=20).read().decode())
"""


@unittest.skipIf(WHY_NOT, WHY_NOT)
class Nat(harness.SystemTest):
    gateway_options = ()

    gateway = NAME  # what everybody calls it

    def build(self, host, client):
        self.net = nets.Nets(BIN)
        self.addCleanup(self.net.down)
        self.net.up()
        self.net.home("host", host, "public", 2)
        self.net.home("client", client, "access", 1)
        for space in ("host", "client", "relay"):
            self.name_server(self.net.space(space))
        self.certificate = self.path("gateway.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-days", "2", "-subj", "/CN=gateway", "-addext", f"subjectAltName=DNS:gateway.test,IP:{nets.RELAY}", "-keyout",
                        self.path("gateway.key"), "-out", self.certificate], check=True, stderr=subprocess.DEVNULL)
        os.chmod(self.certificate, 0o644)

    def name_server(self, full):
        """Only the gateway has a name there; to ask for others is refused at once."""
        folder = f"/etc/netns/{full}"
        os.makedirs(folder)
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        with open(f"{folder}/hosts", "w") as f:
            f.write(f"127.0.0.1 localhost\n{nets.RELAY} gateway.test\n")
        with open(f"{folder}/resolv.conf", "w") as f:
            f.write("nameserver 127.0.0.1\n")

    def inside(self, space, *command):
        return ["ip", "netns", "exec", self.net.space(space), *command]

    def run_in(self, space, *command, stdin="", timeout=90):
        result = subprocess.run(self.inside(space, *command), input=stdin, text=True, timeout=timeout, check=False,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                env={**os.environ, "XDG_CONFIG_HOME": self.path("person")})
        return result.returncode, result.stdout

    def ctl_in(self, space, *words, stdin=""):
        return self.run_in(space, f"{BIN}/wavryctl", "--socket", self.path(f"{self.place}.run/control.sock"), *words,
                           stdin=stdin)

    def ask(self, method, path, body=None):
        with open(self.path("person/wavry/gateway.conf")) as f:
            token = re.search(r"^token = (.*)$", f.read(), re.MULTILINE)[1]
        code, said = self.run_in("relay", sys.executable, "-c", ASK, method, f"https://{self.gateway}{path}", token,
                                 json.dumps(body) if body else "")
        self.assertEqual(code, 0, said)
        return json.loads(said) if said.strip() else None

    def own_gateway(self):
        return ["--set", f"database=sqlite:{self.path('gateway.db')}", "--set", f"names={self.gateway}"]

    def start_gateway(self):
        subprocess.run([GATEWAY, *self.own_gateway(), "admin", "add", "alice"], input=PASSWORD + "\n", text=True,
                       check=True, stdout=subprocess.DEVNULL, timeout=60)
        self.run_gateway()

    def run_gateway(self):
        self.start("gateway", self.inside("relay", GATEWAY, *self.own_gateway(), "--set", f"listen={nets.RELAY}:8443", "--set",
                                          f"tls_certificate={self.certificate}", "--set",
                                          f"tls_key={self.path('gateway.key')}", "--set",
                                          f"stun_servers={nets.STUN1}:3478 {nets.STUN2}:3478",
                                          *self.gateway_options))

    def log_in(self):
        def attempt():
            code, said = self.ctl_in("client", "login", f"https://{self.gateway}", "--account", "alice", "--ca-file",
                                     self.certificate, stdin=PASSWORD + "\n")
            self.last = said
            return code == 0 or (None if "does not answer" in said else self.fail(said))
        wait_for(attempt, 40, lambda: self.last + self.read_log("gateway"))

    def run_relay(self, name, port):
        return self.start(name, self.inside("relay", f"{BIN}/wavry-relay", "--set", f"name={name}", "--set",
                                            f"listen={nets.RELAY}:{port}", "--set", f"issuers={self.path('issuers')}",
                                            "--set", f"state_file={self.path(name)}.state", "--set",
                                            f"metrics_socket={self.path(name)}.sock"))

    def start_relay(self, name="r1", port=nets.RELAY_PORT):
        code, key = self.run_in("relay", f"{BIN}/wavry-relay-beat", "--set", f"key_file={self.path(name)}.key",
                                "--print-key")
        self.assertEqual(code, 0, key)
        with open(self.path("issuers"), "w") as f:
            f.write(self.ask("GET", "/v1/relays")["issuer"] + "\n")
        self.run_relay(name, port)
        self.ask("PUT", f"/v1/relays/{name}", {"key": key.strip(), "address": f"{nets.RELAY}:{port}", "region": "here"})
        self.start(f"{name}-beat", self.inside("relay", f"{BIN}/wavry-relay-beat", "--set", f"gateway=https://{self.gateway}", "--set",
                                               f"name={name}", "--set", f"key_file={self.path(name)}.key", "--set",
                                               f"ca_file={self.certificate}", "--set",
                                               f"metrics_socket={self.path(name)}.sock", "--set", "interval_s=1"))
        self.said(f"{name}-beat", "the gateway hears this relay", 40)

    def start_host(self, *options):
        self.start(self.place, self.inside("host", f"{BIN}/wavry-supervisor", "--standalone", "--runtime-dir",
                                           self.path(f"{self.place}.run"), "--state-dir", self.path(f"{self.place}.state"),
                                           "--set", "capture.source=test", "--set", f"reach.ca_file={self.certificate}",
                                           *options))
        wait_for(lambda: all(self.stages().get(s, {}).get("state") == "ready" for s in ("reach", "identity", "encoder")),
                 40, lambda: self.read_log(self.place)[-4000:])
        code, said = self.ctl_in("host", "host", "register", "desk")
        self.assertEqual(code, 0, said)
        wait_for(lambda: self.stages()["reach"]["status"].startswith("signed in"), 60,
                 lambda: self.stages()["reach"]["status"] + self.read_log(self.place)[-3000:])

    def begin(self, host, client):
        self.build(host, client)
        self.start_gateway()
        self.log_in()
        self.start_relay()
        self.count_questions()
        self.start_host()
        self.pair_far()

    def pair_far(self):
        code = json.loads(self.ctl_in("host", "pair", "--json")[1])["code"]
        status, said = self.run_in("client", f"{BIN}/wavry-client", "pair", "desk", "--code", code, "--name", "far",
                                   "--give-up", "40")
        self.assertEqual(status, 0, said + self.read_log(self.place)[-3000:])

    def watch(self, said):
        status, all_said = self.watches(
            self.inside("client", f"{BIN}/wavry-client", "desk", "--give-up", "40", "--stats-json", self.path("stats.json")),
            said, XDG_CONFIG_HOME=self.path("person"))
        self.assertEqual(status, 0, all_said + self.read_log(self.place)[-3000:])
        with open(self.path("stats.json")) as f:
            self.assertGreater(json.load(f)["frames_shown"], 0)

    def test_two_usual_routers_direct(self):
        self.begin("port", "port")
        self.watch("Connected directly.")

    def test_symmetric_on_both_sides_relayed(self):
        self.gateway = ADDRESS  # a gateway without a name: client, host and relay hold its certificate against that
        self.begin("sym", "sym")
        self.watch("Relayed because the router here gives every connection another port")
        self.said(self.place, NO_PORT, 40)
        asked = self.questions()
        print(f"a router that does not answer was sent {asked} datagrams")
        self.assertTrue(4 <= asked <= 20, f"{asked} datagrams")
        self.assertEqual(self.read_log(self.place).count(NO_PORT), 1)

    # ---- a router that can be asked for a port

    def count_questions(self):
        """What is sent to the host's router about ports; nobody answers, which says less than a refusal."""
        nets.must("nft", "-f", "-", namespace=self.net.space("hostnat"), text=(
            "table inet questions {\n counter asked {\n }\n chain in {\n  type filter hook prerouting priority raw\n"
            '  iifname "lan" udp dport { 1900, 5351 } counter name asked drop\n }\n}\n'))

    def questions(self):
        said = nets.must("nft", "list", "counter", "inet", "questions", "asked", namespace=self.net.space("hostnat"))
        return int(re.search(r"packets (\d+)", said)[1])

    def reach_says(self, text, seconds=60):
        def said():
            status = self.stages().get("reach", {}).get("status", "")
            return text in status and status
        return wait_for(said, seconds, lambda: f"reach saying {text!r}: {self.stages()}" +
                        self.read_log(self.place)[-3000:] + self.read_log("router")[-2000:])

    def mapped_by(self, words):
        """Until the router forwards a port by WORDS. A router on a busy machine may take longer for its answer than the seconds
        that each way has, and then the next way is found: reach begins again."""
        deadline = time.monotonic() + 150
        while time.monotonic() < deadline:
            pid = self.ready_pid("reach")
            if words in self.reach_says("the router forwards"):
                return
            self.restart_reach(pid)
        self.fail(f"not by {words}: {self.stages()['reach']['status']}")

    def restart_reach(self, pid):
        code, said = self.ctl_in("host", "restart", "reach")
        self.assertEqual(code, 0, said)
        wait_for(lambda: self.ready_pid("reach") != pid, 30, "another reach")

    def reach_metric(self, name):
        code, said = self.ctl_in("host", "metrics", "--json")
        self.assertEqual(code, 0, said)
        return json.loads(said)["reach"][name]["value"]

    def forwarded(self):
        """Whether the router forwards a port, and lets IPv6 in, to the host."""
        def rules(table, chain):
            return nets.must("nft", "list", "chain", "inet", table, chain, namespace=self.net.space("hostnat"))
        return "dnat ip to 10.2.0.2:" in rules("upnp", "pre"), "0x20010db8007700000000000000000002" in rules("filter", "opened")

    def wait_forwarded(self, v4, v6, seconds=40):
        begun = time.monotonic()
        wait_for(lambda: self.forwarded() == (v4, v6), seconds, lambda: f"forwarded: {self.forwarded()}" +
                 self.read_log(self.place)[-2000:] + self.read_log("router")[-2000:])
        return time.monotonic() - begun

    @unittest.skipUnless(shutil.which("miniupnpd"), "needs miniupnpd")
    def test_a_port_of_the_router(self):
        """Symmetric on both sides and no relay: the port is the only way. The router speaks NAT-PMP alone at first, then PCP,
        which also lets IPv6 in, for as long as the host wants."""
        self.build("sym", "sym")
        self.router_at(PUBLIC)
        self.refuse_pcp(True)
        self.start_router("yes")
        self.start_gateway()
        self.log_in()
        self.start_host()
        self.mapped_by("(NAT-PMP)")
        self.assertEqual(self.reach_metric("port_mapped_by"), 2)
        self.assertEqual(self.forwarded(), (True, False))
        self.from_outside("outside")
        self.assertFalse(self.is_connected("outside"))
        self.refuse_pcp(False)
        self.restart_reach(self.ready_pid("reach"))
        self.mapped_by("(PCP)")
        self.reach_says("(PCP); the router lets IPv6 in (PCP)")
        self.assertEqual(self.forwarded(), (True, True))
        mapped = time.monotonic()
        self.assertEqual((self.reach_metric("port_mapped_by"), self.reach_metric("ipv6_pinhole")), (1, 1))
        wait_for(lambda: self.is_connected("outside"), 60, lambda: self.read_log("outside"))
        self.pair_far()
        self.watch("Connected directly.")
        # RFC 6887 can't tell a router that was started anew within some seconds of what it said last (section 8.5).
        wait_for(lambda: time.monotonic() - mapped > 5, 20, "a router with an age")
        self.router_fails()
        took = self.wait_forwarded(True, True)
        print(f"a router that was started again forwards again after {took:.1f} s")
        self.assertLess(took, 20, "it is not the renewal that brought it back")
        self.assertGreater(self.reach_metric("router_restarts_total"), 0)
        code, said = self.ctl_in("host", "host", "unregister")  # it lives on, and is no longer to be reached
        self.assertEqual(code, 0, said)
        self.wait_forwarded(False, False)
        self.from_outside("late")
        self.assertFalse(self.is_connected("late"))

    @unittest.skipUnless(shutil.which("miniupnpd"), "needs miniupnpd")
    def test_a_port_of_the_router_by_upnp(self):
        self.build("port", "none")
        self.start_router("no")
        self.start_gateway()
        self.log_in()
        self.start_host()
        self.reach_says("(UPnP)")
        self.assertEqual(self.forwarded(), (True, False))
        self.stop(self.processes[self.place])
        self.wait_forwarded(False, False)

    def router_at(self, public):
        """Gives the router of the host a public address that may be mapped to (those for documentation may not), lets through
        what it forwards, and brings IPv6 to the host, behind a firewall that lets nobody in unasked."""
        nat = self.net.space("hostnat")
        self.net.ip("hostnat", "addr", "add", f"{public}/32", "dev", "wan")
        self.net.ip("public", "route", "add", f"{public}/32", "via", "203.0.113.2")
        self.net.ip("access", "route", "add", f"{public}/32", "dev", "wan0")
        nets.must("nft", "add rule inet filter forward ct status dnat accept", namespace=nat)
        self.net.ip("hostnat", "addr", "add", "2001:db8:77::1/64", "dev", "lan", "nodad")
        self.net.ip("hostnat", "addr", "add", "2001:db8:1::77/64", "dev", "wan", "nodad")
        self.net.set("hostnat", "ipv6/conf/all/forwarding", 1)
        self.net.ip("host", "addr", "add", f"{HOST6}/64", "dev", "eth0", "nodad")
        self.net.ip("host", "-6", "route", "add", "default", "via", "2001:db8:77::1")
        self.net.ip("public", "-6", "route", "add", "2001:db8:77::/64", "via", "2001:db8:1::77")

    def refused(self):
        """Datagrams from outside to the host's IPv6 address that the router dropped."""
        said = nets.must("nft", "list", "counter", "inet", "filter", "refused", namespace=self.net.space("hostnat"))
        return int(re.search(r"packets (\d+)", said)[1])

    def from_outside(self, name):
        """Starts a client that is no part of any home and has nothing but the host's IPv6 address; until the router has
        dropped what it sends, or it is connected."""
        before = self.refused()
        identity = self.path("outside.identity")
        self.authorize(identity, "outside")
        self.start(name, self.inside("relay", f"{BIN}/wavry-client", f"[{HOST6}]:4820", "--headless", "--identity", identity,
                                     "--host-key", self.host_key(), "--give-up", "100", "--seconds", "120"))
        wait_for(lambda: self.refused() >= before + 2 or self.is_connected(name), 40, lambda: self.read_log(name))

    def is_connected(self, name):
        return f"Connected to [{HOST6}]" in self.read_log(name)

    def refuse_pcp(self, refuse):
        """Version 2 at the port that NAT-PMP has, too, as a router of before PCP that keeps silent about it."""
        text = "table inet old {\n chain input {\n  type filter hook input priority filter\n" \
               "  udp dport 5351 @th,64,8 2 reject with icmpx port-unreachable\n }\n}\n" if refuse else "delete table inet old\n"
        nets.must("nft", "-f", "-", namespace=self.net.space("hostnat"), text=text)

    def router_fails(self):
        """Without power for a moment: it forgets all that it was asked for."""
        router = self.processes["router"]
        self.stop(router, signal.SIGKILL)
        for chain in ("upnp pre", "filter opened"):
            nets.must("nft", f"flush chain inet {chain}", namespace=self.net.space("hostnat"))
        self.assertEqual(self.forwarded(), (False, False))
        self.start_router_again()

    def start_router(self, pmp):
        """What it opens is accepted in a chain of the firewall that drops the rest."""
        nets.must("nft", "-f", "-", namespace=self.net.space("hostnat"), text=(
            "table inet upnp {\n chain pre {\n  type nat hook prerouting priority dstnat\n }\n"
            " chain post {\n  type nat hook postrouting priority srcnat\n }\n}\n"
            "table inet filter {\n counter refused {\n }\n chain opened {\n }\n chain forward {\n  jump opened\n"
            f"  ip6 daddr {HOST6} udp dport 4820 counter name refused drop\n }}\n}}\n"))
        with open(self.path("router.conf"), "w") as f:
            f.write(f"ext_ifname=wan\nlistening_ip=lan\nenable_natpmp={pmp}\nenable_upnp=yes\next_ip={PUBLIC}\n"
                    "secure_mode=yes\nsystem_uptime=no\nuuid=00000000-0000-0000-0000-000000000001\n"
                    "upnp_table_name=filter\nupnp_nat_table_name=upnp\nupnp_forward_chain=opened\nupnp_nat_chain=pre\n"
                    "upnp_nat_postrouting_chain=post\nallow 1024-65535 10.2.0.0/24 1024-65535\n"
                    "deny 0-65535 0.0.0.0/0 0-65535\n")
        self.start_router_again()

    def start_router_again(self):
        self.start("router", self.inside("hostnat", "miniupnpd", "-f", self.path("router.conf"), "-d", "-P",
                                         self.path("router.pid")))


if __name__ == "__main__":
    harness.main()
