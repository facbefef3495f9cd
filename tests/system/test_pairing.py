#!/usr/bin/env python3
"""Pairing as people do it: by code and by URL, what is said when it fails, what is left behind, and who can't."""
import os
import subprocess
import threading
import time

from harness import BIN, SystemTest, free_udp_port, main, wait_for


class Pairing(SystemTest):
    def setUp(self):
        super().setUp()
        _, self.display = self.xvfb("640x480")
        self.host(self.display)
        self.where = f"127.0.0.1:{self.port}"

    def known(self, name):
        try:
            with open(self.path(f"{name}.known")) as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def peers(self):
        """The list, when somebody is there to tell it: identity may just be starting again."""
        return wait_for(lambda: (r := self.ctl("peers")).returncode == 0 and (r.stdout or " "), 30, "the list of peers")

    def as_ann(self, where):
        return [f"{BIN}/wavry-client", where, "--identity", self.path("ann.identity"), "--set",
                f"known_hosts={self.path('ann')}.known"]

    def key_of(self, name):
        return self.client(name, "--print-key")[1].strip()

    def kill(self, stage):
        before = super().kill(stage)
        return lambda: self.wait_successor(stage, before)

    def test_a_code_pairs_one_client(self):
        self.target(self.display)
        shown = self.pairing_code("--name", "laptop")
        self.assertRegex(shown["code"], r"^\d{8}$")
        status, said = self.client("ann", "pair", self.where, "--code", f"{shown['code'][:4]} {shown['code'][4:]}")
        self.assertEqual(status, 0, said)
        self.assertEqual(self.known("ann"), f"{self.where} {shown['host_key']}\n")
        self.assertIn("laptop", self.peers())
        status, said = self.watches(self.as_ann(self.where))
        self.assertEqual(status, 0, said)  # pictures came
        status, said = self.client("bob", "pair", self.where, "--code", shown["code"], "--give-up", "2")
        self.assertNotEqual(status, 0, said)
        self.assertIn("wavryctl pair", said)  # used; what to do
        self.assertEqual(self.known("bob"), "")
        self.assertNotIn(self.key_of("bob"), self.peers())

    def test_a_url_pairs_and_connects(self):
        self.target(self.display)
        url = self.pairing_code("--name", "by url")["url"]
        status, said = self.watches(self.as_ann(url))
        self.assertEqual(status, 0, said)
        self.assertIn("Paired with", said)
        self.assertIn("Connected to", said)
        self.assertIn("by url", self.peers())
        status, said = self.client("bob", "pair", url)  # the token is used up
        self.assertEqual(status, 77, said)
        self.assertIn("wavryctl pair", said)

    def test_each_failure_is_said(self):
        status, said = self.client("ann", "pair", self.where, "--code", "12345678", "--give-up", "1")
        self.assertEqual(status, 69, said)
        self.assertIn("shows a pairing code", said)
        code = self.pairing_code()["code"]
        wrong = f"{(int(code) + 1) % 10**8:08}"
        for left in ("2 more tries", "1 more try"):
            status, said = self.client("ann", "pair", self.where, "--code", wrong)
            self.assertEqual(status, 77, said)
            self.assertIn("the code is wrong", said)
            self.assertIn(left, said)
        status, said = self.client("ann", "pair", self.where, "--code", wrong)
        self.assertEqual(status, 77, said)
        self.assertIn("For a new code, on the host run: wavryctl pair", said)
        status, said = self.client("ann", "pair", self.where, "--code", code, "--give-up", "1")
        self.assertNotEqual(status, 0, said)  # burnt
        self.assertIn("wavryctl pair", said)
        for words, text in ((["--code", "1234"], "8 digits"), (["--code", "1234567x"], "8 digits"), ([], "--code")):
            status, said = self.client("ann", "pair", self.where, *words)
            self.assertEqual(status, 64, said)
            self.assertIn(text, said)
        self.assertEqual(self.known("ann"), "")

    def test_a_code_has_its_time(self):
        code = self.pairing_code("--ttl", "1s")["code"]
        time.sleep(1.3)
        status, said = self.client("ann", "pair", self.where, "--code", code, "--give-up", "2")
        self.assertNotEqual(status, 0, said)
        self.assertIn("wavryctl pair", said)
        self.assertNotIn(self.key_of("ann"), self.peers())

    def kill_in_the_middle(self, stage):
        """Whenever STAGE dies, both sides agree: the client says that it is paired only when the host has its key."""
        paired = 0
        for attempt in range(8):
            name = f"{stage}{attempt}"
            key = self.key_of(name)
            code = self.pairing_code()["code"]
            came_back = []
            timer = threading.Timer(0.008 * attempt, lambda: came_back.append(self.kill(stage)))
            timer.start()
            status, said = self.client(name, "pair", self.where, "--code", code, "--give-up", "4")
            timer.join()
            came_back[0]()
            self.assertIn(status, (0, 69, 75, 77), said)
            if status == 0:
                self.assertIn(key, self.peers())
                paired += 1
            else:
                self.assertEqual(self.known(name), "")
            self.ctl("pair", "--cancel")
            # Runs that were cut count as failed.
            wait_for(lambda: self.ctl("pair", "--reopen").returncode == 0, 30, "identity opens pairing again")
        self.pair("afterwards")
        return paired

    def test_identity_dies_in_the_middle(self):
        self.kill_in_the_middle("identity")

    def test_transport_dies_in_the_middle(self):
        self.kill_in_the_middle("transport")

    def test_who_sits_between_gets_nothing(self):
        """An attacker with its own keys passes the whole pairing on: it fails, costs a try, and nothing is noted."""
        shown = self.pairing_code()
        port = free_udp_port()
        self.start("middle", [f"{BIN}/wavry-middle", str(port), str(self.port), shown["host_key"]])
        self.said("middle", "ready")
        status, said = self.client("ann", "pair", f"127.0.0.1:{port}", "--code", shown["code"])
        self.assertEqual(status, 77, said)
        self.assertIn("the code is wrong", said)
        self.assertIn("2 more tries", said)
        self.assertIn("bytes to the host", self.read_log("middle"))  # it did come through
        self.assertIn("bytes to the client", self.read_log("middle"))
        self.assertEqual(self.known("ann"), "")
        self.assertNotIn("wavry1", self.peers())
        # With the URL the client knows the host's key: it does not even speak to somebody else.
        url = shown["url"].replace(f":{self.port}?", f":{port}?")
        status, said = self.client("ann", "pair", url, "--give-up", "2")
        self.assertIn(status, (69, 77), said)
        self.assertEqual(self.read_log("middle").count("a client came"), 1)
        status, said = self.client("ann", "pair", self.where, "--code", shown["code"])  # the true host, the same code
        self.assertEqual(status, 0, said)

    def test_a_url_sets_nothing_but_the_host(self):
        """What a page or a message can make somebody click on: no setting of the client is reached through it."""
        url = self.pairing_code()["url"]
        marker = self.path("marker")
        for evil in (url + f"&record={marker}", url + f"&set=stats_json={marker}", url + f" --record={marker}",
                     url.replace("wavry:", f"wavry:--record={marker}"), url.replace("?", f"?identity={marker}&"),
                     url.replace("127.0.0.1", f"127.0.0.1\nstats_json={marker}"), url.replace("127.0.0.1", "../../etc"),
                     url.replace("127.0.0.1", "$(touch " + marker + ")")):
            status, said = self.client("ann", evil, "--headless", "--seconds", "1")
            self.assertEqual(status, 64, f"{evil}: {said}")
        self.assertFalse(os.path.exists(marker))
        self.assertEqual(self.known("ann"), "")


if __name__ == "__main__":
    main()
