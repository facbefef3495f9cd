#!/usr/bin/env python3
"""The demo, as a newcomer starts it on a machine without a display."""
import json
import os
import subprocess
import zlib

from harness import BIN, SystemTest, main


def png_size_and_colours(path):
    """(width, height, how many different bytes its rows hold) of an 8-bit PNG."""
    with open(path, "rb") as f:
        data = f.read()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, packed, width, height = 8, b"", 0, 0
    while at < len(data):
        length, kind = int.from_bytes(data[at:at + 4], "big"), data[at + 4:at + 8]
        body = data[at + 8:at + 8 + length]
        if kind == b"IHDR":
            width, height = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")
        elif kind == b"IDAT":
            packed += body
        at += 12 + length
    return width, height, len(set(zlib.decompress(packed)))


class Demo(SystemTest):
    def test_headless_demo(self):
        environment = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
        result = subprocess.run([os.path.join(os.path.dirname(__file__), "../../demo/run"), BIN, "--seconds", "8",
                                 "--json", self.path("demo.json"), "--snapshot", self.path("demo.png")],
                                env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                timeout=180, check=False)
        self.assertEqual(result.returncode, 0, result.stdout)
        with open(self.path("demo.json")) as f:
            summary = json.load(f)
        # Thirty pictures a second, on a machine that does nothing else; how many come here says nothing about the demo.
        self.assertGreater(summary["frames_shown"], 5)
        self.assertGreater(summary["input_sent"], 2)
        self.assertEqual(summary["input_seen"], summary["input_sent"])
        self.assertGreater(summary["click_to_photon_ms"]["p50"], 0)
        self.assertGreaterEqual(summary["click_to_photon_ms"]["p99"], summary["click_to_photon_ms"]["p50"])
        for stage in ["capture", "convert", "raw_wait", "encode", "au_wait", "packetise", "pace", "network",
                      "reassemble", "decode", "present", "glass"]:
            self.assertIn(stage, summary["stages"])
        self.assertGreater(summary["bitrate_bps"], 1000)
        width, height, colours = png_size_and_colours(summary["snapshot"])
        self.assertEqual((width, height), (1280, 720))
        self.assertGreater(colours, 50)


if __name__ == "__main__":
    main()
