#!/usr/bin/env python3
"""The process that faces the network is somebody else's: it writes down all that reaches it and forges what it can
(hostile_transport.c). It gets no picture, no keystroke and no key, and puts none in; who may not see does not see and
who may not control does not control, whatever it says; and those who may work on."""
import json
import os
import shutil
import signal

from harness import BIN, SystemTest, main, wait_for

START_CODES = [b"\x00\x00\x00\x01" + bytes([nal]) for nal in (0x67, 0x68, 0x65, 0x61, 0x41, 0x27, 0x28, 0x25, 0x21)]


class HostileTransport(SystemTest):
    def setUp(self):
        super().setUp()
        _, self.display = self.xvfb()
        self.target(self.display)
        programs = self.path("programs")
        os.mkdir(programs, 0o755)
        for name in os.listdir(BIN):
            if name.startswith("wavry-") and name != "wavry-transport":
                os.symlink(os.path.join(os.path.abspath(BIN), name), os.path.join(programs, name))
        shutil.copy(f"{BIN}/wavry-hostile-transport", f"{programs}/wavry-transport")
        self.record_path = f"{programs}/hostile.record"
        with open(self.record_path, "wb"):
            os.chmod(self.record_path, 0o666)
        self.host(self.display, "--libexec-dir", programs)

    def record(self):
        with open(self.record_path, "rb") as f:
            return f.read()

    def recorded(self, what):
        """The bodies of all entries of that name; one that is being written does not count."""
        record, bodies, at = self.record(), [], 0
        while (end := record.find(b"\n", at + 1)) > 0:
            self.assertEqual(record[at:at + 2], b"\n@")
            name, length = record[at + 2:end].decode().rsplit(" ", 1)
            at = end + 1 + int(length)
            if name == what and at <= len(record):
                bodies.append(record[end + 1:at])
        return bodies

    def metric(self, stage, name):
        return self.metrics()[stage][name]["value"]

    def how_it_stands(self):
        counts = {f"{stage}.{name}": m["value"] for stage, rows in self.metrics().items() for name, m in rows.items()
                  if stage in ("input", "transport", "encoder") and m.get("value")}
        return f"presses seen; the probe said: {self.read_log('probe')[-1000:]}\n{counts}"

    def check_record(self):
        record = self.record()
        self.assertGreater(record.count(b"\n@au "), 20, "it saw access units")
        self.assertGreater(record.count(b"\n@out "), 20, "it wrote down what it sent")
        self.assertIn(b"\n@outer-key 32\n", record)
        for code in START_CODES:
            self.assertNotIn(code, record)
        for name in (b"MediaKey", b"CursorKey", b"Controller"):
            self.assertNotIn(b"\n@in identity wavry.bus." + name + b" ", record)
        with open(self.path("host.state/identity/identity"), "rb") as f:
            secret = f.read().split()[-1]
        self.assertGreater(len(secret), 20)
        self.assertNotIn(secret, record)

    def check_cursors(self):
        """An image of a cursor is for the greater part transparent, rows of zeros; sealed, it has no such rows."""
        shapes = self.recorded("in capture wavry.bus.CursorShape")
        self.assertTrue(shapes, "the shape of the pointer came by")
        for shape in shapes:
            self.assertGreater(len(shape), 200, "it is a whole image")
            self.assertNotIn(bytes(8), shape)

    def numbers(self, name):
        with open(self.path(f"{name}.json")) as f:
            return json.load(f)

    def granted(self, name, grants):
        key = self.authorize(self.path(f"{name}.identity"), name)
        self.assertEqual(self.ctl("grant", key, grants).returncode, 0)

    def watch(self, name):
        """A client without a window that stays for some seconds, whatever the host grants it."""
        return self.start(name, [
            f"{BIN}/wavry-client", f"127.0.0.1:{self.port}", "--headless", "--identity", self.path(f"{name}.identity"),
            "--host-key", self.host_key(), "--seconds", "6", "--stats-json", self.path(f"{name}.json")])

    def test_it_gets_nothing_and_puts_nothing_in(self):
        probe = self.probe(220, "--pause", "80")
        wait_for(lambda: self.presses_seen() > 15, 30, self.how_it_stands)
        probe.send_signal(signal.SIGTERM)
        result = self.probe_result(probe, 30)
        self.assertEqual(result["connects"], 1)
        self.check_record()
        self.check_cursors()
        self.assertGreater(len(self.recorded("forged-input")), 100)
        self.assertGreater(len(self.recorded("forged-au")), 5)
        self.assertGreater(self.metric("input", "events_refused_forged_total"), 20)
        self.assertGreater(self.metric("input", "events_repeated_total"), 20)
        wait_for(lambda: self.metric("input", "held") == 0, 30, "nothing held")
        # A press and a release each, and not one more; the last press may have been cut off.
        injected, presses = self.metric("input", "events_injected_total"), self.presses_made()
        self.assertLessEqual(injected, 2 * presses + 2)
        self.assertGreaterEqual(injected, 2 * 15)
        self.assertGreater(self.metric("identity", "inner_messages_bad_total"), 0)
        self.assertEqual(self.metric("encoder", "encoder_errors_total"), 0)

    def presses_made(self):
        return self.read_log("probe").count("press at=")

    def test_who_may_not_see_does_not_see(self):
        """Identity knows the one not at all and lets the other only control; the transport sends both the picture."""
        friend = self.viewer("friend")
        self.said("friend", "Connected", 30)
        self.granted("blind", "input")
        for client in [self.watch("stranger"), self.watch("blind")]:
            client.wait(60)
        for name in ("stranger", "blind"):
            numbers = self.numbers(name)
            self.assertGreater(numbers["packets_received"], 20, f"the transport served {name}")
            self.assertEqual((numbers["frames_decoded"], numbers["frames_shown"]), (0, 0), name)
        friend.send_signal(signal.SIGTERM)
        self.assertEqual(friend.wait(30), 0, self.read_log("friend"))
        numbers = self.numbers("friend")
        self.assertGreater(numbers["frames_decoded"], 10)
        self.assertEqual(numbers["decode_errors"], 0, "what was forged never came to the decoder")
        self.assertGreater(numbers["keyframe_requests"], 0)
        self.check_record()
        self.check_cursors()

    def test_who_may_not_control_does_not_control(self):
        """Identity lets this client only see; it presses keys all the same, and the transport passes them on."""
        probe = self.probe(220, "--pause", "80")
        wait_for(lambda: self.presses_seen() > 3, 30, self.how_it_stands)
        self.granted("probe", "view")
        wait_for(lambda: self.metric("input", "held") == 0, 30, "nothing held")
        injected, forged = self.metric("input", "events_injected_total"), len(self.recorded("forged-input"))
        pressed = self.presses_made()
        wait_for(lambda: self.presses_made() > pressed + 3, 30, "keys pressed in vain")
        wait_for(lambda: len(self.recorded("forged-input")) > forged + 3, 30, "events passed on in vain")
        self.assertEqual(self.metric("input", "events_injected_total"), injected)
        self.assertEqual(self.metric("input", "held"), 0)
        probe.send_signal(signal.SIGTERM)
        probe.wait(30)


if __name__ == "__main__":
    main()
