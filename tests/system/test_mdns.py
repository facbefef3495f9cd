#!/usr/bin/env python3
"""A host that announces itself on the local network, and a client that finds it by name: two network namespaces on
one link, each with its own message bus and avahi-daemon."""
import json
import os
import shutil
import subprocess
import unittest

import harness
from harness import BIN, wait_for

TOOLS = ["ip", "dbus-daemon", "avahi-daemon", "unshare", "nsenter"]
BUS_CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
</policy></busconfig>"""
AVAHI_CONFIG = """[server]
host-name={name}
use-ipv4=yes
use-ipv6=no
allow-interfaces={card}
enable-dbus=yes
ratelimit-interval-usec=1000000
ratelimit-burst=1000
[wide-area]
enable-wide-area=no
[publish]
publish-workstation=no
[rlimits]
"""
# A /run of its own, and users for the stages: a message bus lets nobody in whom the machine does not know.
STAGE_USERS = [f"wavry-{s}" for s in harness.STAGES]
INSIDE = """set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/dbus /run/avahi-daemon
chown avahi:avahi /run/avahi-daemon
cp /etc/passwd /etc/group /run
n=61900
for u in {users}; do
    n=$((n + 1))
    grep -q "^$u:" /run/passwd || echo "$u:x:$n:$n::/:/usr/sbin/nologin" >> /run/passwd
    grep -q "^$u:" /run/group || echo "$u:x:$n:" >> /run/group
