"""What tests of the operator's page share: a gateway with TLS, a browser, and what may be wrong with how it looks."""
import os
import shutil
import ssl
import struct
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from browser import TAB, Browser  # noqa: E402
from harness import free_tcp_port  # noqa: E402
from gateway_kit import PASSWORD, GatewayTest, Machine, b64, totp  # noqa: E402
from signal_kit import Socket  # noqa: E402

# What moves, as colours do from light to dark, is where it goes to.
STILL = "for (const a of document.getAnimations()) a.finish();"

# What is wrong with the page for people who can't see it well, or at all.
FAULTS = r"""
const faults = [], shown = (e) => e.checkVisibility({visibilityProperty: true});
const parse = (c) => { const n = c.match(/[\d.]+/g).map(Number); return n.length === 3 ? [...n, 1] : n; };
const light = (c) => c.slice(0, 3).map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
const ground = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor);
  if (c[3] === 1) return c; } return [255, 255, 255, 1]; };
for (const e of document.body.querySelectorAll("*")) {
  if (!shown(e) || e.closest("svg, .hidden, .skip, #status") || e.closest("[aria-disabled]")) continue;
  if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
  const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))].sort((x, y) => y - x);
  if ((a + 0.05) / (b + 0.05) < 4.5) faults.push(`contrast ${((a + 0.05) / (b + 0.05)).toFixed(2)}: ${e.textContent.trim()}`);
}
if (document.querySelectorAll("h1").length !== 1) faults.push("not one h1");
let level = 0;
for (const h of document.querySelectorAll("h1, h2, h3")) {
  if (Number(h.tagName[1]) > level + 1) faults.push(`heading ${h.textContent} skips a level`);
  level = Number(h.tagName[1]);
}
const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((u, v) => v - u); return (x + 0.05) / (y + 0.05); };
for (const e of document.querySelectorAll("input, button, a, meter")) {
  if (!shown(e) || e.closest(".skip")) continue;
  const name = e.getAttribute("aria-label") || (e.labels && [...e.labels].map((l) => l.textContent).join("")) || e.textContent;
  if (!name.trim()) faults.push(`no name: ${e.outerHTML}`);
  if (e.tagName !== "INPUT" && !name.startsWith(e.textContent.trim())) faults.push(`${name} is spoken of as ${e.textContent}`);
  const box = e.getBoundingClientRect();
  if (e.matches("button, .button") && box.height < 32) faults.push(`a low button: ${name}`);
  if (e.matches("button, .button") && box.height > 3.5 * parseFloat(getComputedStyle(document.documentElement).fontSize)) faults.push(`a button of several lines: ${name}`);
  if (e.matches("input, nav a") && box.height < 19) faults.push(`low: ${name}`);
  if (box.left < 0 || box.right > innerWidth + 0.5) faults.push(`beside the screen: ${name}`);
  // What has the focus, and where a field or a button ends, is seen: 3 to 1 (WCAG 2.2, 1.4.11, 2.4.13).
  const style = getComputedStyle(e), on = ground(e.parentElement);
  if (e.matches("input:not([type=checkbox])") && ratio(parse(style.borderTopColor), on) < 3) faults.push(`no edge: ${name}`);
  const ring = getComputedStyle(document.documentElement).getPropertyValue("--focus").trim();
  const hex = [1, 3, 5].map((i) => parseInt(ring.slice(i, i + 2), 16));
  if (ratio(hex, on) < 3) faults.push(`a focus that is not seen: ${name}`);
}
for (const e of document.querySelectorAll("[aria-labelledby], [aria-describedby], [aria-errormessage]"))
  for (const what of ["aria-labelledby", "aria-describedby", "aria-errormessage"])
    for (const id of (e.getAttribute(what) || "").split(" ").filter(Boolean))
      if (!document.getElementById(id)) faults.push(`${what} of nothing: ${id}`);
for (const t of document.querySelectorAll("table")) {
  const n = t.querySelectorAll("thead th").length;
  if (!t.caption || !t.caption.textContent) faults.push("a table without a caption");
  for (const row of t.querySelectorAll("tbody tr"))
    if (row.children.length !== n || row.firstElementChild.getAttribute("role") !== "rowheader") faults.push("a row unlike its head");
}
const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
if (new Set(ids).size !== ids.length) faults.push("an id twice: " + ids);
for (const l of document.querySelectorAll("label")) if (!l.control) faults.push(`a label of nothing: ${l.textContent}`);
for (const tag of ["header", "nav", "main"]) if (document.querySelectorAll(tag).length !== 1) faults.push(`not one ${tag}`);
if (document.documentElement.scrollWidth > innerWidth) faults.push(`${document.documentElement.scrollWidth} px wide`);
if (document.body.scrollWidth > innerWidth) faults.push(`the body is ${document.body.scrollWidth} px wide`);
return faults;
"""


