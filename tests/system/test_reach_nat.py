#!/usr/bin/env python3
"""A whole host and a client behind NATs, by name: the real gateway, the real relay with its heartbeats, and the way that
both find: direct where it can be, else through the relay, which is said."""
import json
import os
import re
import shutil
import subprocess
import sys
import unittest

import harness
import nets
from harness import BIN, wait_for

GATEWAY = os.environ.get("WAVRY_GATEWAY", f"{BIN}/wavry-gateway")
PASSWORD = "correct horse battery"
NAME, ADDRESS = "gateway.test:8443", f"{nets.RELAY}:8443"
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

    def start_gateway(self):
        options = ["--set", f"database=sqlite:{self.path('gateway.db')}", "--set", f"names={self.gateway}"]
        subprocess.run([GATEWAY, *options, "admin", "add", "alice"], input=PASSWORD + "\n", text=True, check=True,
                       stdout=subprocess.DEVNULL, timeout=60)
        self.start("gateway", self.inside("relay", GATEWAY, *options, "--set", f"listen={nets.RELAY}:8443", "--set",
                                          f"tls_certificate={self.certificate}", "--set",
                                          f"tls_key={self.path('gateway.key')}", "--set",
                                          f"stun_servers={nets.STUN1}:3478 {nets.STUN2}:3478"))

    def log_in(self):
        def attempt():
            code, said = self.ctl_in("client", "login", f"https://{self.gateway}", "--account", "alice", "--ca-file",
                                     self.certificate, stdin=PASSWORD + "\n")
            self.last = said
            return code == 0 or (None if "does not answer" in said else self.fail(said))
        wait_for(attempt, 40, lambda: self.last + self.read_log("gateway"))

    def start_relay(self):
        code, key = self.run_in("relay", f"{BIN}/wavry-relay-beat", "--set", f"key_file={self.path('relay.key')}",
                                "--print-key")
        self.assertEqual(code, 0, key)
        with open(self.path("issuers"), "w") as f:
            f.write(self.ask("GET", "/v1/relays")["issuer"] + "\n")
        self.start("relay", self.inside("relay", f"{BIN}/wavry-relay", "--set", "name=r1", "--set",
                                        f"listen={nets.RELAY}:{nets.RELAY_PORT}", "--set",
                                        f"issuers={self.path('issuers')}", "--set", f"state_file={self.path('relay.state')}",
                                        "--set", f"metrics_socket={self.path('relay.sock')}"))
        self.ask("PUT", "/v1/relays/r1", {"key": key.strip(), "address": f"{nets.RELAY}:{nets.RELAY_PORT}",
                                        "region": "here"})
        self.start("beat", self.inside("relay", f"{BIN}/wavry-relay-beat", "--set", f"gateway=https://{self.gateway}", "--set",
                                       "name=r1", "--set", f"key_file={self.path('relay.key')}", "--set",
                                       f"ca_file={self.certificate}", "--set", f"metrics_socket={self.path('relay.sock')}",
                                       "--set", "interval_s=1"))
        self.said("beat", "the gateway hears this relay", 40)

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
        self.start_host()
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

    def router_test(self, pmp, method):
        self.build("port", "none")
        self.start_router(pmp)
        self.start_gateway()
        self.log_in()
        self.start_host("--set", "reach.port_mapping=true")
        status = wait_for(lambda: f"({method})" in self.stages()["reach"]["status"] and
                          self.stages()["reach"]["status"], 60,
                          lambda: self.stages()["reach"]["status"] + self.read_log("router")[-2000:])
        self.assertIn("the router forwards port ", status)
        self.assertIn("10.2.0.2", self.forwarded())
        self.stop(self.processes[self.place])
        wait_for(lambda: "10.2.0.2" not in self.forwarded(), 30, self.forwarded)

    @unittest.skipUnless(shutil.which("miniupnpd"), "needs miniupnpd")
    def test_a_port_of_the_router_by_nat_pmp(self):
        self.router_test("yes", "NAT-PMP")

    @unittest.skipUnless(shutil.which("miniupnpd"), "needs miniupnpd")
    def test_a_port_of_the_router_by_upnp(self):
        self.router_test("no", "UPnP")

    def forwarded(self):
        return nets.must("nft", "list", "table", "inet", "upnp", namespace=self.net.space("hostnat"))

    def start_router(self, pmp):
        nets.must("nft", "-f", "-", namespace=self.net.space("hostnat"), text=(
            "table inet upnp {\n chain forward {\n }\n chain pre {\n  type nat hook prerouting priority dstnat\n }\n"
            " chain post {\n  type nat hook postrouting priority srcnat\n }\n}\n"))
        config = self.path("router.conf")
        with open(config, "w") as f:
            f.write("ext_ifname=wan\nlistening_ip=lan\nenable_natpmp={}\nenable_upnp=yes\next_ip=9.9.9.9\n"
                    "secure_mode=yes\nsystem_uptime=yes\nuuid=00000000-0000-0000-0000-000000000001\n"
                    "upnp_table_name=upnp\nupnp_nat_table_name=upnp\nupnp_forward_chain=forward\nupnp_nat_chain=pre\n"
                    "upnp_nat_postrouting_chain=post\nallow 1024-65535 10.2.0.0/24 1024-65535\n"
                    "deny 0-65535 0.0.0.0/0 0-65535\n".format(pmp))
        self.start("router", self.inside("hostnat", "miniupnpd", "-f", config, "-d", "-P", self.path("router.pid")))


if __name__ == "__main__":
    harness.main()
