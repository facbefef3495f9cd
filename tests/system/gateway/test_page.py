#!/usr/bin/env python3
"""The operator's page in a real browser (Chromium without a screen), against a real gateway with TLS: by mouse and by
keyboard, on a desktop and on a phone. With WAVRY_SCREENSHOTS=FOLDER pictures of every view are left there."""
import gzip
import json
import os
import sqlite3
import time
import unittest

from page_kit import PASSWORD, Machine, PageTest, totp
from browser import ENTER, ESCAPE, SPACE, TAB

HOSTILE = ["<script>document.title='owned'</script>", "<img src=x onerror=\"document.title='owned'\">",
           "\"'><b id=owned>&amp;", "a-name-without-any-place-to-break-it-that-is-as-long-as-it-may-b"]
VIEWS = ["hosts", "sessions", "relays", "devices", "audit", "account", "accounts"]


class SignIn(PageTest):
    def test_by_keyboard_alone_with_an_authenticator(self):
        secret, _ = self.confirm_totp()
        b = self.browser
        b.open(self.page())
        b.wait_js("document.activeElement.id === 'field-account'")
        b.keys(("shift", TAB))
        self.assertEqual(b.focused(), "skip")
        b.keys(TAB, "admin", TAB)
        self.assertEqual(b.focused(), "field-password")
        b.keys(PASSWORD, TAB)
        self.assertEqual(b.focused(), "submit sign-in")
        b.keys(SPACE)
        b.wait_js("document.activeElement.id === 'field-code'")
        near = {totp(secret, time.time() + 30 * i) for i in range(-500, 500)}
        wrong = next(code for code in (f"{n:06}" for n in range(10**6)) if code not in near)
        b.keys(wrong, ENTER)
        b.wait_text("The account, password or code is wrong.")
        b.wait_js("document.activeElement.id === 'field-code' && !document.activeElement.value")
        b.keys("12345", ENTER)
        b.wait_text("A code of an authenticator has six digits.")
        b.keys(totp(secret, time.time() + 30), ENTER)  # that of now has confirmed it
        b.wait_js("document.activeElement.id === 'title' && document.activeElement.textContent === 'Hosts'")
        order = []
        for _ in range(9):
            b.keys(("shift", TAB))
            order.append(b.focused())
        self.assertEqual(order, ["Accounts", "My account", "Audit log", "Devices", "Relays", "Sessions", "Hosts",
                                 "sign-out", "skip"])
        b.keys(ENTER)
        self.assertEqual(b.focused(), "main")
        # What has the focus is seen to have it.
        b.keys(("shift", TAB))
        self.assertEqual(b.focused(), "Accounts")
        self.assertNotEqual(b.js("return getComputedStyle(document.activeElement).outlineStyle"), "none")
        b.keys(ENTER)
        b.wait_js("document.activeElement.id === 'title' && document.activeElement.textContent === 'Accounts'")
        # The cookie is not for scripts.
        self.assertEqual(b.js("return document.cookie"), "")

    def test_wrong_password_recovery_code_and_sign_out(self):
        _, codes = self.confirm_totp()
        b = self.browser
        b.open(self.page())
        b.fill("#field-account", "admin")
        b.fill("#field-password", "not that one")
        b.keys(ENTER)
        b.wait_text("The account, password or code is wrong.")
        self.sign_in(code=codes[0].lower())
        b.wait_text("No host is registered.")
        b.open(self.page("relays"))  # again, with the cookie
        b.wait_text("No relay is registered.")
        b.click("#sign-out")
        b.wait_text("You are signed out.")
        b.open(self.page())
        b.find("#sign-in")
        self.assertEqual(b.js("return document.getElementById('nav').checkVisibility()"), False)

    def test_an_ended_session_leads_back_to_the_sign_in(self):
        b = self.browser
        b.open(self.page())
        self.sign_in()
        b.wait_text("No host is registered.")
        self.ok("POST", "/v1/account/password", {"password": PASSWORD, "new": "another good one"}, self.token, 204)
        self.wait_fresh(lambda: "Your sign-in has ended. Sign in again." in b.text(), "the end")
        b.wait_js("document.activeElement.id === 'field-account'")
        self.sign_in(password="another good one")
        b.wait_text("No host is registered.")

    def test_the_gateway_goes_and_comes_again(self):
        b = self.browser
        b.open(self.page())
        self.sign_in()
        b.wait_text("No host is registered.")
        self.stop(self.gateway_process)
        self.wait_fresh(lambda: "The gateway is not reachable, trying again" in b.text(), "its word")
        self.assertIn("No host is registered.", b.text())  # what was known stays
        self.view_while_away()
        self.serve(self.port, "second")
        self.token = self.login()
        self.machine("hosts", "after the restart")
        b.wait_js("!document.getElementById('away').checkVisibility()")
        b.wait_js("document.getElementById('title').textContent === 'Devices'")
        b.wait_text("No device is signed in.")
        self.view("hosts")
        b.wait_text("after the restart")

    def test_a_sign_in_in_another_tab(self):
        b = self.browser
        host = self.machine("hosts", "tower")
        b.open(self.page())
        self.sign_in()
        b.find(f'[data-focus="revoke {host.key}"]')
        b.js("return fetch('/v1/login', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: arguments[0]})"
             ".then((r) => r.status)", json.dumps({"account": "admin", "password": PASSWORD, "cookie": True}))
        for again in (True, False):
            b.click(f'[data-focus="revoke {host.key}"]')
            b.click("dialog button.danger")
            b.wait_text("signed in anew in another tab" if again else "No host is registered.")

    def view_while_away(self):
        b = self.browser
        b.click('#nav a[href="#devices"]')
        b.wait_js("document.getElementById('title').textContent === 'Devices'")
        b.wait_js("document.getElementById('away').checkVisibility()")

    def test_the_page_waits_for_a_gateway_that_is_not_there_yet(self):
        b = self.browser
        b.open(self.page())
        b.fill("#field-account", "admin")
        b.fill("#field-password", PASSWORD)
        self.stop(self.gateway_process)
        b.keys(ENTER)
        b.wait_text("The gateway is not reachable, trying again", "Whether this was done is not known")
        self.serve(self.port, "second")
        b.wait_js("!document.getElementById('away').checkVisibility()")
        b.click("#sign-in button")  # what was typed is still there
        b.wait_text("No host is registered.")