# What a reader of the screen is given by the browser itself, and must have a name.
NAMED = {"button", "link", "textbox", "searchbox", "checkbox", "Date", "meter", "table", "dialog", "heading", "image", "navigation",
         "form", "search", "columnheader", "rowheader"}


class Relay:
    def __init__(self, name):
        self.name, self.machine, self.at = name, Machine(), 0

    def heartbeat(self, load, leases):
        self.at = max(self.at + 1, int(time.time()))
        message = b"RIFT 1 relay heartbeat\0" + self.name.encode() + b"\0" + struct.pack("<QIIB", self.at, load, leases, 0)
        return {"at": self.at, "load": load, "leases": leases, "draining": False,
                "signature": b64(self.machine.sign(message))}


class PageTest(GatewayTest):
    browser = certificate = key = None  # of all tests of a run

    @classmethod
    def setUpClass(cls):
        if PageTest.browser:
            return
        folder = tempfile.TemporaryDirectory(prefix="wavry-browser-", ignore_cleanup_errors=True)
        unittest.addModuleCleanup(folder.cleanup)
        PageTest.browser = Browser(folder.name)
        unittest.addModuleCleanup(PageTest.browser.close)
        PageTest.certificate, PageTest.key = (os.path.join(folder.name, name) for name in ("tls.pem", "tls.key"))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                        "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout",
                        cls.key, "-out", cls.certificate],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)

    def setUp(self):
        super().setUp()
        self.refused_inline = False
        for made, name in ((self.certificate, "tls.pem"), (self.key, "tls.key")):
            shutil.copy(made, self.path(name))
        self.add_admin()
        self.tls = True
        self.serve()
        self.token = self.login()
        self.browser.forget()
        self.browser.screen(1280, 900)

    def tearDown(self):
        """Whatever a test did: the page kept its policy, and no script of it failed."""
        if self.refused_inline:
            return
        bad = [e["message"] for e in self.browser.console()
               if "Content Security Policy" in e["message"] or "Uncaught" in e["message"] or e["source"] == "javascript"]
        self.assertEqual(bad, [])

    def serve(self, port=0, name="gateway"):
        self.gateway_process = self.gateway(
            "--set", f"tls_certificate={self.path('tls.pem')}", "--set", f"tls_key={self.path('tls.key')}",
            "--set", "logins_per_minute=1000", "--set", "wrong_per_minute=1000", listen=f"127.0.0.1:{port or free_tcp_port()}", name=name)

    def page(self, view=""):
        return f"https://127.0.0.1:{self.port}/" + (f"#{view}" if view else "")

    def sign_in(self, account="admin", password=PASSWORD, code=None):
        b = self.browser
        b.fill("#field-account", account)
        b.fill("#field-password", password)
        b.click("#sign-in button")
        if code:
            b.fill("#field-code", code)
            b.click("#sign-in button")
        b.find("#sign-out")

    def view(self, name):
        b = self.browser
        b.click(f'#nav a[href="#{name}"]')
        b.wait_js(f"document.querySelector('#nav [aria-current]').hash === '#{name}' && "
                  "!document.getElementById('view').textContent.startsWith('Loading')")

    def confirm_totp(self):
        secret = self.ok("POST", "/v1/account/totp", token=self.token)["secret"]
        codes = self.ok("POST", "/v1/account/totp/confirm", {"totp": totp(secret)}, self.token)["recovery"]
        return secret, codes

    def machine(self, kind, name):
        made = Machine()
        self.register(self.token, kind, made, name)
        return made

    def online(self, machine):
        s = Socket(self.port, tls=self.trust())
        self.addCleanup(s.close)
        s.hello(self.machine_login(machine))
        return s

    @staticmethod
    def report(s, sessions):
        """What a host says of its sessions; it answers the gateway's pings on the way."""
        try:
            s.next(0.05)
        except TimeoutError:
            pass
        s.send({"type": "sessions", "sessions": [
            {"peer": peer.key, "path": path, "rtt_ms": rtt, "loss": loss} for peer, path, rtt, loss in sessions]})

    def trust(self):
        context = ssl.create_default_context(cafile=self.path("tls.pem"))
        context.check_hostname = False
        return context

    def add_relay(self, name, region="eu"):
        relay = Relay(name)
        self.ok("PUT", f"/v1/relays/{name}", {"key": relay.machine.sign_key, "address": "relay.test:4821", "region": region},
                self.token, 204)
        return relay

    def beat(self, relay, load=420, leases=17):
        """Until its first one is taken: a gateway reads its relays from the database. Never ahead of the clock, or the
        gateway refuses them all from some moment on."""
        self.browser.wait(lambda: time.time() >= relay.at + 1 and
                          self.request("POST", f"/v1/relays/{relay.name}/heartbeat",
                                       relay.heartbeat(load, leases)).status == 204, "a heartbeat that is taken")

    def spoken(self):
        """[(role, name)] of what the browser tells a reader of the screen."""
        tree = self.browser.devtools("Accessibility.getFullAXTree")["nodes"]
        return [(n["role"]["value"], n.get("name", {}).get("value", "").strip()) for n in tree
                if not n.get("ignored") and "role" in n]

    def poke(self):
        """The page looks at once, as when somebody comes back to its tab, and not only after its few seconds."""
        self.browser.js("document.dispatchEvent(new Event('visibilitychange'))")

    def wait_fresh(self, condition, what):
        last = [0.0]

        def look():
            if condition():
                return True
            if time.monotonic() - last[0] > 0.5:
                self.poke()
                last[0] = time.monotonic()
            return False
        self.browser.wait(look, what)

    def ask(self, css, yes=True):
        """Presses what asks, and answers."""
        self.browser.click(css)
        self.browser.click(f"dialog .buttons button:{'last' if yes else 'first'}-child")
        self.browser.wait_js("!document.querySelector('dialog')")

    def tab_to(self, focus, keys=TAB, most=60):
        """By keyboard alone, to what is known by FOCUS."""
        b = self.browser
        for _ in range(most):
            if b.focused() == focus:
                return
            b.keys(keys)
        self.fail(f"{focus} is not reached; the focus is on {b.focused()}")

    def row(self, name):
        """The text of the row of NAME, as a list of its cells' words."""
        return self.browser.js("""
            const row = [...document.querySelectorAll("#view tbody tr")].find((r) => r.textContent.includes(arguments[0]));
            return row ? [...row.children].map((c) => c.innerText.trim()) : []""", name)

    def wait_while(self, condition, meanwhile, what):
        """Until CONDITION(). MEANWHILE is done again and again: what a machine says counts once in 4 s."""
        last = [0.0]

        def look():
            if time.monotonic() - last[0] > 1:
                meanwhile()
                last[0] = time.monotonic()
            return condition()
        self.wait_fresh(look, what)

    def wait_row(self, name, word, meanwhile=lambda: None):
        """Until a cell of that row is WORD, or begins with it."""
        self.wait_while(lambda: any(cell.startswith(word) for cell in self.row(name)), meanwhile,
                        lambda: f"a row {name} with {word!r}, which is {self.row(name)}")

    def read_qr(self):
        """What a reader makes of the codes on the screen, in the order of their lengths."""
        with open(self.path("qr.png"), "wb") as f:
            f.write(self.browser.screenshot())
        read = subprocess.run(["zbarimg", "--quiet", "--raw", "-Sdisable", "-Sqrcode.enable", self.path("qr.png")],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=60, check=False)
        return sorted(read.stdout.splitlines(), key=len)

    def look_well(self, sizes=((360, 740), (1280, 900))):
        """Nothing is wrong on a desktop and on a phone, by light and by dark."""
        name = self.browser.js("return document.getElementById('title').textContent").lower().replace(" ", "-")
        folder = os.environ.get("WAVRY_SCREENSHOTS")
        for width, height in sizes:
            for dark in (True, False):
                self.browser.screen(width, height, dark)
                self.assertEqual(self.browser.js(STILL + FAULTS), [], (name, width, dark))
                if folder:
                    os.makedirs(folder, exist_ok=True)
                    n = len([f for f in os.listdir(folder) if f.startswith(f"{name}-{width}-{'dark' if dark else 'light'}")])
                    with open(f"{folder}/{name}-{width}-{'dark' if dark else 'light'}-{n}.png", "wb") as f:
                        f.write(self.browser.screenshot())
            self.assertEqual([role for role, spoken in self.spoken() if role in NAMED and not spoken], [], (name, width))
