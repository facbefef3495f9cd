"""Core files hold no keys: stages write none, and nobody but root reads their memory."""
import os
import re
import resource
import signal
import tempfile

from harness import STAGES, SystemTest, main, wait_for


def control_dumps_core():
    """Whether an ordinary process of this machine dumps core when it aborts: else the tests show less."""
    with tempfile.TemporaryDirectory() as folder:
        pid = os.fork()
        if pid == 0:
            os.chdir(folder)
            hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
            resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
            os.abort()
        return os.WCOREDUMP(os.waitpid(pid, 0)[1])


def may_read(pid, uid, path):
    """Whether a process of user UID without privileges can open PATH of /proc/PID."""
    child = os.fork()
    if child == 0:
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            with open(f"/proc/{pid}/{path}", "rb"):
                os._exit(0)
        except PermissionError:
            os._exit(1)
        os._exit(2)
    return {0: True, 1: False}[os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]


class Core(SystemTest):
    def setUp(self):
        super().setUp()
        self.host(":none", "--set", "capture.source=test", "--set", "input.backend=none")

    def test_limits_of_every_stage(self):
        for name in STAGES:
            pid = self.ready_pid(name)
            with open(f"/proc/{pid}/limits") as f:
                self.assertRegex(f.read(), r"Max core file size +0 +0 ", name)
            with open(f"/proc/{pid}/status") as f:
                uid = int(re.search(r"^Uid:\t(\d+)", f.read(), re.MULTILINE)[1])
            # A person owns the user namespace that their host's stages are in, and may look at all in it.
            if os.getuid() == 0:
                for path in ("mem", "maps", "environ", "auxv"):  # what gcore needs
                    self.assertFalse(may_read(pid, uid, path), f"{name}: its own user can read {path}")
                with open(f"/proc/{pid}/coredump_filter") as f:
                    self.assertEqual(int(f.read(), 16), 0, name)

    def test_an_abort_leaves_no_core(self):
        if not control_dumps_core():
            print("SKIP: that an aborted stage dumps no core: nothing dumps core on this machine")
            self.skipTest("no process of this machine dumps core")
        for name in ("identity", "transport"):
            stages = self.wait_successor(name, self.kill(name, signal.SIGABRT))
            exit_text = stages[name]["last_exit"]
            self.assertIn("signal 6", exit_text)
            self.assertNotIn("core", exit_text)


if __name__ == "__main__":
    main()
