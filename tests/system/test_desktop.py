#!/usr/bin/env python3
"""A desktop, streamed and controlled: what is typed and clicked in the client's window reaches a real program on the
host's display, and what that program draws reaches the client's window."""
import os
import pathlib
import subprocess

from harness import BIN, Screenshot, SystemTest, main, wait_for


class Desktop(SystemTest):
    def test_typing_in_a_terminal(self):
        _, host_display = self.xvfb()
        _, client_display = self.xvfb()
        typed = self.path("typed")
        self.start("xterm", ["xterm", "-geometry", "80x24+100+100", "-fs", "14", "-e",
                             f"sh -c 'cat > {typed}'"], DISPLAY=host_display)
        self.host(host_display)
        self.client_window(client_display)
        wait_for(lambda: self.sessions(), 30, "a session")
        wait_for(lambda: Screenshot(client_display).differs_from(Screenshot(host_display)) < 200, 30,
                 "the client's window showing the host's display")
        # The pointer decides about the focus where there is no window manager: put it on the terminal.
        subprocess.run(["xdotool", "mousemove", "300", "250"], env={**os.environ, "DISPLAY": client_display}, check=True)
        wait_for(lambda: "X=300" in subprocess.run(["xdotool", "getmouselocation", "--shell"], text=True,
                                                   stdout=subprocess.PIPE, check=True,
                                                   env={**os.environ, "DISPLAY": host_display}).stdout, 30,
                 "the host's pointer following the client's")
        before = Screenshot(client_display)
        line = "Hello, Wavry 42! A line as long as this one shows on a grid of pixels"
        for command in (["xdotool", "type", "--delay", "20", line], ["xdotool", "key", "Return"]):
            subprocess.run(command, env={**os.environ, "DISPLAY": client_display}, check=True)
        wait_for(lambda: pathlib.Path(typed).read_text() == line + "\n", 30,
                 lambda: f"the typed line in the terminal; there is {pathlib.Path(typed).read_text()!r}")
        wait_for(lambda: Screenshot(client_display).differs_from(before) > 20, 30, "the typed letters in the client")
        wait_for(lambda: Screenshot(client_display).differs_from(Screenshot(host_display)) < 200, 30,
                 "both displays showing the same")

    def test_held_keys_come_up(self):
        """A key held in the client comes up at the host when the client is killed."""
        _, host_display = self.xvfb()
        _, client_display = self.xvfb()
        self.target(host_display)
        self.host(host_display)
        client = self.client_window(client_display)
        wait_for(lambda: self.sessions() and self.sessions()[0]["controls"], 30, "a session that controls")

        def hold():  # again and again: the window may not be there yet
            subprocess.run(["xdotool", "keydown", "Shift_L"], env={**os.environ, "DISPLAY": client_display}, check=True)
            return self.held_keys(host_display)
        wait_for(hold, 30, "the key held at the host")
        client.kill()
        wait_for(lambda: not self.held_keys(host_display), 30, "the key released after the client's death")

    @staticmethod
    def held_keys(display):
        """Key codes that the X server of DISPLAY holds to be down."""
        out = subprocess.run([f"{BIN}/wavry-held-keys"], text=True, stdout=subprocess.PIPE, check=True,
                             env={**os.environ, "DISPLAY": display}).stdout
        return out.split()

    def test_resize_of_the_display(self):
        _, host_display = self.xvfb("1280x720")
        self.target(host_display)
        self.host(host_display)
        probe = self.probe(220)
        wait_for(lambda: self.presses_seen() > 1, 30, "a press seen")
        subprocess.run(["xrandr", "--fb", "1024x600", "--output", "screen", "--off"],
                       env={**os.environ, "DISPLAY": host_display}, check=True)
        wait_for(lambda: self.metrics()["encoder"]["width"]["value"] == 1024, 30, lambda: str(self.metrics()["encoder"]))
        sent = self.sessions()[0]["frames_sent"]
        wait_for(lambda: self.sessions()[0]["frames_sent"] > sent + 60, 30, "pictures of the new size")
        result = self.end_probe(probe)
        self.assertEqual((result["width"], result["height"]), (1024, 600))
        self.assertEqual(result["connects"], 1)


if __name__ == "__main__":
    main()