class Views(PageTest):
    def setUp(self):
        super().setUp()
        self.browser.open(self.page())
        self.sign_in()

    def test_hosts_devices_and_hostile_names(self):
        b = self.browser
        hosts = [self.machine("hosts", name) for name in HOSTILE]
        device = self.machine("devices", HOSTILE[1])
        s = self.online(hosts[3])
        for name in HOSTILE:
            b.wait_text(name)  # by itself
        self.wait_row(HOSTILE[3], "Online")
        self.assertIn("Offline", self.row(HOSTILE[0]))
        b.wait_text("1 of 4 online.")
        s.close()
        self.wait_row(HOSTILE[3], "Offline")
        # Revoking asks first; Escape and Cancel are no.
        revoke = f'[data-focus="revoke {hosts[0].key}"]'
        for no in (lambda: b.keys(ESCAPE), lambda: b.click("dialog .buttons button:first-child")):
            b.click(revoke)
            b.wait_js("document.querySelector('dialog[open]').innerText.includes(arguments[0])", HOSTILE[0])
            self.assertEqual(b.focused(), "Cancel")
            no()
            b.wait_js("!document.querySelector('dialog')")
            self.assertEqual(b.focused(), f"revoke {hosts[0].key}")
        self.assertEqual(len(self.ok("GET", "/v1/hosts", token=self.token)["hosts"]), 4)
        b.click(revoke)
        b.click("dialog button.danger")
        b.wait(lambda: not self.row(HOSTILE[0]), "the host is gone")
        b.wait_js("document.activeElement.id === 'title'")
        b.wait_text("is revoked.")
        self.assertEqual(len(self.ok("GET", "/v1/hosts", token=self.token)["hosts"]), 3)
        self.view("devices")
        b.click(f'[data-focus="revoke {device.key}"]')
        b.click("dialog button.danger")
        b.wait_text("No device is signed in.")
        self.view("audit")
        b.wait_text("host removed", "device removed", HOSTILE[0])
        # None of it became anything but text.
        self.assertEqual(b.js("return [document.title, document.querySelectorAll('main script, main img, #owned').length]"),
                         ["Audit log – Wavry gateway", 0])

    def test_a_dialog_is_for_the_keyboard_too(self):
        b = self.browser
        host = self.machine("hosts", "tower")
        self.wait_row("tower", "Offline")
        b.js("document.getElementById('title').focus()")
        order = []
        for _ in range(3):
            b.keys(TAB)
            order.append(b.focused())
        self.assertEqual(order, [f"to #hosts/{host.key}", f"button #hosts/{host.key}", f"revoke {host.key}"])
        b.keys(ENTER)
        b.wait_js("document.activeElement.textContent === 'Cancel'")
        b.keys(TAB)
        self.assertEqual(b.focused(), "Revoke")
        # Somebody else is quicker: the API's own words, and the question stays.
        self.ok("DELETE", f"/v1/hosts/{host.key}", token=self.token, status=204)
        b.keys(ENTER)
        b.wait_text("There is nothing of that name.")
        b.keys(ESCAPE)
        self.wait_fresh(lambda: "No host is registered." in b.text(), "no host")

    def test_sessions(self):
        b = self.browser
        host, device, other = self.machine("hosts", "tower"), self.machine("devices", "laptop"), Machine()
        s = self.online(host)
        self.view("sessions")
        b.wait_text("No session is running.")

        def report(*sessions):
            return lambda: self.report(s, sessions)
        first = report((device, "direct", 12.3, 0.001), (other, "relayed", 4.25, 0.05))
        self.wait_row("laptop", "Direct", first)
        self.assertEqual(self.row("laptop")[3:], ["12 ms", "0.1 %"])
        self.assertEqual(self.row(other.key)[2:], ["Relayed", "4.3 ms", "5.0 %"])
        b.wait_text("2 running, 1 of them relayed.")
        self.assertEqual(b.js("return document.getElementById('news').textContent"), "2 running, 1 of them relayed.")
        self.assertIn("another account's device", self.row(other.key)[1])
        self.wait_row("laptop", "99 ms", report((device, "relayed", 99, 0)))
        self.assertEqual(self.row("laptop")[2], "Relayed")
        self.assertEqual(self.row(other.key), [])
        self.wait_while(lambda: "No session is running." in b.text(), report(), "no session any more")

    def test_relays(self):
        b = self.browser
        a = self.add_relay("a.test")
        self.add_relay("b.test", "us")
        self.view("relays")
        self.wait_row("a.test", "Healthy", lambda: self.beat(a))
        self.assertEqual(self.row("a.test")[1:5], ["eu", "Healthy", "42 %", "17"])
        self.assertEqual(self.row("b.test")[1:3], ["us", "Never heard"])
        self.assertEqual(b.js("return document.querySelector('meter').value"), 420)
        b.click('[data-focus="drain a.test"]')
        b.wait_text("Drain this relay?")
        b.keys(ESCAPE)
        b.wait_js("!document.querySelector('dialog')")
        self.assertEqual(b.focused(), "drain a.test")
        b.js("document.getElementById('title').focus()")
        self.tab_to("drain a.test")
        b.keys(ENTER)
        b.wait_js("document.activeElement.textContent === 'Cancel'")
        b.keys(TAB, ENTER)
        self.wait_row("a.test", "Drained")
        b.wait_js("document.activeElement.dataset.focus === 'drain a.test'")

        def drained():
            return [r["id"] for r in self.ok("GET", "/v1/relays", token=self.token)["relays"] if r["drain"]]
        b.wait(lambda: drained() == ["a.test"], "the gateway's own word")
        b.click('[data-focus="drain a.test"]')
        b.wait_text("Use this relay again?")
        b.click("dialog button.main")
        self.wait_row("a.test", "Healthy", lambda: self.beat(a))
        b.wait(lambda: drained() == [], "the gateway's own word")

    def test_the_audit_log(self):
        b = self.browser
        self.add_relay("a.test")
        for i in range(70):  # many in a second
            self.ok("POST", "/v1/relays/a.test/drain", {"drain": i % 2 == 0}, self.token, 204)
        self.ok("POST", "/v1/accounts", {"name": "<i>bob</i>", "password": PASSWORD}, self.token, 201)
        self.ok("POST", "/v1/login", {"account": "<i>bob</i>", "password": PASSWORD})
        self.busy_second(260)
        read = "return [...document.querySelectorAll('#view tbody tr')].map((r) => [...r.children].map((c) => c.textContent))"
        for everybodys, click in ((False, None), (True, "#field-all")):
            want = self.logged(everybodys)
            self.assertGreater(len(want), 330)
            if click:
                b.click(click)
            else:
                self.view("audit")
            b.wait(lambda: [row[1:] for row in b.js(read)] == want[:50], "the newest 50 lines")
            self.ok("POST", "/v1/relays/a.test/drain", {"drain": True}, self.token, 204)  # what is new moves nothing
            self.tab_to("older")
            shown = 50
            while b.focused() == "older" and b.js("return document.activeElement.tagName") == "BUTTON":
                b.keys(ENTER)
                b.wait(lambda n=shown: len(b.js(read)) > n, "older lines")
                shown = len(b.js(read))
            self.assertEqual((b.focused(), b.js("return document.activeElement.tagName")), ("older", "P"))  # its end
            rows = b.js(read)
            self.assertEqual([row[1:] for row in rows], want)
            self.assertEqual([row[0] for row in rows], sorted((row[0] for row in rows), reverse=True))
            b.wait_text("This is where the log begins.")
        self.assertIn("<i>bob</i>", [row[1] for row in rows])
        # Only some: of the whole log, not of what was shown.
        b.click("#field-all")
        b.wait(lambda: len(b.js(read)) == 50, "the newest 50 lines")
        for words, want in (("account ADDED", [["admin", "account added", "<i>bob</i>", "127.0.0.1"]]), ("no such", [])):
            b.fill("#field-words", words)
            b.keys(ENTER)
            b.wait(lambda w=want: [row[1:] for row in b.js(read)] == w, words)
        b.wait_text("No line is of that kind.", "This is where the log begins.")
        b.fill("#field-words", "relay undrained")
        b.keys(ENTER)
        b.wait(lambda: {row[2] for row in b.js(read)} == {"relay undrained"} and len(b.js(read)) == 35, "every undrained")
        b.js("const day = document.getElementById('field-day'); day.value = arguments[0]; day.dispatchEvent(new Event('change'))",
             "2020-01-31")
        b.wait_text("No line is of that kind.")
        b.js("const day = document.getElementById('field-day'); day.value = arguments[0]; day.dispatchEvent(new Event('change'))",
             "2199-01-31")
        b.wait(lambda: len(b.js(read)) == 35, "up to a day to come")

    def busy_second(self, n):
        """N lines of one second, more than one answer holds."""
        with sqlite3.connect(self.path("gateway.db"), timeout=30) as db:
            at, account = db.execute("SELECT at - 60, account FROM audit WHERE actor = 'admin' LIMIT 1").fetchone()
            db.executemany("INSERT INTO audit VALUES (?, ?, ?, 'admin', 'tested', ?, '127.0.0.1')",
                           [(f"{i:032x}", at, account, f"line {i}") for i in range(n)])
        db.close()

    def logged(self, everybodys):
        """[who, what, about, from] of the log as the database has it, newest first."""
        db = sqlite3.connect(f"file:{self.path('gateway.db')}?mode=ro", uri=True, timeout=30)
        lines = db.execute("SELECT actor, action, subject, address FROM audit WHERE ? OR account = (SELECT account FROM audit "
                           "WHERE action = 'tested' LIMIT 1) ORDER BY at DESC, id DESC", (everybodys,)).fetchall()
        db.close()
        return [list(line) for line in lines]

    def test_password_authenticator_and_recovery_codes(self):
        b = self.browser
        self.view("account")
        for present, again, why in (("not that one", "another good one", "The present password is wrong."),
                                    (PASSWORD, "another", "The two new passwords are not the same.")):
            b.fill("#field-present", present)
            b.fill("#field-next", "another good one")
            b.fill("#field-again", again)
            b.click("#change-password button")
            b.wait_text(why)
        b.fill("#field-present", PASSWORD)
        b.fill("#field-again", "another good one")
        b.click("#change-password button")
        b.wait_text("The password is changed.")
        b.click("#begin-totp button")
        b.find("svg.qr")
        uri, secret = (b.find(f"#totp-{what}") and b.js(f"return document.getElementById('totp-{what}').textContent")
                       for what in ("uri", "secret"))
        self.assertEqual(self.read_qr(), [uri])
        self.assertIn(secret, uri)
        self.look_well()
        b.fill("#field-totp", totp(secret))
        b.click("#confirm-totp button")
        b.wait_text("Each signs you in once")
        codes = b.js("return [...document.querySelectorAll('.codes code')].map((c) => c.textContent)")
        self.assertEqual(len(codes), 10)
        self.look_well()
        b.click(".card button.main:not([type=submit])")
        b.find("#renew-codes")
        b.fill("#field-renew", codes[0])
        b.click("#renew-codes button")
        b.wait_text("Each signs you in once")
        new = b.js("return [...document.querySelectorAll('.codes code')].map((c) => c.textContent)")
        self.assertFalse(set(new) & set(codes))
        b.click("#sign-out")
        self.sign_in(password="another good one", code=new[0])
        self.view("account")
        b.fill("#field-remove", codes[1])  # an old one
        b.click("#remove-totp button")
        b.wait_text("The account, password or code is wrong.")
        b.fill("#field-remove", new[1])
        b.click("#remove-totp button")
        b.find("#begin-totp")
        self.assertFalse(self.ok("GET", "/v1/account", token=self.login(password="another good one"))["totp"])

    def test_accounts(self):
        b = self.browser
        self.view("accounts")
        b.fill("#field-name", "admin")
        b.fill("#field-password", PASSWORD)
        b.click("#add-account button")
        b.wait_text("That name or key is taken.")
        b.fill("#field-name", "bob")
        b.click("#add-account button")
        self.wait_row("bob", "Enabled")
        self.assertIn("member", self.row("bob"))
        b.wait_text("The account bob is made.")
        bob = {"account": "bob", "password": PASSWORD}
        token = self.ok("POST", "/v1/login", bob)["token"]
        identity = next(a["id"] for a in self.ok("GET", "/v1/accounts", token=self.token)["accounts"] if a["name"] == "bob")
        self.assertEqual(b.js("return document.querySelectorAll('[data-focus^=\"account \"]').length"), 1)  # not oneself
        b.click(f'[data-focus="account {identity}"]')
        b.click("dialog button.danger")
        self.wait_row("bob", "Disabled")
        self.refused("bad_token", "GET", "/v1/account", token=token)
        self.refused("credentials", "POST", "/v1/login", bob)
        b.wait_js(f"document.activeElement.dataset.focus === 'account {identity}'")
        b.keys(ENTER)
        b.click("dialog button.main")
        self.wait_row("bob", "Enabled")
        self.one_account(identity)
        # Who is no administrator is not shown what he may not do.
        b.click("#sign-out")
        self.sign_in("bob", "the third of them")
        self.assertEqual(b.js("return [...document.querySelectorAll('#nav a')].filter((a) => a.checkVisibility())"
                              ".map((a) => a.hash)"), ["#hosts", "#sessions", "#devices", "#audit", "#account"])
        b.open(self.page("accounts"))
        b.wait_js("document.getElementById('title').textContent === 'Hosts'")

    def one_account(self, identity):
        """What an administrator does for somebody who lost things."""
        b = self.browser
        bob = self.login("bob")
        secret = self.ok("POST", "/v1/account/totp", token=bob)["secret"]
        self.ok("POST", "/v1/account/totp/confirm", {"totp": totp(secret)}, bob)
        b.click(f'[data-focus="to #accounts/{identity}"]')
        b.wait_js("document.getElementById('title').textContent === 'bob'")
        self.assertEqual(b.js("return document.querySelector('#nav [aria-current]').hash"), "#accounts")
        self.look_well()
        self.ask(f'[data-focus="totp {identity}"]', yes=False)
        self.refused("code_needed", "POST", "/v1/login", {"account": "bob", "password": PASSWORD})
        self.ask(f'[data-focus="totp {identity}"]')
        b.wait_text("has no authenticator any more.")
        self.login("bob")
        b.fill("#field-password", "short")
        b.click("#set-password button")
        self.assertFalse(b.js("return document.getElementById('field-password').validity.valid"))
        b.fill("#field-password", "the third of them")
        b.click("#set-password button")
        b.wait_text("has a new password.")
        self.refused("bad_token", "GET", "/v1/account", token=bob)
        bob = self.login("bob", "the third of them")
        self.ask(f'[data-focus="role {identity}"]')
        b.wait_text("is an administrator.")
        self.ok("GET", "/v1/accounts", token=bob)
        b.wait_js("document.activeElement.dataset.focus === arguments[0]", f"role {identity}")
        self.ask(f'[data-focus="role {identity}"]')
        b.wait_text("is a member.")
        self.refused("not_admin", "GET", "/v1/accounts", token=bob)
        self.ask(f'[data-focus="account {identity}"]')
        b.wait_text("is disabled.")
        self.ask(f'[data-focus="account {identity}"]')
        b.wait_text("is enabled.")
        b.click(".back a")
        self.wait_row("bob", "Enabled")
        b.click('tbody tr:first-child th a')  # admin: oneself
        b.wait_text("This is your own account")

    def test_shares_by_keyboard_alone(self):
        b = self.browser
        evil = HOSTILE[0]
        bob = self.add_account(self.token, "bob")
        self.add_account(self.token, evil)
        host = self.machine("hosts", "tower")
        self.wait_row("tower", "Offline")
        b.js("document.getElementById('title').focus()")
        self.tab_to(f"button #hosts/{host.key}")
        b.keys(ENTER)
        b.wait_text("Nobody: only your own devices reach this host through the gateway.")
        self.assertEqual(b.focused(), "title")
        self.look_well()

        def share(name, *choices):
            """CHOICES are toggled: the first three are on."""
            self.tab_to("field-account")
            b.js("document.activeElement.select()")
            b.keys(name)
            for box in choices:
                self.tab_to(f"field-{box}")
                b.keys(SPACE)
            self.tab_to("submit share")
            b.keys(ENTER)

        def shares():
            return {s["name"]: s["grants"] for s in self.ok("GET", f"/v1/hosts/{host.key}/shares", token=self.token)["shares"]}
        for name, why in (("nobody of that name", "This gateway has no account “nobody of that name”."),
                          ("ADMIN", "This is your own account: the host is yours already.")):
            share(name)
            b.wait_text(why)
            b.wait_js("document.activeElement.id === 'field-account' && document.activeElement.getAttribute('aria-invalid')")
        self.look_well()
        b.keys(("shift", TAB))
        share("Bob", "view", "input", "audio")
        b.wait_text("Choose something that it may do.")
        self.assertEqual((b.focused(), shares()), ("field-view", {}))
        b.keys(SPACE)
        self.tab_to("submit share")
        b.keys(ENTER)
        self.wait_row("bob", "see the screen")
        self.assertEqual(shares(), {"bob": "view"})
        share(evil, "files")
        b.wait(lambda: self.row(evil), "a second share")
        self.assertEqual(shares(), {"bob": "view", evil: "view,input,audio,files"})
        self.look_well()
        # Changed: the form has what it was.
        b.js("document.getElementById('title').focus()")
        self.tab_to(f"change {bob}")
        b.keys(ENTER)
        self.assertEqual(b.focused(), "field-view")
        self.assertEqual(b.js("return [...document.querySelectorAll('#share input:checked')].map((c) => c.name)"), ["view"])
        self.tab_to("field-clipboard")
        b.keys(SPACE)
        self.tab_to("submit share")
        b.keys(ENTER)
        self.wait_row("bob", "see the screen, use the clipboard")
        self.assertEqual(shares()["bob"], "view,clipboard")
        token = self.login("bob")
        self.assertEqual([h["grants"] for h in self.ok("GET", "/v1/hosts", token=token)["hosts"]], ["view,clipboard"])
        # Ended: asked first.
        for yes in (False, True):
            b.js("document.getElementById('title').focus()")
            self.tab_to(f"end {bob}")
            b.keys(ENTER)
            b.wait_js("document.activeElement.textContent === 'Cancel'")
            b.keys(*([TAB, ENTER] if yes else [ESCAPE]))
            b.wait_js("!document.querySelector('dialog')")
            if not yes:
                self.assertEqual((b.focused(), len(shares())), (f"end {bob}", 2))
        b.wait(lambda: not self.row("bob"), "the share is ended")
        self.assertEqual(list(shares()), [evil])
        self.assertEqual(self.ok("GET", "/v1/hosts", token=token)["hosts"], [])
        # The host goes, from here too.
        self.tab_to(f"revoke {host.key}")
        b.keys(ENTER)
        b.wait_js("document.activeElement.textContent === 'Cancel'")
        b.keys(TAB, ENTER)
        b.wait_text("No host is registered.")
        b.wait_js("document.activeElement.id === 'title' && document.activeElement.textContent === 'Hosts'")
        b.js("history.back()")
        b.wait_text("No such host is registered with your account.", "Try again")
        self.look_well()

    def test_relays_come_change_and_go(self):
        b = self.browser
        relay, other = Machine(), self.add_relay("b.test")
        self.view("relays")
        b.click('[data-focus="button #add-relay"]')
        issuer = self.ok("GET", "/v1/relays", token=self.token)["issuer"]
        b.wait_js("document.getElementById('issuer')?.textContent === arguments[0]", issuer)
        self.look_well()
        good = {"name": "a relay? #1 é%2f.test", "key": relay.sign_key, "address": "[2001:db8::7]:4821", "region": "eu"}
        wrong_bits = relay.sign_key[:-1] + ("B" if relay.sign_key[-1] == "A" else chr(ord(relay.sign_key[-1]) + 1))
        for name, value in good.items():
            b.fill(f"#field-{name}", value)
        for name, value, why in (("name", "a/b", "without a slash"), ("name", "é" * 33, "at most 64 bytes"),
                                 ("name", "b.test", "There is a relay of that name"),
                                 ("key", relay.key, "This is the key of a host or a device."),
                                 ("key", "ssh-ed25519 AAAA", "A relay's key is “ed25519.” and 43"),
                                 ("key", relay.sign_key[:-3], "this has 40: copy all of it"),
                                 ("key", wrong_bits, "A character of this key is wrong"),
                                 ("key", issuer, "This is the gateway's own key"),
                                 ("key", other.machine.sign_key, "This is the key of b.test."),
                                 ("address", "relay.test", "An address is HOST:PORT"),
                                 ("address", "relay.test:70000", "An address is HOST:PORT"),
                                 ("address", "2001:db8::7:4821", "An address is HOST:PORT"),
                                 ("region", "\u202f", "Name a region.")):
            b.fill(f"#field-{name}", value)
            b.keys(ENTER)
            b.wait_js("document.getElementById('add-relay-problem').textContent.includes(arguments[0])", why)
            b.wait_js("document.activeElement.name === arguments[0]", name)
            if name != "region":
                b.fill(f"#field-{name}", good[name])
        self.look_well()
        self.assertEqual(len(self.ok("GET", "/v1/relays", token=self.token)["relays"]), 1)
        b.fill("#field-region", "eu")
        b.keys(ENTER)
        b.wait_js("document.getElementById('title').textContent === arguments[0]", good["name"])

        def known():
            return {r["id"]: (r["key"], r["address"], r["region"]) for r in
                    self.ok("GET", "/v1/relays", token=self.token)["relays"]}
        self.assertEqual(known()[good["name"]], (relay.sign_key, good["address"], "eu"))
        b.wait_text("Never heard", "[2001:db8::7]:4821")
        b.fill("#field-address", "relay.test:4822")
        for yes in (False, True):
            b.click("#change-relay button")
            b.find("dialog")
            b.keys(*([TAB, ENTER] if yes else [ESCAPE]))
            b.wait_js("!document.querySelector('dialog')")
            b.wait_js("document.activeElement.dataset.focus === 'submit change-relay'")
            self.assertEqual(known()[good["name"]][1], "relay.test:4822" if yes else good["address"])
        b.wait_js("document.querySelector('.facts').textContent.includes('relay.test:4822')")
        self.ask(f'[data-focus="drain {good["name"]}"]')
        b.wait_text("Drained")
        self.ask(f'[data-focus="remove {good["name"]}"]', yes=False)
        self.ask(f'[data-focus="remove {good["name"]}"]')
        b.wait_js("document.getElementById('title').textContent === 'Relays'")
        b.wait(lambda: self.row("b.test") and not self.row(good["name"]), "one relay")
        self.assertEqual(list(known()), ["b.test"])
        said = [line["action"] for line in self.ok("GET", "/v1/audit", token=self.token)["audit"] if line["subject"] == good["name"]]
        self.assertEqual(sorted(said), ["relay drained", "relay registered", "relay registered", "relay removed"])

    def test_what_fails_is_said_and_can_be_done_again(self):
        b = self.browser
        self.add_relay("a.test")
        ada = self.add_account(self.token, "ada")
        self.ok("PATCH", f"/v1/accounts/{ada}", {"admin": True}, self.token)
        self.view("relays")
        # Nobody can write to the database for a while.
        writer = sqlite3.connect(self.path("gateway.db"), isolation_level=None)
        self.addCleanup(writer.close)
        writer.execute("BEGIN IMMEDIATE")
        b.click('[data-focus="drain a.test"]')
        b.click("dialog button.main")
        b.wait_text("The gateway's database can't be reached now")
        self.assertTrue(b.js("return document.querySelector('dialog').open"))
        self.look_well()
        writer.execute("ROLLBACK")
        b.click("dialog button.main")
        self.wait_row("a.test", "Drained")
        # And nobody is an administrator for ever.
        me = self.ok("GET", "/v1/account", token=self.token)["id"]
        self.ok("PATCH", f"/v1/accounts/{me}", {"admin": False}, self.login("ada"))
        self.wait_fresh(lambda: "This account is no administrator any more." in b.text(), "its word")
        self.assertEqual(b.js("return [document.getElementById('title').textContent, document.getElementById('nav-admin').hidden]"),
                         ["Hosts", True])

    def test_looks(self):
        b = self.browser
        names = ["workstation", "מחשב العمل", HOSTILE[3], "🦊🚀 " + "👩‍👩‍👧‍👦" * 2, "abc\u202egpj.exe"]
        hosts = [self.machine("hosts", name) for name in names]
        laptop = self.machine("devices", "Ada's laptop")
        self.machine("devices", "phone")
        s = self.online(hosts[0])
        self.online(laptop)
        relays = [self.add_relay("fra-1.relay.example", "eu-central"), self.add_relay("sfo-1.relay.example", "us-west")]
        self.ok("POST", "/v1/relays/sfo-1.relay.example/drain", {"drain": True}, self.token, 204)
        for name in ("ada", "W" * 64):
            self.ok("POST", "/v1/accounts", {"name": name, "password": PASSWORD}, self.token, 201)

        def alive():
            self.report(s, [(laptop, "direct", 8.4, 0), (Machine(), "relayed", 41.7, 0.031)])
            self.beat(relays[0], 420, 17)
            self.beat(relays[1], 960, 2**32 - 1)
        for view in VIEWS:
            self.view(view)
            if view == "sessions":
                self.wait_row("Ada", "Direct", alive)
            elif view == "relays":
                self.wait_row("fra-1", "Healthy", alive)
            self.look_well()
        self.view("relays")
        b.wait_text(str(2**32 - 1))
        # 1280 px at a zoom of 400 %, and letters of twice the size (WCAG 2.2, 1.4.10 and 1.4.4).
        self.look_well(((320, 256),))
        b.devtools("Page.setFontSizes", fontSizes={"standard": 32, "fixed": 26})
        b.wait_js("getComputedStyle(document.documentElement).fontSize === '32px'")
        self.look_well(((640, 400), (1280, 800)))
        b.devtools("Page.setFontSizes", fontSizes={"standard": 16, "fixed": 13})
        b.wait_js("getComputedStyle(document.documentElement).fontSize === '16px'")
        self.look_well(((1064, 600),))  # the narrowest table
        b.click('[data-focus="drain fra-1.relay.example"]')
        b.find("dialog")
        self.look_well()
        b.keys(ESCAPE)
        # Nothing moves for who asked for that.
        b.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-reduced-motion", "value": "reduce"}])
        self.assertEqual(b.js("return [...document.querySelectorAll('*')].filter((e) => parseFloat(getComputedStyle(e)"
                              ".transitionDuration) || getComputedStyle(e).animationName !== 'none').length"), 0)
        b.click("#sign-out")
        b.find("#sign-in")
        self.look_well()


