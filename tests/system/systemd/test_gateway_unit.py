#!/usr/bin/env python3
"""The gateway as systemd runs it, asked from outside of the container: from the installation to the first sign-in as
docs/operators/gateway.md says it, killed, reloaded, stopped; what its unit forbids."""
import http.client
import re
import ssl
import subprocess
import unittest

from container import Container, wait_for
from gateway_kit import NAME, PASSWORD, GatewayTest, Machine  # of the folder above, which container.py looks into

UNIT = "wavry-gateway"
EXPOSURE = 0.8
FOLDER = "/etc/wavry/gateway-tls"
container = None


def setUpModule():
    global container
    container = Container()
    try:
        container.install()
    except BaseException:
        container.down()
        raise


def tearDownModule():
    if container:
        container.down()


class GatewayUnit(GatewayTest):
    def setUp(self):
        super().setUp()
        self.tls = True
        self.addCleanup(self.show_journal)
        self.certificate()
        container.write("/etc/wavry/gateway.conf", "\n".join([
            "[gateway]", f"names={NAME}", f"tls_certificate={FOLDER}/tls.pem", f"tls_key={FOLDER}/tls.key",
            "requests_per_s=1000", "wrong_per_minute=1000", "logins_per_minute=1000", ""]))
        container.systemctl("start", f"{UNIT}.socket", UNIT)
        self.addCleanup(self.stop_unit)

    @staticmethod
    def stop_unit():
        container.systemctl("stop", f"{UNIT}.socket", UNIT, check=False)
        container.systemctl("reset-failed", UNIT, check=False)
        container.run("sh", "-c", "rm -rf /var/lib/wavry-gateway/*")

    def show_journal(self):
        result = getattr(self._outcome, "result", None)
        if result and any(test is self for test, _ in result.failures + result.errors):
            print(container.journal("-u", f"{UNIT}*", lines=60))

    def certificate(self):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                        "2", "-subj", "/CN=gateway.test", "-keyout", self.path("tls.key"), "-out", self.path("tls.pem")],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30)
        container.run("install", "-d", "-m", "750", "-g", "wavry-gateway", FOLDER, check=True)
        for name in ("tls.pem", "tls.key"):
            with open(self.path(name)) as f:
                container.write(f"{FOLDER}/{name}", f.read())
            container.run("chgrp", "wavry-gateway", f"{FOLDER}/{name}", check=True)
            container.run("chmod", "640", f"{FOLDER}/{name}", check=True)

    def connect(self, timeout=30):
        context = ssl.create_default_context(cafile=self.path("tls.pem"))
        context.check_hostname = False
        return http.client.HTTPSConnection(container.address, 443, timeout=timeout, context=context)

    @staticmethod
    def pid():
        return int(container.show(UNIT, "MainPID")["MainPID"])

    @staticmethod
    def is_active():
        return container.show(UNIT, "ActiveState")["ActiveState"] == "active"

    def add_admin(self, name="admin", password=PASSWORD):
        result = container.run("sh", "-c", f"echo '{password}' | wavry-gateway admin add {name}")
        self.assertEqual(result.returncode, 0, result.stdout)

    def test_from_the_installation_to_the_first_sign_in(self):
        self.assertEqual(self.ok("GET", "/readyz")["status"], "ready")
        self.add_admin()  # as root, beside the gateway: the database stays the gateway's
        owners = container.run("sh", "-c", "stat -c '%U %a' /var/lib/wavry-gateway/gateway.db*").stdout
        self.assertEqual(set(owners.splitlines()), {"wavry-gateway 600"})
        self.assertRegex(container.run("ps", "-o", "user:20=", "-p", str(self.pid())).stdout, "^wavry-gateway *$")
        token, host = self.login(), Machine()
        self.register(token, "hosts", host, "desk")
        self.machine_login(host)
        metrics = container.run("python3", "-c", "import socket; s = socket.socket(socket.AF_UNIX); "
                                "s.connect('/run/wavry-gateway/metrics.sock'); s.sendall(b'GET /metrics HTTP/1.0\\r\\n\\r\\n'); "
                                "print(b''.join(iter(lambda: s.recv(65536), b'')).decode())")
        if metrics.returncode == 0:  # the container may have no Python
            self.assertIn("wavry_gateway_machine_logins_total 1", metrics.stdout)

    def test_killed_and_what_was_acknowledged(self):
        self.add_admin()
        token = self.login()
        self.add_account(token, "bob")
        for _ in range(3):
            old = self.pid()
            container.run("kill", "-KILL", str(old), check=True)
            self.ok("GET", "/v1/account", token=token)  # waits in the socket until the next one serves
            wait_for(lambda: self.pid() not in (0, old) and self.is_active(), 20, "a new gateway")
        self.login("bob")

    def test_reload_and_stop(self):
        self.ok("GET", "/healthz")
        held, old = self.connect(), self.pid()
        self.ok("GET", "/healthz", connection=held)
        first = held.sock.getpeercert(True)
        self.certificate()
        container.systemctl("reload", UNIT)

        def renewed():
            fresh = self.connect()
            self.ok("GET", "/healthz", connection=fresh)
            shown = fresh.sock.getpeercert(True)
            fresh.close()
            return shown != first
        wait_for(renewed, 20, "the new certificate")
        self.ok("GET", "/healthz", connection=held)
        held.close()
        self.assertEqual(self.pid(), old)
        container.write("/etc/wavry/gateway.conf", "[gateway]\nnonsense=1\n")
        self.assertNotEqual(container.run("systemctl", "reload", UNIT).returncode, 0)
        self.ok("GET", "/healthz")
        self.stop_unit()
        wait_for(lambda: not self.is_active(), 20, "the end")
        with self.assertRaises(OSError):
            self.ok("GET", "/healthz")

    def test_confinement(self):
        said = container.run("systemd-analyze", "security", f"{UNIT}.service", "--no-pager").stdout
        exposure = float(re.search(r"exposure level[^:]*: ([0-9.]+)", said)[1])
        print(f"exposure of the gateway: {exposure}")
        self.assertLessEqual(exposure, EXPOSURE)
        with open(f"/proc/{container.host_pid(self.pid())}/status") as f:
            status = f.read()
        self.assertRegex(status, r"CapEff:\s+0+\n")
        self.assertRegex(status, r"NoNewPrivs:\s+1\n")
        self.assertRegex(status, r"Seccomp:\s+2\n")


if __name__ == "__main__":
    unittest.main()
