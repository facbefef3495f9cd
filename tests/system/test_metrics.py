"""wavry-metrics on a running host: what it serves, to whom, and a real Prometheus that scrapes it."""
import glob
import json
import os
import re
import shutil
import socket
import subprocess
import unittest
import urllib.error
import urllib.parse
import urllib.request

from harness import BIN, SystemTest, free_tcp_port, main, wait_for

PATTERN = ["--set", "capture.source=test", "--set", "input.backend=none"]
DASHBOARD = os.path.join(os.path.dirname(__file__), "../../docs/grafana/wavry.json")


def samples(text):
    """{name with labels: value} of the exposition TEXT."""
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
            for line in text.splitlines() if line and not line.startswith("#")}


class Metrics(SystemTest):
    def setUp(self):
        super().setUp()
        self.host_process = self.host(":none", *PATTERN)
        self.tcp = free_tcp_port()
        control = glob.glob(self.path("*run/control.sock"))[0]
        self.exporter = self.start("metrics", [f"{BIN}/wavry-metrics", "--control", control,
                                               "--socket", self.path("metrics.sock"),
                                               "--listen", f"127.0.0.1:{self.tcp}"])
        wait_for(lambda: f"at=127.0.0.1:{self.tcp}" in self.read_log("metrics"), 30, "wavry-metrics serving")

    def get(self, path="/metrics", accept=None, method="GET", data=None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.tcp}{path}", method=method, data=data,
                                         headers={"Accept": accept} if accept else {})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, answer.headers["Content-Type"], answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers["Content-Type"], error.read().decode()

    def test_both_formats(self):
        status, kind, text = self.get()
        self.assertEqual((status, kind.split(";")[0]), (200, "text/plain"))
        plain = samples(text)
        self.assertEqual(plain['wavry_stage_ready{stage="encoder"}'], 1)
        self.assertGreater(plain["wavry_capture_frames_published_total"], 0)
        self.assertIn("# TYPE wavry_capture_frames_published_total counter\n", text)
        self.assertNotIn("# EOF", text)
        status, kind, text = self.get(accept="application/openmetrics-text; version=1.0.0,text/plain;q=0.5")
        self.assertEqual((status, kind.split(";")[0]), (200, "application/openmetrics-text"))
        self.assertTrue(text.endswith("\n# EOF\n"))
        self.assertIn("# TYPE wavry_capture_frames_published counter\n", text)
        self.assertEqual(samples(text).keys(), plain.keys())
        histogram = [v for k, v in samples(text).items() if k.startswith("wavry_capture_capture_seconds_bucket")]
        self.assertEqual(histogram, sorted(histogram))
        self.assertEqual(histogram[-1], samples(text)["wavry_capture_capture_seconds_count"])

    def test_unix_socket(self):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(30)
            s.connect(self.path("metrics.sock"))
            s.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: s.recv(65536), b""))
        self.assertTrue(answer.startswith(b"HTTP/1.1 200"))
        self.assertIn(b"\nwavry_transport_sessions 0\n", answer)
        self.assertEqual(os.stat(self.path("metrics.sock")).st_mode & 0o777, 0o660)

    def test_a_hostile_scraper_harms_nobody(self):
        self.assertEqual(self.get(method="POST", data=b"x" * 100000)[0], 405)
        self.assertEqual(self.get("/../../etc/passwd")[0], 404)
        self.assertEqual(self.get("/metrics/")[0], 404)
        hanging = []
        for junk in (b"", b"GET", b"\0" * 5000, b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 5000,
                     b"GET " + b"/" * 50000, b"GET /metrics HTTP/9\r\n\r\n") * 2:
            s = socket.create_connection(("127.0.0.1", self.tcp))
            s.setblocking(False)
            try:
                s.send(junk)
            except OSError:
                pass
            hanging.append(s)
        self.assertEqual(self.get()[0], 200)
        for s in hanging:
            s.close()
        self.assertIsNone(self.exporter.poll())
        self.assertTrue(self.all_ready())

    def test_the_host_comes_and_goes(self):
        self.assertEqual(self.ctl("stop").returncode, 0)
        self.host_process.wait(30)
        wait_for(lambda: self.get()[0] == 503, 30, "an answer that there is no host")
        self.assertIn("no host is running", self.get()[2])
        self.host(":none", *PATTERN)
        wait_for(lambda: self.get()[0] == 200, 30, "metrics of the next host")

    def test_only_this_machine(self):
        for address, why in (("0.0.0.0:0", "this machine alone"), ("[::]:0", "this machine alone"),
                             ("192.0.2.1:9482", "this machine alone"), ("localhost", "not ADDRESS:PORT"),
                             ("127.0.0.1:70000", "not ADDRESS:PORT"), ("::1:5", "not ADDRESS:PORT")):
            result = subprocess.run([f"{BIN}/wavry-metrics", "--socket", self.path("other.sock"), "--listen", address],
                                    stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False, timeout=30)
            self.assertEqual(result.returncode, 78, address)
            self.assertIn(why, result.stderr)

    def test_the_socket_is_replaced_and_nothing_else(self):
        def run(path):
            return subprocess.run([f"{BIN}/wavry-metrics", "--socket", path], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, text=True, check=False, timeout=30)
        self.assertEqual(run(self.path("metrics.sock")).returncode, 69)  # somebody serves there
        with open(self.path("precious"), "w") as f:
            f.write("mine")
        result = run(self.path("precious"))
        self.assertEqual(result.returncode, 71)
        self.assertIn("in the way", result.stderr)
        with open(self.path("precious")) as f:
            self.assertEqual(f.read(), "mine")

    def test_dashboard(self):
        known = {re.sub(r"\{.*", "", name) for name in samples(self.get()[2])}
        with open(DASHBOARD) as f:
            board = json.load(f)
        expressions = [t["expr"] for panel in board["panels"] for t in panel["targets"]]
        expressions += [v["definition"] for v in board["templating"]["list"] if "definition" in v]
        used = {name for e in expressions for name in re.findall(r"wavry_[a-z0-9_]+", e)}
        self.assertGreater(len(used), 40)
        self.assertEqual(used - known, set(), "the dashboard shows metrics that no host has")
        self.assertEqual(len({p["id"] for p in board["panels"]}), len(board["panels"]))

    def test_promtool(self):
        if not shutil.which("promtool"):
            self.skipTest("promtool (package prometheus) is not installed")
        result = subprocess.run(["promtool", "check", "metrics"], input=self.get()[2], stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, check=False, timeout=60)
        self.assertEqual((result.returncode, result.stdout), (0, ""))

    def test_prometheus(self):
        if not shutil.which("prometheus"):
            self.skipTest("prometheus is not installed")
        web = free_tcp_port()
        with open(self.path("prometheus.yml"), "w") as f:
            f.write("global: {scrape_interval: 1s}\nscrape_configs:\n  - job_name: wavry\n"
                    f"    static_configs: [{{targets: ['127.0.0.1:{self.tcp}']}}]\n")
        self.start("prometheus", ["prometheus", f"--config.file={self.path('prometheus.yml')}",
                                  f"--storage.tsdb.path={self.path('tsdb')}",
                                  f"--web.listen-address=127.0.0.1:{web}"])

        def query(expression):
            url = f"http://127.0.0.1:{web}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
            try:
                with urllib.request.urlopen(url, timeout=30) as answer:
                    return json.load(answer)["data"]["result"]
            except OSError:
                return []
        wait_for(lambda: query("wavry_capture_frames_published_total"), 30,
                 lambda: "the metric in Prometheus; it said:\n" + self.read_log("prometheus")[-2000:])
        self.assertEqual(query('up{job="wavry"}')[0]["value"][1], "1")
        quantile = query("histogram_quantile(0.99, wavry_capture_capture_seconds_bucket)")
        self.assertGreater(float(quantile[0]["value"][1]), 0)
        self.assertLess(float(quantile[0]["value"][1]), 1)


def load_tests(loader, tests, pattern):
    for program in ("prometheus", "promtool"):
        if not shutil.which(program):
            print(f"SKIP: the scrape by a real Prometheus: {program} is not installed (package prometheus)")
    return tests


if __name__ == "__main__":
    main()
