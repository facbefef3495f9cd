#!/usr/bin/env python3
"""wavry-gateway as a process, over SQLite or, when WAVRY_TEST_POSTGRES names one, PostgreSQL: accounts, sign-in,
machines, shares, administration, and everything that a stranger may send. docs/openapi.yaml is checked by the way."""
import concurrent.futures
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import time
import unittest

from gateway_kit import NAME, PASSWORD, GatewayTest, Machine, b64, totp
from harness import BIN, wait_for

POSTGRES = os.environ.get("WAVRY_TEST_POSTGRES")
EVIL = ["'; DROP TABLE accounts; --", 'x" OR "1"="1', "$1", "%s%n", "a\\'b", "Robert'); DELETE FROM tokens; --", "名前 ünï"]


class People(GatewayTest):
    def setUp(self):
        super().setUp()
        self.add_admin()
        self.gateway()
        self.token = self.login()

    def test_the_file_names_every_route_and_no_other(self):
        listed = self.command("routes")
        routes = {tuple(line.split()) for line in listed.stdout.splitlines()}
        self.assertEqual(routes, set(self.api.operations))

    def test_sign_in_and_out(self):
        answer = self.ok("POST", "/v1/login", {"account": "ADMIN", "password": PASSWORD})  # names have no case
        self.assertGreater(answer["expires"], time.time() + 3600)
        token = answer["token"]
        self.assertEqual(self.ok("GET", "/v1/account", token=token)["name"], "admin")
        self.ok("POST", "/v1/logout", token=token, status=204)
        self.refused("bad_token", "GET", "/v1/account", token=token)
        self.refused("no_token", "GET", "/v1/account")
        self.refused("bad_token", "GET", "/v1/account", token=b64(bytes(32)))
        self.refused("no_token", "GET", "/v1/account", token="short")
        self.assertEqual(self.counted("refused_unauthorized_total", 4), True)

    def test_who_does_not_exist_is_answered_like_a_wrong_password(self):
        wrong = self.refused("credentials", "POST", "/v1/login", {"account": "admin", "password": "not that one"})
        nobody = self.refused("credentials", "POST", "/v1/login", {"account": "nobody", "password": "not that one"})
        self.assertEqual((wrong.status, wrong.body), (nobody.status, nobody.body))
        # The same work: Argon2id was run for both, and for the sign-in before.
        self.counted("password_seconds_count", 3)
        self.assertEqual(self.counted("refused_credentials_total", 2), True)

    def confirm(self, token):
        """Sets an authenticator up. Returns (secret, the code that was used, recovery codes)."""
        secret = self.ok("POST", "/v1/account/totp", token=token)["secret"]
        code = totp(secret)
        return secret, code, self.ok("POST", "/v1/account/totp/confirm", {"totp": code}, token)["recovery"]

    @staticmethod
    def wrong_code(secret):
        """One that is not right at any time within hours."""
        near = {totp(secret, time.time() + 30 * step) for step in range(-300, 301)}
        return next(f"{code:06}" for code in range(10**6) if f"{code:06}" not in near)

    def test_codes(self):
        secret, used, codes = self.confirm(self.token)
        wrong = {"account": "admin", "password": PASSWORD}
        self.refused("code_needed", "POST", "/v1/login", wrong)
        self.refused("credentials", "POST", "/v1/login", {**wrong, "totp": self.wrong_code(secret)})
        self.refused("code_used", "POST", "/v1/login", {**wrong, "totp": used})
        code = totp(secret, time.time() + 30)  # the next one counts, too: once
        self.ok("POST", "/v1/login", {**wrong, "totp": code})
        self.refused("code_used", "POST", "/v1/login", {**wrong, "totp": code})
        self.refused("credentials", "POST", "/v1/login", {**wrong, "password": "not that one", "totp": code})
        self.counted("refused_code_used_total", 2)
        # Recovery codes: as typed, once.
        self.ok("POST", "/v1/login", {**wrong, "recovery": codes[3].lower().replace("-", " ")})
        self.refused("credentials", "POST", "/v1/login", {**wrong, "recovery": codes[3]})
        self.counted("recoveries_total")
        # New ones end the old ones; the authenticator can go.
        new = self.ok("POST", "/v1/account/recovery", {"recovery": codes[4]}, self.token)["recovery"]
        self.refused("credentials", "POST", "/v1/login", {**wrong, "recovery": codes[5]})
        self.refused("code_needed", "POST", "/v1/account/totp/remove", {}, self.token)
        self.refused("conflict", "POST", "/v1/account/totp", token=self.token)
        self.ok("POST", "/v1/account/totp/remove", {"recovery": new[0]}, self.token, 204)
        self.ok("POST", "/v1/login", wrong)

    def test_a_clock_that_is_wrong_by_an_hour_is_named(self):
        secret, _, _ = self.confirm(self.token)
        for away, word in ((-3600, "ago"), (3600, "from now")):
            answer = self.refused("clock", "POST", "/v1/login", {
                "account": "admin", "password": PASSWORD, "totp": totp(secret, time.time() + away)})
            self.assertIn(word, answer["message"])
        self.counted("refused_clock_total", 2)
        # Without the password nobody learns that.
        self.refused("credentials", "POST", "/v1/login", {
            "account": "admin", "password": "not that one", "totp": totp(secret, time.time() - 3600)})

    def test_a_code_that_was_told_to_be_of_later_is_worth_nothing_then(self):
        """Or who has the password could guess until the clock is blamed, and come back at that time."""
        secret, _, _ = self.confirm(self.token)
        now = time.time()
        tried = {"account": "admin", "password": PASSWORD, "totp": totp(secret, now + 60)}
        answer = self.request("POST", "/v1/login", tried)
        if now // 30 == time.time() // 30:  # else its time has begun in between: it is used up either way
            self.assertEqual(answer.error, "clock")
        time.sleep(max(0, (now // 30 + 1) * 30 + 1 - time.time()))
        self.refused("code_used", "POST", "/v1/login", tried)

    def test_a_new_password_ends_other_tokens(self):
        other = self.login()
        self.refused("credentials", "POST", "/v1/account/password", {"password": "not that one", "new": "x" * 12}, self.token)
        self.refused("bad_field", "POST", "/v1/account/password", {"password": PASSWORD, "new": "short"}, self.token)
        self.ok("POST", "/v1/account/password", {"password": PASSWORD, "new": "another good one"}, self.token, 204)
        self.ok("GET", "/v1/account", token=self.token)
        self.refused("bad_token", "GET", "/v1/account", token=other)
        self.refused("credentials", "POST", "/v1/login", {"account": "admin", "password": PASSWORD})
        self.login(password="another good one")

    def test_the_page_needs_its_header(self):
        answer = self.ok("POST", "/v1/login", {"account": "admin", "password": PASSWORD, "cookie": True})
        self.assertNotIn("token", answer.body)
        cookie = answer.headers["set-cookie"]
        for word in ("HttpOnly", "Secure", "SameSite=Strict", "Path=/"):
            self.assertIn(word, cookie)
        cookie = {"Cookie": "other=1; " + cookie.split(";")[0]}
        self.assertEqual(self.ok("GET", "/v1/account", headers=cookie)["csrf"], answer["csrf"])
        self.refused("csrf", "POST", "/v1/logout", headers=cookie)
        self.refused("csrf", "POST", "/v1/logout", headers={**cookie, "X-Wavry-CSRF": b64(bytes(32))})
        self.counted("refused_forbidden_total", 2)
        done = self.ok("POST", "/v1/logout", headers={**cookie, "X-Wavry-CSRF": answer["csrf"]}, status=204)
        self.assertIn("Max-Age=0", done.headers["set-cookie"])
        self.refused("bad_token", "GET", "/v1/account", headers=cookie)

    def test_administration(self):
        bob = self.add_account(self.token, "Bob")
        token = self.login("bob")
        self.refused("exists", "POST", "/v1/accounts", {"name": "BOB", "password": PASSWORD}, self.token)
        self.refused("bad_name", "POST", "/v1/accounts", {"name": " bob", "password": PASSWORD}, self.token)
        for method, path, body in (("GET", "/v1/accounts", None), ("POST", "/v1/accounts", {"name": "x", "password": PASSWORD}),
                                   ("PATCH", f"/v1/accounts/{bob}", {"admin": True})):
            self.refused("not_admin", method, path, body, token)
        self.refused("not_admin", "GET", "/v1/audit?all=1", token=token)
        self.ok("PATCH", f"/v1/accounts/{bob}", {"disabled": True}, self.token)
        self.refused("bad_token", "GET", "/v1/account", token=token)
        self.refused("credentials", "POST", "/v1/login", {"account": "bob", "password": PASSWORD})
        self.ok("PATCH", f"/v1/accounts/{bob}", {"disabled": False, "password": "a new password", "admin": True}, self.token)
        self.ok("GET", "/v1/accounts", token=self.login("bob", "a new password"))
        me = self.ok("GET", "/v1/account", token=self.token)["id"]
        for change in ({"admin": False}, {"disabled": True}, {"totp": False}, {"password": "of who stole the token"}):
            self.refused("conflict", "PATCH", f"/v1/accounts/{me}", change, self.token)
        self.refused("not_found", "PATCH", "/v1/accounts/" + "0" * 32, {"admin": True}, self.token)
        names = [a["name"] for a in self.ok("GET", "/v1/accounts", token=self.token)["accounts"]]
        self.assertEqual(names, ["admin", "Bob"])
        actions = [line["action"] for line in self.ok("GET", "/v1/audit?all=1&limit=200", token=self.token)["audit"]]
        for action in ("account added", "account changed", "login", "login refused", "administrator added"):
            self.assertIn(action, actions)
        own = self.ok("GET", "/v1/audit", token=self.token)["audit"]
        paged, last = [], ""  # one line at a time is the same, also where many are of one second
        while page := self.ok("GET", f"/v1/audit?limit=1{last}", token=self.token)["audit"]:
            paged += page
            last = f"&before={page[0]['at']}&before_id={page[0]['id']}"
        self.assertEqual(paged, own)
        self.refused("bad_field", "GET", f"/v1/audit?before_id={own[0]['id']}", token=self.token)
        self.refused("bad_field", "GET", "/v1/audit?before=1&before_id=%27%3B--", token=self.token)
        self.refused("bad_field", "GET", "/v1/audit?limit=201", token=self.token)
        self.assertTrue(all(line["account"] == me for line in own))

    def test_sql_in_names_is_text(self):
        for name in EVIL:
            self.add_account(self.token, name)
            self.login(name)
        for name in EVIL:
            path = "".join(f"%{byte:02X}" for byte in name.encode())
            self.refused("not_found", "PATCH", f"/v1/accounts/{path}", {"admin": True}, self.token)
        names = [a["name"] for a in self.ok("GET", "/v1/accounts", token=self.token)["accounts"]]
        self.assertEqual(sorted(names), sorted(EVIL + ["admin"]))


class Machines(GatewayTest):
    def setUp(self):
        super().setUp()
        self.add_admin()
        self.gateway()
        self.token = self.login()

    def challenge(self, machine):
        return self.ok("POST", "/v1/challenge", {"key": machine.key})["challenge"]

    def registration(self, machine, name, **more):
        return machine.registration(self.ok("POST", "/v1/challenge", {"key": machine.key}), name, **more)

    def test_nobody_registers_the_key_of_another(self):
        """A host's key is no secret: who was told it must not take it at the gateway before its owner does."""
        owner, thief = Machine(), Machine()
        self.add_account(self.token, "eve")
        eve = self.login("eve")
        # All that the thief can make: his own sign key proves itself, and nothing proves the other one.
        thief.key, thief.x_public = owner.key, owner.x_public
        answer = self.refused("proof", "POST", "/v1/hosts", self.registration(thief, "desk"), eve)
        self.assertIn("must hold its secret", answer["message"])
        self.refused("proof", "POST", "/v1/devices", self.registration(thief, "desk"), eve)
        self.refused("bad_field", "POST", "/v1/hosts", {**self.registration(owner, "desk"), "key_proof": "=" * 43}, eve)
        missing = self.registration(owner, "desk")
        del missing["key_proof"]
        self.refused("bad_field", "POST", "/v1/hosts", missing, eve)
        # The owner's proof, overheard, is for his own sign key, this challenge and this gateway.
        good = self.registration(owner, "desk")
        self.refused("proof", "POST", "/v1/hosts", {**self.registration(thief, "desk"), "key_proof": good["key_proof"]}, eve)
        stolen = {**thief.proof(good["challenge"]), "sign_key": thief.sign_key, "name": "desk", "key_proof": good["key_proof"]}
        self.refused("proof", "POST", "/v1/hosts", stolen, eve)
        self.refused("proof", "POST", "/v1/hosts", self.registration(owner, "desk", gateway="evil.test:443"), eve)
        elsewhere = self.registration(owner, "desk", gateway="evil.test:443")["key_proof"]
        self.refused("proof", "POST", "/v1/hosts", {**self.registration(owner, "desk"), "key_proof": elsewhere}, eve)
        self.counted("refused_proof_total", 6)
        lines = [line for line in self.ok("GET", "/v1/audit", token=eve)["audit"] if line["subject"] == owner.key]
        self.assertEqual({line["action"] for line in lines}, {"host refused", "device refused"})
        self.assertEqual(len(lines), 5)
        self.ok("POST", "/v1/hosts", good, self.token, 201)
        self.refused("challenge_used", "POST", "/v1/hosts", good, self.token)

    def test_a_machine_signs_in_by_its_key(self):
        host, device = Machine(), Machine()
        self.refused("unknown_machine", "POST", "/v1/session", host.proof(self.challenge(host)))
        self.register(self.token, "hosts", host, "desk")
        self.register(self.token, "devices", device, "laptop")
        for machine in (host, device):
            token = self.machine_login(machine)
            self.assertEqual(self.ok("GET", "/v1/hosts", token=token)["hosts"][0]["name"], "desk")
            self.refused("person_only", "GET", "/v1/accounts", token=token)
            self.refused("person_only", "POST", "/v1/account/totp", token=token)
            self.refused("person_only", "DELETE", f"/v1/hosts/{host.key}", token=token)
        self.counted("machine_logins_total", 2)
        # The key's owner is told to whom it belongs, and a second registration is refused.
        answer = self.refused("exists", "POST", "/v1/devices", self.registration(host, "other"), self.token)
        self.assertEqual(answer.status, 409)
        self.refused("exists", "POST", "/v1/hosts", self.registration(Machine(), "desk"), self.token)
        # Gone is gone, its token with it.
        token = self.machine_login(device)
        self.refused("not_found", "DELETE", f"/v1/hosts/{device.key}", token=self.token)  # it is no host
        self.ok("DELETE", f"/v1/devices/{device.key}", token=self.token, status=204)
        self.refused("bad_token", "GET", "/v1/hosts", token=token)
        self.refused("not_found", "DELETE", f"/v1/devices/{device.key}", token=self.token)
        self.assertEqual(self.ok("GET", "/v1/devices", token=self.token)["devices"], [])

    def test_signatures_that_prove_nothing(self):
        host, other = Machine(), Machine()
        self.register(self.token, "hosts", host, "desk")
        used = host.proof(self.challenge(host))
        self.ok("POST", "/v1/session", used)
        self.refused("challenge_used", "POST", "/v1/session", used)
        self.refused("proof", "POST", "/v1/session", host.proof(self.challenge(host), "evil.test:443"))
        self.ok("POST", "/v1/session", host.proof(self.challenge(host), "[::1]:9"))  # its other name
        self.refused("proof", "POST", "/v1/session", host.proof(self.challenge(other)))
        self.refused("proof", "POST", "/v1/session", host.proof(b64(os.urandom(32))))
        self.refused("proof", "POST", "/v1/session", {**other.proof(self.challenge(host)), "key": host.key})
        self.refused("bad_field", "POST", "/v1/session", {**host.proof(self.challenge(host)), "signature": "=" * 86})
        self.refused("bad_key", "POST", "/v1/challenge", {"key": "wavry1AAAA"})
        self.refused("bad_key", "POST", "/v1/challenge", {"key": "wavry1" + "A" * 43})  # a point of low order
        self.counted("refused_proof_total", 5)

    def test_machines_of_one_account_are_bounded(self):
        self.processes["gateway"].terminate()
        self.assertEqual(self.processes["gateway"].wait(30), 0)
        self.gateway("--set", "machines_per_account=2", name="bounded")
        self.register(self.token, "hosts", Machine(), "first")
        self.register(self.token, "devices", second := Machine(), "second")
        self.refused("too_many", "POST", "/v1/devices", self.registration(Machine(), "third"), self.token)
        self.refused("too_many", "POST", "/v1/hosts", self.registration(Machine(), "third"), self.token)
        self.add_account(self.token, "bob")  # somebody else's are not counted
        self.register(self.login("bob"), "hosts", Machine(), "his")
        self.ok("DELETE", f"/v1/devices/{second.key}", token=self.token, status=204)
        self.register(self.token, "hosts", Machine(), "third")

    def test_sharing(self):
        bob = self.add_account(self.token, "bob")
        self.add_account(self.token, "eve")
        host = Machine()
        self.register(self.token, "hosts", host, "desk")
        shares = f"/v1/hosts/{host.key}/shares"
        bob_token, eve_token = self.login("bob"), self.login("eve")
        self.refused("not_found", "POST", shares, {"account": "bob", "grants": ["view"]}, eve_token)
        self.refused("not_found", "POST", shares, {"account": "nobody", "grants": ["view"]}, self.token)
        self.refused("conflict", "POST", shares, {"account": "admin", "grants": ["view"]}, self.token)
        for bad in ([], ["root"], ["view", "view"], [1], "view"):
            self.refused("bad_field", "POST", shares, {"account": "bob", "grants": bad}, self.token)
        self.ok("POST", shares, {"account": "bob", "grants": ["view"]}, self.token)
        self.ok("POST", shares, {"account": "Bob", "grants": ["view", "input"]}, self.token)
        seen = self.ok("GET", "/v1/hosts", token=bob_token)["hosts"]
        self.assertEqual([(h["key"], h["shared"], h["grants"]) for h in seen], [(host.key, True, "view,input")])
        self.assertEqual(self.ok("GET", "/v1/hosts", token=eve_token)["hosts"], [])
        self.assertEqual(self.ok("GET", shares, token=eve_token)["shares"], [])
        self.assertEqual([s["account"] for s in self.ok("GET", shares, token=self.token)["shares"]], [bob])
        self.refused("not_found", "DELETE", f"{shares}/{bob}", token=eve_token)
        self.refused("not_found", "DELETE", f"/v1/hosts/{host.key}", token=bob_token)
        self.ok("DELETE", f"{shares}/{bob}", token=self.token, status=204)
        self.assertEqual(self.ok("GET", "/v1/hosts", token=bob_token)["hosts"], [])


class Strangers(GatewayTest):
    def raw(self, data, read=True):
        """Sends bytes and returns all that comes back until the gateway closes, or until its answer ends."""
        with socket.create_connection(("127.0.0.1", self.port), 30) as s:
            s.sendall(data)
            text = b""
            while read:
                try:
                    more = s.recv(65536)
                except ConnectionResetError:
                    break
                if not more:
                    break
                text += more
                head, _, body = text.partition(b"\r\n\r\n")
                lengths = [int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length")]
                if lengths and len(body) >= lengths[0]:
                    break
            return text

    def post(self, body, path="/v1/login"):
        return self.request("POST", path, raw=body)

    def alive(self):
        self.ok("GET", "/healthz")
        self.ok("GET", "/readyz")

    def test_json_of_strangers(self):
        self.gateway()
        good = '{"account":"a","password":"b"}'
        for body, error in (
                (b"", "bad_field"), (b"{", "bad_json"), (b"[]", "bad_json"), (b"null", "bad_json"), (b'"x"', "bad_json"),
                (b'{"account":"a","account":"b","password":"c"}', "bad_json"),
                (b'{"account":"a","password":"c","extra":1}', "bad_field"),
                (b'{"account":1,"password":"c"}', "bad_field"), (b'{"account":"a","password":null}', "bad_field"),
                (b'{"account":"a\\u0000b","password":"c"}', "bad_json"), (b'{"account":"\xff","password":"c"}', "bad_json"),
                (b'{"account":"a\\u0007","password":"c"}', "bad_field"),
                (b'{"account":"' + b"a" * 65 + b'","password":"c"}', "bad_field"),
                (b'{"account":' + b"[" * 20 + b"]" * 20 + b',"password":"c"}', "bad_json"),
                (b'{"account":' + b'{"a":' * 10000, "bad_json"), (b"[" * 65536, "bad_json"),
                (b'{"account":1e999,"password":"c"}', "bad_json"), (good.encode() + b"x", "bad_json")):
            answer = self.post(body)
            self.assertEqual((answer.status, answer.error), (400, error), body[:60])
        self.counted("refused_bad_request_total", 15)
        self.alive()

    def test_bodies_and_heads_of_strangers(self):
        self.gateway()
        self.assertEqual(self.post(b" " * 65537).error, "too_large")
        self.counted("refused_too_large_total")
        self.assertEqual(self.request("POST", "/v1/login", raw=b"{}", headers={"Content-Type": "text/plain"}).error, "bad_type")
        self.assertEqual(self.request("POST", "/v1/logout", raw=b"{}").error, "no_token")
        self.refused("bad_request", "POST", "/v1/logout", {"x": 1}, b64(bytes(32)))
        self.refused("bad_method", "GET", "/v1/login")
        self.refused("not_found", "GET", "/v1/nothing")
        self.refused("not_found", "GET", "/etc/passwd")
        self.refused("upgrade", "GET", "/v1/signal")
        head = b"POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        for more, word in ((b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", b"length_required"),
                           (b"\r\n", b"length_required"), (b"Content-Length: -1\r\n\r\n", b"bad_request"),
                           (b"Content-Length: 0x10\r\n\r\n", b"bad_request"), (b"Content-Length: 1 2\r\n\r\n", b"bad_request"),
                           (b"Content-Length: 99999999999999999999\r\n\r\n", b"too_large")):
            self.assertIn(word, self.raw(head + more), more)
        for junk in (b"\0" * 5000, b"GET\r\n\r\n", b"\x16\x03\x01" + os.urandom(300), b"GET / HTTP/9.9\r\n\r\n",
                     b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\n\r\n", b"GET /healthz HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
                     b"GET /healthz HTTP/1.1\r\nAuthorization: Bearer " + b"A" * 7000 + b"\r\n\r\n",
                     b"GET /../../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(40),
                     b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
                     b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n" + os.urandom(200)):
            self.raw(junk, read=False)
            self.alive()

    def test_requests_in_a_row_on_one_connection(self):
        self.gateway()
        connection = self.connect()
        for _ in range(50):
            self.ok("GET", "/readyz", connection=connection)
            self.refused("no_token", "GET", "/v1/account", connection=connection)
        connection.close()
        with socket.create_connection(("127.0.0.1", self.port), 30) as s:  # all at once
            s.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
            text = b""
            while text.count(b'{"status":"ready"}') < 20:
                more = s.recv(65536)
                self.assertTrue(more, text[-500:])
                text += more

    def test_nobody_holds_it_up_by_pipelining_bodies(self):
        """libwebsockets 4.1 goes round for ever with a request whose body it read together with what was before it."""
        self.gateway()
        body = json.dumps({"key": Machine().key}).encode()
        head = b"%s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        post, get = head % (b"POST /v1/challenge", len(body)) + body, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
        login = b'{"account": "nobody", "password": "not so secret"}'
        for words, most in ((post + post, 1), (get + post, 1), (get + get + post, 2), (post * 20, 1),
                            (get + head % (b"GET /healthz", 5) + b"hello", 1),
                            (get + b"POST /v1/login HTTP/1.1\r\nHost: x\r\n\r\n", 1),
                            (head % (b"POST /v1/login", len(login)) + login + post, 0)):
            with socket.create_connection(("127.0.0.1", self.port), 30) as s:
                s.sendall(words)
                text = b""
                try:
                    while more := s.recv(65536):
                        text += more
                except ConnectionResetError:
                    pass
            self.assertLessEqual(text.count(b"HTTP/1.1 "), most, words)  # and it was closed
            self.alive()
        connection = self.connect()  # one after the other is what a connection is kept for
        for _ in range(200):
            self.ok("POST", "/v1/challenge", {"key": Machine().key}, connection=connection)
            self.ok("GET", "/healthz", connection=connection)
        connection.close()

    def test_who_is_slow_is_cut(self):
        self.add_admin()
        self.gateway("--set", "patience_s=2")
        head = b"POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        with socket.create_connection(("127.0.0.1", self.port), 60) as s:
            s.sendall(head)
            self.assertEqual(s.recv(1000), b"")
        self.counted("cut_total")
        with socket.create_connection(("127.0.0.1", self.port), 60) as s:
            s.sendall(b"GET /healthz HT")
            try:
                self.assertEqual(s.recv(1000), b"")
            except ConnectionResetError:
                pass
        # Who asks for much and reads nothing: more than the kernel keeps for a connection (tcp_wmem: 4 MiB).
        token = self.login()
        for i in range(12):
            self.add_account(token, f"account {i:060}"[-60:])
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(("127.0.0.1", self.port))
        s.settimeout(60)
        s.sendall(b"GET /v1/accounts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n" % token.encode() * 3000)
        self.counted("requests_total", 20)  # those before were 14
        wait_for(lambda: self.metric("connections") == 0, 60, "it is cut")
        self.counted("cut_total", 2)
        s.close()
        self.alive()

    def test_limits_stop_who_asks_too_much_and_nobody_else(self):
        self.add_admin()
        self.gateway("--set", "requests_per_s=2", "--set", "wrong_per_minute=3", "--set", "logins_per_minute=6",
                     "--set", "trusted_proxies=127.0.0.0/8")
        def attempt(address, account="admin", password="not that one"):
            return self.request("POST", "/v1/login", {"account": account, "password": password},
                                headers={"X-Forwarded-For": f"8.8.8.8, {address}"})
        for _ in range(3):
            self.assertEqual(attempt("192.0.2.1").error, "credentials")
        stopped = attempt("192.0.2.1", password=PASSWORD)
        self.assertEqual((stopped.status, stopped.error), (429, "login_limited"))
        self.assertGreaterEqual(int(stopped.headers["retry-after"]), 1)
        self.assertEqual(attempt("192.0.2.1", "other").error, "credentials")
        # Somebody else at the same account, and the owner, are not concerned. An IPv6 /64 is one address.
        self.assertEqual(attempt("192.0.2.2", password=PASSWORD).status, 200)
        errors = []
        while "login_limited" not in errors and len(errors) < 40:  # one is forgotten in 10 s
            errors.append(attempt(f"2001:db8::{len(errors)}", f"name{len(errors)}").error)
        self.assertGreaterEqual(errors.count("credentials"), 6)
        self.assertEqual(errors[-1], "login_limited")
        self.assertEqual(attempt("2001:db8:0:1::1", "name99").error, "credentials")
        self.counted("refused_login_limited_total", 2)
        # What is right is forgiven: signing in again and again is no attack.
        for _ in range(8):
            self.assertEqual(attempt("192.0.2.3", password=PASSWORD).status, 200)
        # All requests of an address, but not the probes.
        seen = ""
        for _ in range(1000):  # two a second pass
            seen = seen if seen == "limited" else self.request("GET", "/v1/account", headers={"X-Forwarded-For": "192.0.2.9"}).error
        self.assertEqual(seen, "limited")
        self.counted("refused_limited_total")
        for _ in range(30):
            self.ok("GET", "/healthz", headers={"X-Forwarded-For": "192.0.2.9"})
        self.assertEqual(self.request("GET", "/v1/account", headers={"X-Forwarded-For": "192.0.2.10"}).error, "no_token")

    def test_wrong_codes_are_counted_by_account_but_only_after_its_password(self):
        self.add_admin()
        self.gateway("--set", "trusted_proxies=127.0.0.0/8", "--set", "wrong_codes_per_hour=3")
        token = self.login()
        secret, used, codes = People.confirm(self, token)
        wrong, hops = People.wrong_code(secret), iter(range(1, 200))
        def attempt(**more):
            return self.request("POST", "/v1/login", {"account": "admin", "password": PASSWORD, **more},
                                headers={"X-Forwarded-For": f"192.0.2.{next(hops)}"})  # each from another address
        for _ in range(10):  # who does not know the password uses nothing up
            self.assertEqual(attempt(password="not that one", totp=wrong).error, "credentials")
        for _ in range(10):  # nor does who signs in and asks for the code then
            self.assertEqual(attempt().error, "code_needed")
        self.assertEqual(attempt(totp=totp(secret, time.time() + 30)).status, 200)  # what is right is forgiven
        for _ in range(3):
            self.assertEqual(attempt(totp=wrong).error, "credentials")
        stopped = attempt(totp=totp(secret))
        self.assertEqual((stopped.status, stopped.error), (429, "login_limited"))
        self.assertGreater(int(stopped.headers["retry-after"]), 60)
        self.assertIn("recovery code", stopped.body["message"])
        # With a token, too: it may be stolen.
        self.refused("login_limited", "POST", "/v1/account/totp/remove", {"totp": totp(secret)}, token)
        # The owner is not locked out.
        self.assertEqual(attempt(recovery=codes[0]).status, 200)
        self.ok("GET", "/v1/account", token=token)

    def test_only_trusted_proxies_are_believed(self):
        self.add_admin()
        self.gateway("--set", "wrong_per_minute=2", "--set", "logins_per_minute=1000")
        for i in range(2):
            self.refused("credentials", "POST", "/v1/login", {"account": "admin", "password": "not that one"},
                         headers={"X-Forwarded-For": f"192.0.2.{i}"})
        self.refused("login_limited", "POST", "/v1/login", {"account": "admin", "password": "not that one"},
                     headers={"X-Forwarded-For": "192.0.2.77"})

    def test_connections_of_one_address(self):
        self.gateway("--set", "connections_per_address=5", "--set", "patience_s=600")
        held = [socket.create_connection(("127.0.0.1", self.port), 30) for _ in range(5)]
        wait_for(lambda: self.metric("connections") == 5, 20, "five connections")
        with socket.create_connection(("127.0.0.1", self.port), 30) as s:
            self.assertEqual(s.recv(10), b"")
        self.counted("accept_refused_total")
        held.pop().close()
        wait_for(lambda: self.metric("connections") == 4, 20, "four connections")
        connection = self.connect()  # one: the gateway sees the end of another only after a while
        self.ok("GET", "/healthz", connection=connection)
        self.ok("GET", "/readyz", connection=connection)
        for s in [*held, connection]:
            s.close()

    def test_a_storm_of_logins_leaves_the_rest_alone(self):
        self.add_admin()
        self.gateway("--set", "wrong_per_minute=10000", "--set", "logins_per_minute=10000", "--set", "requests_per_s=100000")
        body = json.dumps({"account": "admin", "password": "not that one"}).encode()
        head = b"POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        storm = [socket.create_connection(("127.0.0.1", self.port), 60) for _ in range(60)]
        for s in storm:
            s.sendall(head + body[:-1])
        for s in storm:  # all of them at once
            s.sendall(body[-1:])
        served, answers = 0, []
        while storm:
            ready = select.select(storm, [], [], 0)[0]
            for s in ready:
                answer = b""
                while not answer.endswith(b"}"):
                    answer += (more := s.recv(65536))
                    self.assertTrue(more, answer)
                answers.append(answer.decode())
                s.close()
                storm.remove(s)
            if storm:
                self.ok("POST", "/v1/challenge", {"key": Machine().key})
                served += 1
        busy = [a for a in answers if '"busy"' in a]
        wrong = [a for a in answers if '"credentials"' in a]
        self.assertEqual(len(busy) + len(wrong), 60, answers)
        self.assertGreaterEqual(len(wrong), 16)  # what was accepted was done
        self.assertTrue(busy and all(a.startswith("HTTP/1.1 503 ") and "retry-after: " in a for a in busy))
        # While passwords are checked, one after the other, the rest is answered.
        self.assertGreater(served, len(wrong))
        self.counted("refused_busy_total", len(busy))


class Life(GatewayTest):
    def certificate(self):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                        "2", "-subj", "/CN=gateway.test", "-keyout", self.path("tls.key"), "-out", self.path("tls.pem")],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30)

    def with_tls(self):
        self.certificate()
        self.tls = True
        return ("--set", f"tls_certificate={self.path('tls.pem')}", "--set", f"tls_key={self.path('tls.key')}")

    def test_a_large_request_on_a_used_connection_is_answered(self):
        """Head and body in one TLS record, as a browser may send them, is no pipelined request."""
        self.gateway(*self.with_tls(), listen="0")
        key = json.dumps({"key": Machine().key})
        connection = self.connect()
        for size in (100, 3000, 4000, 4090, 4100, 5000, 8000, 12000, 16000, 16384, 20000, 40000, 65536, 100):
            body = key.ljust(size).encode()
            head = (f"POST /v1/challenge HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n").encode()
            self.ok("GET", "/healthz", connection=connection)
            held = connection.sock
            held.sendall(head + body)
            answer = http.client.HTTPResponse(held)
            answer.begin()
            self.assertEqual((answer.status, len(json.loads(answer.read())["challenge"])), (200, 43), size)
            self.ok("POST", "/v1/challenge", {"key": Machine().key}, connection=connection)
            self.assertIs(connection.sock, held)  # still the same
        connection.close()

    def test_tls_and_its_renewal_without_a_break(self):
        process = self.gateway(*self.with_tls(), listen="0")
        held = self.connect()
        self.assertIn("strict-transport-security", self.ok("GET", "/readyz", connection=held).headers)
        first = held.sock.getpeercert(True)
        with open(self.path("tls.key"), "r+") as f:  # one that does not fit: the old one stays
            key = f.read()
            f.seek(0)
            f.write("-----BEGIN NOTHING-----\n")
        process.send_signal(signal.SIGHUP)
        self.counted("reloads_refused_total")
        self.ok("GET", "/readyz")
        with open(self.path("tls.key"), "w") as f:
            f.write(key)
        self.certificate()
        process.send_signal(signal.SIGHUP)
        self.counted("reloads_total")
        fresh = self.connect()
        self.ok("GET", "/readyz", connection=fresh)
        self.assertNotEqual(fresh.sock.getpeercert(True), first)
        self.ok("GET", "/readyz", connection=held)  # the old connection lives on
        held.close()
        fresh.close()
        with socket.create_connection(("127.0.0.1", self.port), 30) as s:  # plain HTTP gets nothing
            s.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            try:
                self.assertNotIn(b"200 OK", s.recv(1000))
            except ConnectionResetError:
                pass

    def test_reload_of_limits(self):
        self.add_admin()
        with open(self.path("gateway.conf"), "w") as f:
            f.write("[gateway]\nwrong_per_minute=1\nlog_level=warning\n")
        process = self.gateway("--config", self.path("gateway.conf"), "--set", "logins_per_minute=1000", "--set",
                               "log_level=info")
        held = self.connect()
        self.ok("GET", "/healthz", connection=held)
        body = {"account": "admin", "password": "not that one"}
        self.refused("credentials", "POST", "/v1/login", body)
        self.refused("login_limited", "POST", "/v1/login", body)
        with open(self.path("gateway.conf"), "w") as f:
            f.write("[gateway]\nwrong_per_minute=100000\n")
        process.send_signal(signal.SIGHUP)
        self.counted("reloads_total")
        wait_for(lambda: self.request("POST", "/v1/login", body).error == "credentials", 20, "the new limit")
        with open(self.path("gateway.conf"), "w") as f:
            f.write("[gateway]\nwrong_per_minut=1\n")
        process.send_signal(signal.SIGHUP)
        self.counted("reloads_refused_total")
        self.said("gateway", "wrong_per_minut")
        self.ok("GET", "/healthz", connection=held)
        held.close()

    def test_drain_answers_what_was_asked(self):
        self.add_admin()
        process = self.gateway()
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(self.request, "POST", "/v1/login", {"account": "admin", "password": PASSWORD}) for _ in range(4)]
            wait_for(lambda: self.metric("requests_total") >= 4, 20, "four requests")
            process.send_signal(signal.SIGTERM)
            self.assertEqual({f.result().status for f in asked}, {200})
        self.assertEqual(process.wait(30), 0)
        with self.assertRaises(OSError):
            self.request("GET", "/healthz")

    def test_what_was_acknowledged_survives_a_kill(self):
        self.add_admin()
        process = self.gateway()
        token = self.login()
        names = []
        for i in range(10):
            self.add_account(token, f"account {i}")
            names.append(f"account {i}")
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.gateway(name="second")
        self.assertEqual([a["name"] for a in self.ok("GET", "/v1/accounts", token=token)["accounts"]], names + ["admin"])

    def test_commands(self):
        bad = self.command("admin", "add", "bob", stdin="short\n")
        self.assertEqual(bad.returncode, 65, bad.stdout)
        self.add_admin("bob")
        self.assertEqual(self.command("admin", "add", "BOB", stdin=PASSWORD + "\n").returncode, 65)
        self.assertEqual(self.command("admin", "add", " x", stdin=PASSWORD + "\n").returncode, 65)
        self.assertEqual(self.command("admin", "disable", "nobody").returncode, 65)
        self.assertEqual(self.command("admin").returncode, 64)
        self.assertEqual(self.command("admin", "paint", "bob").returncode, 64)
        self.assertEqual(self.command("nothing").returncode, 64)
        self.assertIn("schema", self.command("migrate").stdout)
        self.gateway()
        self.login("bob")
        self.assertEqual(self.command("admin", "disable", "Bob").returncode, 0)
        self.refused("credentials", "POST", "/v1/login", {"account": "bob", "password": PASSWORD})
        self.assertIn("bob (administrator) (disabled)", self.command("admin", "list").stdout)
        self.assertEqual(self.command("admin", "enable", "bob").returncode, 0)
        self.assertEqual(self.command("admin", "password", "bob", stdin="another good one\n").returncode, 0)
        self.login("bob", "another good one")
        self.assertEqual(self.command("admin", "no-totp", "bob").returncode, 0)

    def test_configuration_that_is_refused(self):
        for options, word in ((("--set", "names="), "names"), (("--set", "names=a b:0"), "names"),
                              (("--set", "listen=0.0.0.0:0"), "tls_certificate"), (("--set", "listen=x"), "listen"),
                              (("--set", "tls_key=/x"), "tls_certificate"), (("--set", "trusted_proxies=10.0.0.0/33"), "trusted"),
                              (("--set", "tls_certificate=/x", "--set", "tls_key=/y"), "certificate"),
                              (("--set", "nonsense=1"), "nonsense")):
            process = self.gateway(*options, name="refused", ready=False)
            self.assertEqual(process.wait(30), 78, self.read_log("refused"))
            self.assertIn(word, self.read_log("refused"))
        process = subprocess.run([f"{BIN}/wavry-gateway", "--set", "names=a", "--set", "listen=127.0.0.1:0", "--set",
                                  "database=sqlite:/nowhere/x.db"], stderr=subprocess.PIPE, text=True, check=False, timeout=30)
        self.assertNotEqual(process.returncode, 0)
        self.assertIn("database", process.stderr)

    @unittest.skipIf(POSTGRES, "of SQLite")
    def test_backup_while_it_is_written(self):
        self.add_admin()
        self.gateway()
        token = self.login()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            writes = pool.submit(lambda: [self.add_account(token, f"account {i}") for i in range(15)])
            for i in range(5):
                self.assertEqual(self.command("backup", self.path(f"copy{i}.db")).returncode, 0)
            writes.result()
        self.assertEqual(self.command("backup", self.path("copy0.db")).returncode, 73)  # never over another file
        for i in range(5):
            copy = self.command("admin", "list", database="sqlite:" + self.path(f"copy{i}.db"))
            self.assertIn("admin (administrator)", copy.stdout)

    @unittest.skipIf(POSTGRES, "of SQLite")
    def test_a_database_that_can_not_be_written_is_named_at_the_start(self):
        with open(self.path("junk.db"), "w") as f:
            f.write("this is no database" * 100)
        result = self.command("admin", "list", database="sqlite:" + self.path("junk.db"))
        self.assertEqual(result.returncode, 69, result.stdout)
        self.assertIn("not a database", result.stdout)

    @unittest.skipUnless(POSTGRES, "of PostgreSQL")
    def test_two_gateways_of_one_database(self):
        self.add_admin()
        self.gateway(name="one")
        one = self.port
        self.gateway(name="two")
        two, token, host = self.port, self.login(), Machine()
        self.register(token, "hosts", host, "desk")
        proof = host.proof(self.ok("POST", "/v1/challenge", {"key": host.key})["challenge"])
        self.port = one
        self.ok("GET", "/v1/account", token=token)
        self.ok("POST", "/v1/session", proof)  # the other one's challenge
        self.port = two
        self.refused("challenge_used", "POST", "/v1/session", proof)


if __name__ == "__main__":
    unittest.main()
