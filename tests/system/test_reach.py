#!/usr/bin/env python3
"""A host that nobody has the address of: the real gateway between a host and a client, by name."""
import json
import os
import re
import signal
import subprocess
import unittest

import harness
from harness import BIN, free_tcp_port, wait_for

GATEWAY = os.environ.get("WAVRY_GATEWAY", f"{BIN}/wavry-gateway")
PASSWORD = "correct horse battery"


def has_address():
    """Whether this machine has an address that others could reach it at: loopback ones are never offered."""
    result = subprocess.run(["ip", "-j", "addr"], stdout=subprocess.PIPE, check=True)
    return any(a.get("scope") == "global" for i in json.loads(result.stdout) for a in i.get("addr_info", []))


@unittest.skipUnless(os.path.exists(GATEWAY), "there is no wavry-gateway beside the other programs")
@unittest.skipUnless(has_address(), "this machine has no address but its own")
class Reach(harness.SystemTest):
    def setUp(self):
        super().setUp()
        self.gateway_port = free_tcp_port()
        self.gateway_name = f"localhost:{self.gateway_port}"
        self.certificate = self.path("gateway.pem")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout",
                        self.path("gateway.key"), "-out", self.certificate],
                       check=True, stderr=subprocess.DEVNULL)
        os.chmod(self.certificate, 0o644)
        self.gateway_command("admin", "add", "alice")
        self.start_gateway()
        _, self.display = self.xvfb()
        self.target(self.display)
        self.host(self.display, "--set", f"reach.ca_file={self.certificate}", "--set", "reach.port_mapping=false")

    # ---- the gateway

    def gateway_options(self):
        return ["--set", f"database=sqlite:{self.path('gateway.db')}", "--set", f"names={self.gateway_name}"]

    def gateway_command(self, *words):
        result = subprocess.run([GATEWAY, *self.gateway_options(), *words], input=PASSWORD + "\n", text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60, check=False)
        self.assertEqual(result.returncode, 0, result.stdout)

    def start_gateway(self):
        port = self.gateway_port
        self.gateway = self.start("gateway", [
            GATEWAY, *self.gateway_options(), "--set", f"listen=127.0.0.1:{port} [::1]:{port}", "--set",
            f"tls_certificate={self.certificate}", "--set", f"tls_key={self.path('gateway.key')}"])

    # ---- a person with a machine

    def run_as(self, person, program, *words, stdin="", timeout=120):
        """Runs PROGRAM with the files of PERSON. Returns (exit code, all that it said)."""
        result = subprocess.run([f"{BIN}/{program}", *words], input=stdin, text=True, timeout=timeout, check=False,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                env={**os.environ, "XDG_CONFIG_HOME": self.path(person)})
        return result.returncode, result.stdout

    def ctl_as(self, person, *words, stdin=""):
        return self.run_as(person, "wavryctl", "--socket", self.path(f"{self.place}.run/control.sock"), *words,
                           stdin=stdin)

    def log_in(self, person, account="alice"):
        def attempt():
            code, said = self.ctl_as(person, "login", f"https://{self.gateway_name}", "--account", account,
                                     "--ca-file", self.certificate, "--name", person, stdin=PASSWORD + "\n")
            return code == 0 or (None if "does not answer" in said else self.fail(said))
        wait_for(attempt, 30, lambda: "the gateway answers:\n" + self.read_log("gateway"))

    def register(self, person, name):
        code, said = self.ctl_as(person, "host", "register", name)
        self.assertEqual(code, 0, said)
        self.wait_signed_in()

    def reach_status(self):
        return self.stages().get("reach", {}).get("status", "")

    def wait_signed_in(self):
        wait_for(lambda: self.reach_status().startswith(f"signed in to {self.gateway_name}"), 60,
                 lambda: self.reach_status() + "\n" + self.read_log(self.place)[-3000:])

    def pair_here(self, person):
        """As a person who sits at the host does, by its address."""
        code = self.pairing_code()["code"]
        status, said = self.run_as(person, "wavry-client", "pair", f"127.0.0.1:{self.port}", "--code", code, "--name",
                                   person)
        self.assertEqual(status, 0, said)

    def watch(self, person, name):
        return self.watches([f"{BIN}/wavry-client", name, "--give-up", "40", "--stats-json", self.path("stats.json")],
                            "Connected directly.", XDG_CONFIG_HOME=self.path(person))

    def is_told(self, person, name, pattern):
        """Tries in vain, and is told why."""
        log = f"tries{len(self.logs)}"
        process = self.start(log, [f"{BIN}/wavry-client", name, "--headless", "--seconds", "90", "--give-up", "90"],
                             XDG_CONFIG_HOME=self.path(person))
        wait_for(lambda: re.search(pattern, self.read_log(log)) or process.poll() is not None, 60, lambda: self.read_log(log))
        self.assertRegex(self.read_log(log), pattern)
        self.assertNotEqual(self.stop(process, signal.SIGINT), 0, self.read_log(log))

    # ---- tests

    def test_by_name_through_the_gateway(self):
        self.log_in("alice")
        self.assertEqual(os.stat(self.path("alice/wavry/gateway.conf")).st_mode & 0o777, 0o600)
        self.register("alice", "desk")
        code, said = self.ctl_as("alice", "hosts", "--json")
        hosts = json.loads(said[said.index("{"):])["hosts"]
        self.assertEqual([(h["name"], h["state"]) for h in hosts if h["where"] == self.gateway_name],
                         [("desk", "online")], said)
        # Not paired: the gateway's word for a key is worth nothing.
        code, said = self.watch("alice", "desk")
        self.assertEqual(code, 77, said)
        self.assertIn("its key is not known here. Pair with it", said)
        self.pair_here("alice")
        code, said = self.watch("alice", "desk")
        self.assertEqual(code, 0, said)
        self.assertIn("Connected directly.", said)
        with open(self.path("stats.json")) as f:
            self.assertGreater(json.load(f)["frames_shown"], 0)
        with open(self.path("alice/wavry/known_hosts")) as f:
            self.assertIn(f"desk:4820 {self.host_key()}", f.read(), "the name means this key from now on")
        code, said = self.watch("alice", "no-such-host")
        self.assertEqual(code, 68, said)
        self.assertIn("wavryctl hosts lists them", said)

    def test_pairing_through_the_gateway(self):
        self.log_in("alice")
        self.register("alice", "desk")
        code = self.pairing_code()["code"]
        status, said = self.run_as("alice", "wavry-client", "pair", "desk", "--code", code, "--name", "far", "--give-up",
                                   "40")
        self.assertEqual(status, 0, said)
        status, said = self.watch("alice", "desk")
        self.assertEqual(status, 0, said)

    def test_offline_not_allowed_and_unregistered(self):
        self.gateway_command("admin", "add", "bob")
        self.log_in("alice")
        self.register("alice", "desk")
        self.pair_here("alice")
        self.log_in("bob", "bob")
        self.pair_here("bob")
        # He knows the host, and has called it so, but the account may not reach it.
        with open(self.path("bob/wavry/known_hosts"), "a") as f:
            f.write(f"desk:4820 {self.host_key()}\n")
        self.is_told("bob", "desk", "Not allowed: your account")
        code, said = self.ctl_as("alice", "host", "share", "bob")
        self.assertEqual(code, 0, said)
        code, said = self.watch("bob", "desk")
        self.assertEqual(code, 0, said)
        # Away from the gateway it is offline; a session goes on without it.
        code, said = self.ctl_as("alice", "host", "unregister")
        self.assertEqual(code, 0, said)
        wait_for(lambda: "no gateway" in self.reach_status(), 30, self.reach_status)
        with open(self.path("alice/wavry/known_hosts"), "a") as f:
            f.write(f"desk:4820 {self.host_key()}\n")
        self.is_told("alice", "desk", "is offline|Not allowed")
        code, said = self.ctl_as("alice", "logout")
        self.assertEqual(code, 0, said)
        self.assertFalse(os.path.exists(self.path("alice/wavry/gateway.conf")))
        code, said = self.ctl_as("alice", "host", "register", "desk")
        self.assertEqual(code, 77, said)

    def test_a_session_outlives_the_gateway_and_reach(self):
        self.log_in("alice")
        self.register("alice", "desk")
        self.pair_here("alice")
        client = self.start("viewer", [f"{BIN}/wavry-client", "desk", "--headless", "--seconds", "220", "--give-up", "60",
                                       "--stats-json", self.path("viewer.json")], XDG_CONFIG_HOME=self.path("alice"))
        self.said("viewer", "Connected directly.", 40)
        self.stop(self.gateway, signal.SIGKILL)
        wait_for(lambda: not self.reach_status().startswith("signed in"), 60, self.reach_status)
        old = self.stages()["reach"]["pid"]
        os.kill(old, signal.SIGKILL)
        wait_for(lambda: self.stages().get("reach", {}).get("state") == "ready" and
                 self.stages()["reach"]["pid"] != old, 20, self.reach_status)
        self.start_gateway()
        self.wait_signed_in()  # nothing was lost with it: identity knows the gateway
        self.log_in("laptop")
        self.pair_here("laptop")
        code, said = self.watch("laptop", "desk")
        self.assertEqual(code, 0, said)
        wait_for(lambda: len(self.sessions()) == 1, 20, "the first client is still there, in its one session")
        client.send_signal(signal.SIGINT)
        client.wait(60)
        with open(self.path("viewer.json")) as f:
            self.assertEqual(json.load(f)["connects"], 1)


if __name__ == "__main__":
    harness.main()
