#!/usr/bin/env python3
"""wavry-gateway on a database that takes nothing for a while, SQLite or, when WAVRY_TEST_POSTGRES names one, PostgreSQL: a
full disk and one that may only be read, while it runs and when it starts. What is refused says why, reading, sign-ins by
key and signaling go on, nothing acknowledged is lost, and it goes on by itself."""
import os
import subprocess
import unittest

from gateway_kit import NAME, PASSWORD, GatewayTest, Machine
from harness import BIN, wait_for
from signal_kit import Socket

POSTGRES = os.environ.get("WAVRY_TEST_POSTGRES")
SMALL = os.environ.get("WAVRY_TEST_POSTGRES_SMALL")
MEBIBYTE = bytes(1 << 20)


def sql(*statements):
    for statement in statements:
        subprocess.run(["psql", "-q", "-d", POSTGRES, "-c", statement], check=True, timeout=60, stdout=subprocess.DEVNULL)


@unittest.skipIf(os.geteuid() != 0 or (POSTGRES and not SMALL), "needs root to mount a small disk")
class Store(GatewayTest):
    def setUp(self):
        super().setUp()
        self.space = None
        if POSTGRES:
            self.disk = SMALL
            return
        # A small disk in a mount namespace that lives as long as this test; its files are reached through /proc.
        os.mkdir(self.path("disk"))
        self.space = self.start("space", ["unshare", "-m", "sh", "-c",
                                          f"mount -t tmpfs -o size=1500k none {self.path('disk')} && echo up && exec sleep 600"])
        wait_for(lambda: "up" in self.read_log("space"), 20, "the small disk")
        self.disk = f"/proc/{self.space.pid}/root{self.path('disk')}"
        self.url = f"sqlite:{self.path('disk')}/gateway.db"

    def database(self):
        if not POSTGRES:
            return super().database()
        self.base = "t" + os.urandom(8).hex()
        sql(f"CREATE DATABASE {self.base} TABLESPACE small")
        self.addCleanup(sql, f"DROP DATABASE {self.base} WITH (FORCE)")
        return POSTGRES.replace("/postgres?", f"/{self.base}?")

    def inside(self, *command, **more):
        """Where the small disk is."""
        inside = ["nsenter", "-t", str(self.space.pid), "-m", "--"] if self.space else []
        return subprocess.run([*inside, *command], timeout=60, text=True, check=False, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, **more)

    def command(self, *arguments, stdin="", database=None):
        return self.inside(f"{BIN}/wavry-gateway", "--set", f"database={database or self.url}", *arguments, input=stdin)

    def gateway_inside(self, name="gateway"):
        inside = ["nsenter", "-t", str(self.space.pid), "-m", "--"] if self.space else []
        process = self.start(name, [*inside, f"{BIN}/wavry-gateway", "--set", f"names={NAME}", "--set", "listen=127.0.0.1:0",
                                    "--set", f"database={self.url}", "--set", f"metrics_socket={self.path(name)}.metrics", "--set",
                                    "requests_per_s=1000", "--set", "machines_per_account=100000", "--set", "logins_per_minute=1000"])
        return process

    def fill(self):
        """All that is left of the disk, into one file."""
        with open(f"{self.disk}/ballast", "wb", buffering=0) as f:
            try:
                while True:
                    f.write(MEBIBYTE)
            except OSError:
                pass

    def free(self):
        os.unlink(f"{self.disk}/ballast")

    def make_read_only(self, yes=True):
        if POSTGRES:
            sql(f"ALTER DATABASE {self.base} " + ("SET default_transaction_read_only = on" if yes else
                                                  "RESET default_transaction_read_only"))
        else:
            self.assertEqual(self.inside("mount", "-o", "remount," + ("ro" if yes else "rw"), self.path("disk")).returncode, 0)

    def cut(self):
        sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{self.base}'")

    def serve(self):
        """A gateway with a host and a device that are signed in."""
        self.add_admin()
        self.process = self.gateway_inside()
        self.wait_serving(self.process)
        self.token, self.host, self.device = self.login(), Machine(), Machine()
        self.register(self.token, "hosts", self.host, "desk")
        self.register(self.token, "devices", self.device, "laptop")
        self.at_host, self.at_device = self.link(self.host), self.link(self.device)
        self.names = set()

    def link(self, machine, token=None):
        s = Socket(self.port, self.api)
        self.addCleanup(s.close)
        s.hello(token or self.machine_login(machine))
        return s

    def check_signaling(self, sender, receiver):
        sender.send({"type": "signal", "id": "1", "to": self.host.key, "sealed": "AAAA"})
        self.assertEqual(receiver.next()["type"], "signal")
        self.assertEqual(sender.next()["type"], "sent")

    def write(self, i):
        """A change: its answer. The name of what was acknowledged is kept."""
        machine, name = Machine(), f"{i} " + "x" * 50
        asked = self.ok("POST", "/v1/challenge", {"key": machine.key})
        answer = self.request("POST", "/v1/devices", machine.registration(asked, name), self.token)
        if answer.status == 201:
            self.names.add(name)
        return answer

    def check_acknowledged(self):
        there = {d["name"] for d in self.ok("GET", "/v1/devices", token=self.token)["devices"]}
        self.assertEqual(there, self.names | {"laptop"})

    def spare_login(self):
        """By its key, into the memory of the gateway: the first challenge may be from before the trouble was known."""
        def attempt():
            challenge = self.ok("POST", "/v1/challenge", {"key": self.device.key})["challenge"]
            answer = self.request("POST", "/v1/session", self.device.proof(challenge))
            return answer.status == 200 and (self.device.proof(challenge), answer["token"])
        return wait_for(attempt, 20, "a sign-in by key")

    def check_trouble(self, word):
        """Everything but changes goes on; changes are refused with WORD."""
        answer = self.refused(word, "POST", "/v1/login", {"account": "admin", "password": PASSWORD})
        self.assertEqual(answer.status, 503)
        self.assertIn("retry-after", answer.headers)
        self.assertIn("operator", answer["message"])
        self.assertEqual(self.write("refused").error, word)
        self.counted(f"refused_{word}_total", 2)
        wait_for(lambda: self.metric("store_writable") == 0, 20, "the metric")
        self.ok("GET", "/healthz")
        self.assertEqual(self.refused(word, "GET", "/readyz").status, 503)
        self.check_acknowledged()
        self.check_signaling(self.at_device, self.at_host)
        proof, spare = self.spare_login()
        self.counted("spare_logins_total")
        self.refused("challenge_used", "POST", "/v1/session", proof)
        self.ok("GET", "/v1/hosts", token=spare)
        self.refused("person_only", "GET", "/v1/audit", token=spare)
        wrong = {"account": "admin", "password": "not that one"}  # counted, although the log can't take it
        self.assertTrue(any(self.request("POST", "/v1/login", wrong).error == "login_limited" for _ in range(40)))
        again = self.link(self.device, spare)
        self.at_device = again
        self.check_signaling(again, self.at_host)
        said = {"store_full": "No space left", "store_read_only": "Read-only"}[word]
        self.assertEqual(self.read_log("gateway").count(f'the database refuses error="{said}'), 1, self.read_log("gateway"))
        return spare

    def check_recovery(self, spare):
        wait_for(lambda: self.request("GET", "/readyz").status == 200 and self.metric("store_writable"), 30,
                 "a gateway that is ready again")
        wait_for(lambda: self.write("after").status == 201, 30, "a write")  # over whichever connection to the database
        self.check_acknowledged()
        self.ok("GET", "/v1/hosts", token=spare)
        self.ok("POST", "/v1/logout", token=spare, status=204)
        self.refused("bad_token", "GET", "/v1/hosts", token=spare)
        self.check_signaling(self.at_device, self.at_host)
        self.assertIn("the database takes everything again", self.read_log("gateway"))
        self.process.kill()  # what was acknowledged is there for the next one, too
        self.process.wait()
        self.process = self.gateway_inside("second")
        self.wait_serving(self.process, "second")
        self.check_acknowledged()

    def test_a_disk_that_becomes_full(self):
        self.serve()
        self.fill()
        for i in range(3000):
            answer = self.write(i)
            if answer.status != 201:
                break
        self.assertEqual((answer.status, answer.error), (503, "store_full"))
        spare = self.check_trouble("store_full")
        self.free()
        self.check_recovery(spare)

    @unittest.skipUnless(POSTGRES, "SQLite's file stays open for writing: tests/unit/test_store.c")
    def test_a_database_that_becomes_read_only(self):
        self.serve()
        self.write(0)
        self.make_read_only()
        self.cut()
        wait_for(lambda: self.request("POST", "/v1/account/totp", token=self.token).error == "store_read_only", 30, "read-only")
        spare = self.check_trouble("store_read_only")
        self.make_read_only(False)  # connections are made anew without being cut
        self.check_recovery(spare)

    def test_a_start_on_one_that_takes_nothing(self):
        self.add_admin()
        self.fill()
        process = self.gateway_inside("full")
        self.assertEqual(process.wait(30), 74, self.read_log("full"))
        self.assertIn("free space on the database's disk", self.read_log("full"))
        if not POSTGRES:
            self.assertIn("gateway.db", self.read_log("full"))
        self.free()
        self.make_read_only()
        process = self.gateway_inside("locked")
        self.assertEqual(process.wait(30), 77, self.read_log("locked"))
        self.assertIn("let the gateway's user write", self.read_log("locked"))
        told = self.command("admin", "add", "eve", stdin=PASSWORD + "\n")
        self.assertEqual(told.returncode, 77, told.stdout)
        self.assertIn("let the gateway's user write", told.stdout)
        self.make_read_only(False)
        self.process = self.gateway_inside()
        self.wait_serving(self.process)
        self.login()


if __name__ == "__main__":
    unittest.main()
