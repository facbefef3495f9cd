"""Chromium without a screen, driven over the WebDriver protocol (https://www.w3.org/TR/webdriver2/). Only what the
page's test needs. Each browser has a fresh profile; it and its driver end with their process group."""
import base64
import http.client
import json
import os
import re
import signal
import subprocess
import time

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
TAB, ENTER, ESCAPE, SHIFT, SPACE = "\ue004", "\ue007", "\ue00c", "\ue008", " "
WAIT_S = 60


class WebDriverError(Exception):
    def __init__(self, value):
        super().__init__(f"{value.get('error')}: {value.get('message', '').splitlines()[:1]}")
        self.error = value.get("error")


class Browser:
    def __init__(self, folder, options=()):
        os.makedirs(folder, exist_ok=True)
        self.log = os.path.join(folder, "chromedriver.log")
        self.session = None
        with open(self.log, "wb") as log:
            # HOME too: what Chromium writes outside of its profile goes away with the test.
            self.process = subprocess.Popen(["chromedriver", "--port=0"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            start_new_session=True, env={**os.environ, "HOME": folder,
                                                                         "XDG_CONFIG_HOME": folder, "XDG_CACHE_HOME": folder})
        try:
            self.port = self.wait_port()
            arguments = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                         "--disable-background-networking", "--disable-component-update", "--disable-sync",
                         "--disable-dev-shm-usage", f"--user-data-dir={os.path.join(folder, 'profile')}", *options]
            capabilities = {"browserName": "chrome", "acceptInsecureCerts": True,
                            "goog:loggingPrefs": {"browser": "ALL"}, "goog:chromeOptions": {"args": arguments}}
            self.session = self.ask("POST", "/session", {"capabilities": {"alwaysMatch": capabilities}})["sessionId"]
        except BaseException:
            self.close()
            raise

    def wait_port(self):
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            with open(self.log, errors="replace") as f:
                found = re.search(r"started successfully on port (\d+)", f.read())
            if found:
                return int(found.group(1))
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        with open(self.log, errors="replace") as f:
            raise AssertionError("chromedriver did not start:\n" + f.read())

    def close(self):
        if self.session:
            try:
                self.ask("DELETE", f"/session/{self.session}")
            except (OSError, WebDriverError, http.client.HTTPException):
                pass
            self.session = None
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None,
                               {"Content-Type": "application/json"})
            answer = connection.getresponse()
            value = json.loads(answer.read())["value"]
        finally:
            connection.close()
        if answer.status >= 400:
            raise WebDriverError(value)
        return value

    def do(self, method, path, body=None):
        return self.ask(method, f"/session/{self.session}{path}", body)

    # ---- the page

    def open(self, url):
        self.do("POST", "/url", {"url": url})

    def forget(self):
        """Nothing of the test before: not its page, its cookies, nor what its console says."""
        self.open("about:blank")
        self.devtools("Network.clearBrowserCookies")
        self.devtools("Network.clearBrowserCache")
        self.console()

    def js(self, script, *arguments):
        return self.do("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, condition, what):
        """Until CONDITION() is true; its value. What goes away while one looks at it is looked for again."""
        deadline = time.monotonic() + WAIT_S
        look = time.monotonic() + 2
        while True:
            try:
                value = condition()
                if not value and time.monotonic() > look:
                    look += 2  # an interface of this machine came or went: Chromium gives up what it loads
                    if "ERR_NETWORK_CHANGED" in self.text():
                        self.do("POST", "/refresh", {})
            except WebDriverError as e:
                if e.error not in ("stale element reference", "no such element", "javascript error"):
                    raise
                value = None
            if value:
                return value
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {WAIT_S} s: {what() if callable(what) else what}; "
                                     f"the page says:\n{self.text()}")
            time.sleep(0.03)

    def text(self):
        return self.js("return document.body.innerText")

    def wait_text(self, *texts):
        for text in texts:
            self.wait(lambda t=text: t in self.text(), f"the text {text!r}")

    def wait_js(self, expression, *arguments):
        return self.wait(lambda: self.js("return " + expression, *arguments), expression)

    def find(self, css):
        """The one that is shown, once it is there."""
        script = "const n = document.querySelector(arguments[0]); return n && n.checkVisibility() ? n : null"
        return self.wait(lambda: self.js(script, css), css)[ELEMENT]

    def click(self, css):
        """Found anew when it was replaced in between."""
        def one():
            self.do("POST", f"/element/{self.find(css)}/click", {})
            return True
        self.wait(one, f"a click on {css}")

    def fill(self, css, text):
        """In place of what it holds, at once, as what is pasted: keys() is for who types."""
        self.wait_js("((n) => n && n.checkVisibility() && (n.focus(), n.select(), n === document.activeElement))"
                     "(document.querySelector(arguments[0]))", css)
        self.devtools("Input.insertText", text=text)
    def keys(self, *keys):
        """Presses them one after another, wherever the focus is; ("shift", key) is both together."""
        actions = []
        for key in [k for word in keys for k in (word if isinstance(word, str) else [word])]:
            held = isinstance(key, tuple)
            actions += [{"type": "keyDown", "value": SHIFT}] if held else []
            value = key[1] if held else key
            actions += [{"type": "keyDown", "value": value}, {"type": "keyUp", "value": value}]
            actions += [{"type": "keyUp", "value": SHIFT}] if held else []
        self.do("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]})

    def focused(self):
        return self.js("const a = document.activeElement; return a.dataset.focus || a.id || a.textContent.trim()")

    def console(self):
        return self.do("POST", "/se/log", {"type": "browser"})

    def devtools(self, command, **parameters):
        return self.do("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def screen(self, width, height, dark=False):
        """The size of the page itself: a window has a least width."""
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.devtools("Emulation.setEmulatedMedia",
                      features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self.wait_js(f"innerWidth === {width}")

    def screenshot(self):
        return base64.b64decode(self.do("GET", "/screenshot"))
