#!/usr/bin/env python3
"""The input stage on a real /dev/uinput: the units in a virtual machine with Debian's own kernel. What a client sends is
read back as an application reads it; the stage is killed while a key is held; the device stays, and the key comes up.
Needs root and qemu; says SKIP with the reason where that can't be had."""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "systemd"))
from container import BIN, BUILD, make_tree, skip  # noqa: E402


class UInput(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if os.getuid() != 0:
            skip("the virtual machine's folders belong to root")
        for program in ("qemu-system-x86_64", "debootstrap", "depmod", "apt-get"):
            if not shutil.which(program):
                skip(f"{program} is missing (packages qemu-system-x86, debootstrap, kmod)")
        cls.kernel = f"{BUILD}/vm-kernel"
        made = cls.vm("kernel", cls.kernel)
        if made.returncode:
            skip("Debian's kernel can't be had: " + made.stdout.strip()[-300:])
        cls.tree = make_tree()

    @staticmethod
    def vm(*arguments):
        return subprocess.run([f"{HERE}/vm.sh", *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=400, check=False)

    def test_keys_reach_applications_and_come_up_when_the_stage_is_killed(self):
        folder = tempfile.mkdtemp(prefix="wavry-vm-")
        self.addCleanup(shutil.rmtree, folder)
        os.chmod(folder, 0o755)
        added, share = f"{folder}/added", f"{folder}/share"
        os.makedirs(share)
        os.makedirs(f"{added}/etc/wavry")
        subprocess.run(["cmake", "--install", BUILD], env={**os.environ, "DESTDIR": added}, check=True,
                       stdout=subprocess.DEVNULL)
        for tool in ("wavry-keys", "wavry-evdev"):
            shutil.copy(f"{BIN}/{tool}", f"{added}/usr/local/bin/{tool}")
        shutil.copy(f"{HERE}/inside.sh", f"{share}/run.sh")
        with open(f"{added}/etc/wavry/host.conf", "w") as f:
            f.write("[capture]\nsource = test\n[input]\nbackend = uinput\n")
        ran = self.vm("run", self.kernel, self.tree, added, share)
        try:
            with open(f"{share}/out.txt", errors="replace") as f:
                said = f.read()
        except OSError:
            said = ""
        print(said)
        self.assertEqual(ran.returncode, 0, ran.stdout)
        with open(f"{share}/rc") as f:
            self.assertEqual(f.read().strip(), "0", said)
        self.assertIn("\nall is well\n", said, "the script came to its end")


if __name__ == "__main__":
    unittest.main(verbosity=2)
