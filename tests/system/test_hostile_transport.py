#!/usr/bin/env python3
"""The process that faces the network is somebody else's: it writes down all that reaches it and forges what it can
(hostile_transport.c). It gets no picture, no keystroke and no key, and puts none in; and those who may work on."""
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

    def metric(self, stage, name):
        return self.metrics()[stage][name]["value"]

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

    def test_it_gets_nothing_and_puts_nothing_in(self):
        probe = self.probe(60, "--pause", "80")
        wait_for(lambda: self.presses_seen() > 15, 40, lambda: "presses seen: " + self.read_log("probe")[-2000:])
        probe.send_signal(signal.SIGTERM)
        result = self.probe_result(probe, 10)
        self.assertEqual(result["connects"], 1)
        self.check_record()
        record = self.record()
        self.assertGreater(record.count(b"\n@forged-input "), 100)
        self.assertGreater(record.count(b"\n@forged-au "), 5)
        self.assertGreater(self.metric("input", "events_refused_forged_total"), 20)
        self.assertGreater(self.metric("input", "events_repeated_total"), 20)
        wait_for(lambda: self.metric("input", "held") == 0, 5, "nothing held")
        # A press and a release each, and not one more; the last press may have been cut off.
        injected, presses = self.metric("input", "events_injected_total"), self.presses_made()
        self.assertLessEqual(injected, 2 * presses + 2)
        self.assertGreaterEqual(injected, 2 * 15)
        self.assertGreater(self.metric("identity", "inner_messages_bad_total"), 0)
        self.assertEqual(self.metric("encoder", "encoder_errors_total"), 0)

    def presses_made(self):
        return self.read_log("probe").count("press at=")


if __name__ == "__main__":
    main()
