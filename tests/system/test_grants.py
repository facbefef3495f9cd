#!/usr/bin/env python3
"""What a key may do, as its client sees it: watching, controlling, taking control over, and what other users of the
machine can reach."""
import os
import subprocess
import time
import unittest

from harness import SystemTest, main, wait_for

KNOCK = """
import os, socket, sys
for root, _, files in os.walk(sys.argv[1]):
    for name in files:
        path = os.path.join(root, name)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
                s.connect(path)
            print("connected", path)
        except OSError as e:
            print("refused", e.errno)
        try:
            open(path, "rb").close()
            print("opened", path)
        except OSError:
            pass
"""


class Grants(SystemTest):
    def setUp(self):
        super().setUp()
        _, self.display = self.xvfb("640x480")
        self.target(self.display)
        self.host(self.display)

    def roles(self):
        return {row["name"]: row["controls"] for row in self.sessions()}

    def wait_roles(self, **roles):
        wait_for(lambda: self.roles() == roles, 30, lambda: f"{roles}, but {self.roles()}")

    def injected(self):
        return self.metrics()["input"]["events_injected_total"]["value"]

    @staticmethod
    def press(display, *keys):
        subprocess.run(["xdotool", "mousemove", "300", "250", "key", *keys], check=True,
                       env={**os.environ, "DISPLAY": display})
        time.sleep(0.5)

    def test_a_key_that_may_only_view(self):
        _, screen = self.xvfb("640x480")
        self.pair("watcher", "--grant", "view")
        client = self.client_window(screen, "--take-control", name="watcher")
        self.said("watcher", "Connected")
        key = next(row["key"] for row in self.sessions() if row["name"] == "watcher")
        self.assertEqual(self.ctl("grant", key, "view").returncode, 0)
        self.wait_roles(watcher=False)
        before = self.injected()
        self.press(screen, "a", "ctrl+alt+shift+c", "b")
        self.wait_roles(watcher=False)
        self.assertEqual(self.injected(), before)
        self.assertIn("has not granted input", self.read_log("watcher"))
        self.assertIsNone(client.poll())
        self.assertEqual(self.ctl("grant", key, "view,input").returncode, 0)  # takes effect at once
        self.wait_roles(watcher=True)
        self.press(screen, "c")
        wait_for(lambda: self.injected() > before, 30, "input of the key that may now")

    def test_control_is_taken_over_and_given_back(self):
        screens = [self.xvfb("640x480")[1] for _ in range(2)]
        self.client_window(screens[0], name="first")
        self.wait_roles(first=True)
        self.client_window(screens[1], name="second")
        self.wait_roles(first=True, second=False)
        self.press(screens[1], "a")
        self.said("second", "takes control")
        self.press(screens[1], "ctrl+alt+shift+c")
        self.wait_roles(first=False, second=True)
        self.said("first", "Another client controls now")
        before = self.injected()
        self.press(screens[0], "a")
        self.assertEqual(self.injected(), before)
        self.press(screens[1], "a")
        wait_for(lambda: self.injected() > before, 30, "input of the one who took control")
        self.press(screens[1], "ctrl+alt+shift+c")
        self.wait_roles(first=True, second=False)
        self.viewer("third", "--take-control")
        self.wait_roles(first=False, second=False, third=True)

    def test_many_viewers_and_one_that_goes(self):
        viewers = [f"v{i}" for i in range(6)]
        for name in viewers:
            self.viewer(name)
        wait_for(lambda: sorted(self.roles()) == viewers, 30, lambda: str(self.roles()))
        self.assertEqual(sum(self.roles().values()), 1)
        key = next(row["key"] for row in self.sessions() if row["name"] == "v3")
        self.assertEqual(self.ctl("revoke", key).returncode, 0)
        viewers.remove("v3")
        wait_for(lambda: sorted(self.roles()) == viewers, 30, lambda: str(self.roles()))
        self.assertNotEqual(self.processes["v3"].wait(30), 0)
        self.assertIn("no longer accepts", self.read_log("v3"))
        before = {row["name"]: row["frames_sent"] for row in self.sessions()}
        wait_for(lambda: all(row["frames_sent"] > before[row["name"]] + 5 for row in self.sessions()), 30, "frames")
        for name in viewers:
            self.stop(self.processes[name])
            self.assertEqual(self.processes[name].returncode, 0, self.read_log(name))

    @unittest.skipUnless(os.geteuid() == 0, "only root can be another user")
    def test_other_users_reach_nothing_of_ours(self):
        self.pair("guest")
        for folder in ("host.run", "host.state"):
            result = subprocess.run(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "python3", "-c",
                                     KNOCK, self.path(folder)], stdout=subprocess.PIPE, text=True, check=True)
            self.assertNotIn("connected", result.stdout)
            self.assertNotIn("opened", result.stdout)
        ours = {row["pid"] for row in self.stages().values()}
        with open("/proc/net/unix") as f:  # abstract sockets have no permissions
            abstract = {line.split()[6]: line.split()[7] for line in f if len(line.split()) > 7 and " @" in line}
        for pid in ours:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                target = os.readlink(f"/proc/{pid}/fd/{fd}")
                self.assertNotIn(target.removeprefix("socket:[").removesuffix("]"), abstract, target)

    def test_names_are_not_paths(self):
        def files():
            return {os.path.join(root, name) for root, _, names in os.walk(self.dir) for name in names
                    if ".state" in root or ".run" in root}
        before = files()
        for i, name in enumerate(("../../../etc/x", "/etc/passwd", "..", "a/../../b")):
            self.authorize(self.path(f"t{i}.identity"), name)
            if i < 2:  # clients that paired keep a place for pairing for some seconds
                self.pair(f"u{i}", "--name", name)
            for words in (["restart", name], ["log-level", name, "debug"], ["revoke", name], ["grant", name, "view"]):
                self.assertNotEqual(self.ctl(*words).returncode, 0, words)
        self.assertEqual({p for p in files() - before if not p.endswith(("peers", "pairing"))}, set())
        self.assertEqual(self.ctl("peers").stdout.count("wavry1"), 6)


if __name__ == "__main__":
    main()