class Policy(PageTest):
    def test_headers_and_what_they_do(self):
        b = self.browser
        for path, kind in (("/", "text/html; charset=utf-8"), ("/page/page.js", "text/javascript; charset=utf-8"),
                           ("/page/page.css", "text/css; charset=utf-8"), ("/page/icon.svg", "image/svg+xml")):
            status, headers, body = self.file(path)
            self.assertEqual((status, headers["content-type"]), (200, kind))
            policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
            self.assertEqual(policy["default-src"], "'none'")
            for what in ("script-src", "style-src", "connect-src"):
                self.assertEqual(policy[what], "'self'")
            for what in ("frame-ancestors", "base-uri"):
                self.assertEqual(policy[what], "'none'")
            self.assertEqual((headers["x-content-type-options"], headers["referrer-policy"], headers["cache-control"]),
                             ("nosniff", "no-referrer", "no-cache"))
            self.assertGreater(len(body), 100)
            again = self.file(path, {"If-None-Match": headers["etag"]})
            self.assertEqual((again[0], again[1]["etag"], again[2]), (304, headers["etag"], b""))
            self.assertEqual(self.file(path, {"If-None-Match": '"other"'})[2], body)
            self.assertEqual((headers["vary"], headers.get("content-encoding")), ("accept-encoding", None))
            self.assertEqual(self.file(path, {"Accept-Encoding": "br, gzip;q=0"})[2], body)
            small = self.file(path, {"Accept-Encoding": "br, GZIP;q=0.5", "If-None-Match": headers["etag"]})
            self.assertEqual((small[0], small[1]["content-encoding"], gzip.decompress(small[2])), (200, "gzip", body))
            self.assertNotEqual(small[1]["etag"], headers["etag"])
            again = self.file(path, {"Accept-Encoding": "gzip", "If-None-Match": small[1]["etag"]})
            self.assertEqual((again[0], again[1]["etag"], again[2]), (304, small[1]["etag"], b""))
        self.assertEqual(self.file("/page/embed.cmake")[0], 404)
        # A script that got into the page somehow is not run, and a form of it sends nothing.
        b.open(self.page())
        b.find("#sign-in")
        self.refused_inline = True
        b.js("const s = document.createElement('script'); s.textContent = 'window.owned = 1'; document.body.append(s);"
             "const i = document.createElement('p'); i.innerHTML = '<img src=/x onerror=\"window.owned = 2\">';"
             "document.body.append(i)")
        seen = []
        b.wait(lambda: seen.extend(b.console()) or sum("Content Security Policy" in e["message"] for e in seen) >= 2,
               lambda: "two refusals of " + json.dumps(seen))
        self.assertIsNone(b.js("return window.owned || null"))

    def test_it_is_small(self):
        b = self.browser
        b.open(self.page())
        b.find("#sign-in")
        read = """return [...performance.getEntriesByType("navigation"), ...performance.getEntriesByType("resource")]
            .map((e) => [new URL(e.name).pathname, e.encodedBodySize, e.decodedBodySize, e.transferSize])"""
        b.wait(lambda: "/page/icon.svg" in [e[0] for e in b.js(read)] or len(b.js(read)) >= 12, "all of it")
        files = [e for e in b.js(read) if e[0] == "/" or e[0].startswith("/page/")]
        figures = [len(files), sum(e[1] for e in files), sum(e[2] for e in files), sum(e[3] for e in files)]
        if os.environ.get("WAVRY_SCREENSHOTS"):
            print("files, bytes as sent, as unpacked, with their heads:", figures)
        self.assertEqual(len({e[0] for e in files}), len(files))  # what is loaded ahead is what is used
        self.assertLess(figures[0], 14)
        self.assertLess(figures[1], 32 << 10)
        self.assertNotIn("/page/qr.js", [e[0] for e in files])

    def test_qr_codes_of_every_size(self):
        b = self.browser
        b.open(self.page())
        b.find("#sign-in")
        b.screen(1800, 900)
        show = """
            const {qrModules, qrSvg} = await import("/page/qr.js"), codes = texts.map((text) => qrSvg(text, "test"));
            document.body.replaceChildren(...codes);
            for (const svg of codes)
                Object.assign(svg.style, {maxWidth: "none", width: "420px", height: "420px", float: "left", margin: "8px"});
            return texts.map((text) => qrModules(text).length)"""
        # What fits into each version in bytes at level M: ISO/IEC 18004, table 7. Eight are shown at a time.
        most = [14, 26, 42, 62, 84, 106, 122, 152, 180, 213, 251, 287, 331, 362, 412, 450, 504, 560, 624, 666]
        for first in range(1, 21, 8):
            versions = range(first, min(first + 8, 21))
            texts = ["".join(chr(33 + (7 * i + v) % 90) for i in range(most[v - 1])) for v in versions]
            self.assertEqual(b.js(f"return (async (texts) => {{{show}}})(arguments[0])", texts), [4 * v + 17 for v in versions])
            self.assertEqual(self.read_qr(), texts)
        self.assertEqual(b.js("return import('/page/qr.js').then((m) => m.qrModules('x'.repeat(667))).catch((e) => e.message)"),
                         "The text is too long for a QR code.")

    def file(self, path, headers=None):
        c = self.connect()
        c.request("GET", path, headers=headers or {})
        answer = c.getresponse()
        got = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        c.close()
        return got


if __name__ == "__main__":
    unittest.main(verbosity=2)
