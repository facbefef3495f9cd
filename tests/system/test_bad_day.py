#!/usr/bin/env python3
"""Bad input and bad days, through the front doors: each gets a clear message, nothing is lost, a metric counts it."""
import os
import random
import signal
import socket
import subprocess

from harness import BIN, SystemTest, free_udp_port, main, wait_for


class BadDay(SystemTest):
    def test_garbage_datagrams_during_a_session(self):
        _, display = self.xvfb()
        self.target(display)
        self.host(display)
        probe = self.probe(220)
        wait_for(lambda: self.presses_seen() > 1, 30, lambda: "presses: " + self.read_log("probe"))
        rng = random.Random(7)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            for _ in range(3000):
                kind = rng.choice([0, 1, 2, 3, 4, 16, rng.randrange(256)])
                s.sendto(bytes([kind]) + rng.randbytes(rng.choice([0, 3, 15, 16, 40, 200, 1199, 1300])),
                         ("127.0.0.1", self.port))
            for _ in range(200):  # handshakes that begin and never go on
                s.sendto(bytes([1, 1, 0, 0]) + rng.randbytes(1196), ("127.0.0.1", self.port))
        self.wait_for_press()
        result = self.end_probe(probe)
        self.assertEqual(result["connects"], 1)
        counted = sum(row["value"] for name, row in self.metrics()["transport"].items() if "dropped" in name)
        self.assertGreater(counted, 2000)

    def test_unknown_key_is_refused_in_words(self):
        _, display = self.xvfb()
        self.host(display)
        client = self.start("client", [f"{BIN}/wavry-client", f"127.0.0.1:{self.port}", "--headless", "--seconds", "60",
                                       "--identity", self.path("stranger.identity"), "--host-key", self.host_key()])
        self.assertNotEqual(client.wait(90), 0)
        self.assertIn("wavryctl authorize wavry1", self.read_log("client"))

    def test_a_host_that_is_not_known_is_not_spoken_with(self):
        _, display = self.xvfb()
        self.host(display)
        status, said = self.client("stranger", f"127.0.0.1:{self.port}", "--headless", "--seconds", "5")
        self.assertEqual(status, 77, said)
        self.assertIn(f"wavry-client pair 127.0.0.1:{self.port}", said)
        self.assertEqual(self.metrics()["transport"]["handshakes_started_total"]["value"], 0)

    def test_a_changed_host_key_is_an_alarm(self):
        """The host of yesterday has another key today: the client does not connect, and tells the host nothing."""
        _, display = self.xvfb()
        self.place = "yesterday"
        yesterday = self.host(display)
        self.pair("guest")
        self.stop(yesterday)
        self.place = "today"
        self.host(display, port=self.port)
        status, said = self.client("guest", f"127.0.0.1:{self.port}", "--headless", "--seconds", "20", "--give-up", "2")
        self.assertEqual(status, 69, said)
        self.assertIn("set up anew", said)
        url = self.pairing_code()["url"]
        status, said = self.client("guest", "pair", url)
        self.assertEqual(status, 77, said)
        self.assertIn("THE KEY OF THIS HOST HAS CHANGED", said)
        self.assertIn("pair --new-key", said)
        self.assertEqual(self.metrics()["transport"]["handshakes_finished_total"]["value"], 0)
        status, said = self.client("guest", "pair", "--new-key", url)
        self.assertEqual(status, 0, said)
        with open(self.path("guest.known")) as f:
            self.assertEqual(f.read(), f"127.0.0.1:{self.port} {self.host_key()}\n")

    def test_absent_host_is_said_in_words(self):
        port = free_udp_port()
        client = self.start("client", [f"{BIN}/wavry-client", f"127.0.0.1:{port}", "--headless", "--seconds", "6",
                                       "--identity", self.path("a.identity"), "--host-key",
                                       "wavry1AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"])
        self.assertNotEqual(client.wait(60), 0)
        self.assertIn(str(port), self.read_log("client"))

    def test_port_in_use(self):
        _, display = self.xvfb()
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
            s.bind(("::", 0))
            port = s.getsockname()[1]
            result = subprocess.run([f"{BIN}/wavry-supervisor", "--standalone", "--runtime-dir", self.path("host.run"),
                                     "--state-dir", self.path("host.state"), "--port", str(port), "--display", display],
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
                                    check=False)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn(str(port), result.stdout)
        self.assertIn("in use", result.stdout)

    def test_unknown_configuration_key(self):
        with open(self.path("host.conf"), "w") as f:
            f.write("[encoder]\n\nbitrat_kbps = 5000\n")
        _, display = self.xvfb()
        process = self.host(display, "--config", self.path("host.conf"), ready=False)
        wait_for(lambda: process.poll() is not None or self.stages().get("encoder", {}).get("state") in
                 ("failed", "backing off"), 30, lambda: str(self.stages()))
        said = self.read_log("host") + self.ctl("status").stdout
        self.assertIn("host.conf:3", said)
        self.assertIn("bitrat_kbps", said)

    def test_display_goes_away_and_comes_back(self):
        server, display = self.xvfb()
        target = self.target(display)
        self.host(display)
        probe = self.probe(220, "--pause", "60")
        wait_for(lambda: self.presses_seen() > 1, 30, lambda: "presses: " + self.read_log("probe"))
        pids = {name: row["pid"] for name, row in self.stages().items()}
        self.stop(server)
        target.wait(30)
        # The status names the display that is missing.
        wait_for(lambda: display in self.stages()["capture"]["status"] and "capturing" not in
                 self.stages()["capture"]["status"], 30, lambda: str(self.stages()))
        self.xvfb(display=display)
        self.target(display)
        self.wait_for_press(20)
        self.assertEqual({name: row["pid"] for name, row in self.stages().items()}, pids, "no stage had to die for it")
        probe.send_signal(signal.SIGTERM)
        self.assertEqual(self.probe_result(probe, 30)["connects"], 1)

    def test_host_without_a_display_answers_and_recovers(self):
        _, free = self.xvfb()
        number = int(free[1:]) + 40  # nobody is there
        self.assertFalse(os.path.exists(f"/tmp/.X11-unix/X{number}"))
        self.host(f":{number}")
        self.assertIn(f":{number}", self.ctl("stages").stdout)
        self.assertEqual(self.ctl("status").returncode, 0)

    def test_client_that_vanishes_leaves_room(self):
        _, display = self.xvfb()
        self.target(display)
        self.host(display)
        probe = self.probe(220)
        wait_for(lambda: self.sessions(), 30, "a session")
        probe.kill()
        wait_for(lambda: not self.sessions(), 20, "the session of a vanished client ended")


if __name__ == "__main__":
    main()