done
cp /etc/hosts /run/hosts
mount --bind /run/hosts /etc/hosts
chmod 755 /run /run/dbus
mount --bind /run/passwd /etc/passwd
mount --bind /run/group /etc/group
echo there
exec sleep 600"""


@unittest.skipUnless(os.getuid() == 0, "namespaces of two machines need root")
@unittest.skipUnless(all(shutil.which(t) for t in TOOLS), "needs " + ", ".join(TOOLS))
class Mdns(harness.SystemTest):
    def setUp(self):
        super().setUp()
        self.spaces = {}
        for name in ("hostside", "clientside"):
            # A process that holds the namespaces: network, and mounts, for each has a /run of its own.
            holder = self.start(f"{name}-space", ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c",
                                                  INSIDE.format(users=" ".join(STAGE_USERS))])
            self.said(f"{name}-space", "there", 20)
            self.spaces[name] = holder.pid
        cards = {"hostside": "wvm-h", "clientside": "wvm-c"}
        subprocess.run(["ip", "link", "add", "wvm-h", "netns", str(self.spaces["hostside"]), "type", "veth", "peer",
                        "name", "wvm-c", "netns", str(self.spaces["clientside"])], check=True)
        for number, (name, card) in enumerate(cards.items(), 1):
            for command in (["ip", "link", "set", "lo", "up"], ["ip", "addr", "add", f"198.18.77.{number}/24", "dev", card],
                            ["ip", "link", "set", card, "up", "multicast", "on"],
                            ["ip", "route", "add", "224.0.0.0/4", "dev", card]):
                subprocess.run(self.inside(name, *command), check=True)

    def inside(self, name, *command):
        return ["nsenter", "-t", str(self.spaces[name]), "-n", "-m", *command]

    def bus(self, name):
        config = self.path(f"{name}.bus.conf")
        with open(config, "w") as f:
            f.write(BUS_CONFIG.format(path="/run/dbus/system_bus_socket"))
        self.start(f"{name}-bus", self.inside(name, "dbus-daemon", "--nofork", "--nopidfile", f"--config-file={config}"))
        wait_for(lambda: subprocess.run(self.inside(name, "test", "-S", "/run/dbus/system_bus_socket"),
                                        check=False).returncode == 0, 20, "a message bus")

    def avahi(self, name, card):
        config = self.path(f"{name}.avahi.conf")
        with open(config, "w") as f:
            f.write(AVAHI_CONFIG.format(name=name, card=card))
        return self.start(f"{name}-avahi", self.inside(name, "avahi-daemon", "-f", config, "--no-drop-root",
                                                       "--no-chroot", "--no-rlimits"))

    def ctl_of(self, name, *words):
        result = subprocess.run(self.inside(name, f"{BIN}/wavryctl", "--socket",
                                            self.path(f"{self.place}.run/control.sock"), *words), text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False, timeout=30,
                                env={**os.environ, "XDG_CONFIG_HOME": self.path("person")})
        return result

    def client_in(self, *words):
        result = subprocess.run(self.inside("clientside", f"{BIN}/wavry-client", *words), text=True, check=False,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
                                env={**os.environ, "XDG_CONFIG_HOME": self.path("person")})
        return result.returncode, result.stdout

    @staticmethod
    def is_found(run):
        """RUN, as often as a busy machine takes longer to find a name than a client waits for it."""
        return wait_for(lambda: (found := run())[0] != 68 and found, 90, "a client that finds the name")

    def client_finds(self, *words):
        return self.is_found(lambda: self.client_in(*words))

    def reach_status(self):
        return self.stages().get("reach", {}).get("status", "")

    def resolve(self, line):
        """What the resolver of the client's machine knows."""
        subprocess.run(self.inside("clientside", "sh", "-c", f"echo '127.0.0.1 localhost\n{line}' > /etc/hosts"), check=True)

    def watch(self):
        """A client sees pictures; as often as a busy machine takes longer to find the name than it is waited for."""
        def attempt():
            code, said = self.watches(self.inside("clientside", f"{BIN}/wavry-client", "kitchen", "--give-up", "5",
                                                  "--stats-json", self.path("stats.json")),
                                      XDG_CONFIG_HOME=self.path("person"))
            self.last = said
            return code == 0 or (None if code in (68, 69) else self.fail(said))
        wait_for(attempt, 90, lambda: self.last)
        with open(self.path("stats.json")) as f:
            self.assertGreater(json.load(f)["frames_shown"], 0)

    def start_host(self):
        self.port = 4820
        self.start(self.place, self.inside("hostside", f"{BIN}/wavry-supervisor", "--standalone", "--runtime-dir",
                                           self.path(f"{self.place}.run"), "--state-dir", self.path(f"{self.place}.state"),
                                           "--set", "capture.source=test", "--set", "reach.mdns=true", "--set",
                                           "reach.mdns_name=Kitchen"))
        wait_for(lambda: self.stages().get("reach", {}).get("state") == "ready" and
                 self.stages().get("identity", {}).get("state") == "ready", 30, lambda: self.read_log(self.place))

    def found(self):
        result = self.ctl_of("clientside", "hosts", "--json")
        return json.loads(result.stdout)["hosts"] if result.returncode == 0 else []

    def test_by_name_on_the_local_network(self):
        self.start_host()
        wait_for(lambda: "no avahi-daemon answers" in self.reach_status(), 30, self.reach_status)
        code, said = self.client_in("Kitchen", "--headless", "--seconds", "2")
        self.assertEqual(code, 68, said)
        self.assertIn("No host Kitchen", said)
        # The daemon comes: the host announces itself without having been started again.
        avahi = {}
        for name, card in (("hostside", "wvm-h"), ("clientside", "wvm-c")):
            self.bus(name)
            avahi[name] = self.avahi(name, card)
        wait_for(lambda: "; announced on the local network" in self.reach_status(), 60, self.reach_status)
        found = wait_for(self.found, 60, lambda: self.ctl_of("clientside", "hosts"))
        key = self.host_key()
        self.assertEqual([(h["name"], h["state"], h["where"], h["key"]) for h in found],
                         [("Kitchen", "here", "198.18.77.1:4820", key)])
        # A name and a key on the network are claims: without pairing nothing is believed.
        code, said = self.client_finds("Kitchen", "--headless", "--seconds", "2")
        self.assertEqual(code, 77, said)
        self.assertIn("Pair with it", said)
        pairing = json.loads(self.ctl("pair", "--json").stdout)
        code, said = self.client_finds("pair", "kitchen", "--code", pairing["code"], "--name", "person")
        self.assertEqual(code, 0, said)
        # The local network goes before the resolver, whose address is old; which is asked when nothing else is left.
        self.resolve("198.18.77.99 kitchen")
        self.watch()
        self.stop(avahi["clientside"])
        self.resolve("198.18.77.1 kitchen")
        self.watch()
        avahi["clientside"] = self.avahi("clientside", "wvm-c")
        self.resolve("")
        wait_for(self.found, 60, lambda: self.ctl_of("clientside", "hosts"))
        # Somebody else who calls itself so, with another key, is not it.
        self.stop(self.processes[self.place])
        wait_for(lambda: not self.found(), 60, self.found)
        publisher = self.start("impostor", self.inside("hostside", "avahi-publish", "-s", "Kitchen", "_wavry._udp", "4820",
                                                       "key=wavry1" + "B" * 43))
        wait_for(self.found, 60, "the impostor")
        code, said = self.client_finds("kitchen", "--headless", "--seconds", "2")
        self.assertEqual(code, 77, said)
        self.assertIn("its key is not the known one", said)
        self.stop(publisher)


if __name__ == "__main__":
    harness.main()
