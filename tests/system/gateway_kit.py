"""A gateway for tests, and somebody who talks to it: every answer is compared with docs/openapi.yaml."""
import base64
import ctypes
import hashlib
import hmac
import http.client
import json
import os
import re
import socket
import ssl
import struct
import subprocess
import time

from harness import BIN, SystemTest, wait_for
from openapi_check import Api

sodium = ctypes.CDLL("libsodium.so.23")
sodium.sodium_init()
NAME = "gateway.test:443"
PASSWORD = "correct horse battery"


def b64(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def totp(secret, at=None):
    """The code of an authenticator (RFC 6238) with SECRET in base32, at a Unix time."""
    counter = int((time.time() if at is None else at) // 30)
    digest = hmac.new(base64.b32decode(secret), struct.pack(">Q", counter), hashlib.sha1).digest()
    offset = digest[19] & 15
    return f"{(struct.unpack('>I', digest[offset:offset + 4])[0] & 0x7fffffff) % 10**6:06}"


class Machine:
    """A host's or a device's identity."""

    def __init__(self):
        x_public, self.x_secret = ctypes.create_string_buffer(32), ctypes.create_string_buffer(32)
        sodium.crypto_box_keypair(x_public, self.x_secret)
        self.x_public = x_public.raw
        public, self.secret = ctypes.create_string_buffer(32), ctypes.create_string_buffer(64)
        sodium.crypto_sign_keypair(public, self.secret)
        self.key = "wavry1" + b64(x_public.raw)
        self.sign_public, self.sign_key = public.raw, "ed25519." + b64(public.raw)

    def sign(self, message):
        signature = ctypes.create_string_buffer(64)
        sodium.crypto_sign_detached(signature, None, message, ctypes.c_ulonglong(len(message)), self.secret)
        return signature.raw

    def proof(self, challenge, name=NAME):
        raw = base64.urlsafe_b64decode(challenge + "=")
        signature = self.sign(b"RIFT 1 gateway\0" + name.encode() + b"\0" + raw)
        return {"key": self.key, "challenge": challenge, "signature": b64(signature)}

    def registration(self, answer, name, gateway=NAME):
        """What registers it, for what /v1/challenge answered."""
        challenge, exchange = (base64.urlsafe_b64decode(answer[field] + "=") for field in ("challenge", "exchange"))
        shared = ctypes.create_string_buffer(32)
        assert sodium.crypto_scalarmult(shared, self.x_secret, exchange) == 0
        proof = hashlib.blake2b(b"RIFT 1 gateway key\0" + gateway.encode() + b"\0" + challenge + exchange + self.x_public +
                                self.sign_public, key=shared.raw, digest_size=32).digest()
        return {**self.proof(answer["challenge"], gateway), "sign_key": self.sign_key, "name": name, "key_proof": b64(proof)}


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def __getitem__(self, name):
        return self.body[name]

    @property
    def error(self):
        return self.body.get("error") if self.body else None


class GatewayTest(SystemTest):
    api = Api()
    options = ()

    def database(self):
        """A fresh one: a SQLite file, or one of its own in the PostgreSQL that the test was given."""
        server = os.environ.get("WAVRY_TEST_POSTGRES")
        if not server:
            return "sqlite:" + self.path("gateway.db")
        name = "t" + os.urandom(8).hex()
        subprocess.run(["psql", "-q", "-d", server, "-c", f"CREATE DATABASE {name}"], check=True, timeout=60)
        return server.replace("/postgres?", f"/{name}?")

    def command(self, *arguments, stdin="", database=None):
        return subprocess.run([f"{BIN}/wavry-gateway", "--set", f"database={database or self.url}", *arguments],
                              input=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
                              check=False)

    def add_admin(self, name="admin", password=PASSWORD):
        result = self.command("admin", "add", name, stdin=password + "\n")
        self.assertEqual(result.returncode, 0, result.stdout)

    def setUp(self):
        super().setUp()
        self.url = self.database()
        self.port = self.metrics_port = None
        self.tls = False

    def gateway(self, *options, name="gateway", listen="127.0.0.1:0", ready=True, **environment):
        """Starts one and waits until it serves. Its port is self.port."""
        with open(self.path("usual.conf"), "w") as f:  # options and other files win over it
            f.write("[gateway]\nrequests_per_s=1000\nwrong_per_minute=1000\nlogins_per_minute=1000\n")
        process = self.start(name, [f"{BIN}/wavry-gateway", "--config", self.path("usual.conf"), "--set",
                                    f"names={NAME} [::1]:9", "--set", f"listen={listen}", "--set", f"database={self.url}",
                                    "--set", f"metrics_socket={self.path(name)}.metrics", *options], **environment)
        if ready:
            self.wait_serving(process, name)
        return process

    def wait_serving(self, process, name="gateway"):
        begin = self.read_log(name).count("gateway: serving")
        wait_for(lambda: process.poll() is not None or "gateway: serving" in self.read_log(name), 30,
                 lambda: "a gateway that serves; it said:\n" + self.read_log(name))
        self.assertIsNone(process.poll(), self.read_log(name))
        self.port = int(re.findall(r"listening at=\S+ port=(\d+)", self.read_log(name))[-1])
        return begin

    def metric(self, metric, name="gateway"):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(20)
            s.connect(self.path(f"{name}.metrics"))
            s.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            text = b"".join(iter(lambda: s.recv(65536), b"")).decode()
        return int(float(re.search(rf"^wavry_gateway_{metric} (\S+)$", text, re.M).group(1)))

    def counted(self, metric, at_least=1):
        """Waits until METRIC says so: its page is read anew a few times a second."""
        return wait_for(lambda: self.metric(metric) >= at_least, 20, lambda: f"{metric} is {self.metric(metric)}")

    def connect(self, timeout=30):
        if self.tls:
            context = ssl.create_default_context(cafile=self.path("tls.pem"))
            context.check_hostname = False
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=context)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def request(self, method, path, body=None, token=None, headers=None, raw=None, connection=None):
        """One request, its answer compared with the file."""
        c = connection or self.connect()
        headers = dict(headers or {})
        data = raw
        if body is not None:
            data = json.dumps(body).encode()
        if data is not None:
            headers.setdefault("Content-Type", "application/json")
        if token:
            headers["Authorization"] = f"Bearer {token}"
        c.request(method, path, data, headers)
        response = c.getresponse()
        text = response.read()
        if not connection:
            c.close()
        answer = Answer(response.status, {k.lower(): v for k, v in response.getheaders()},
                        json.loads(text) if text else None)
        self.api.check(method, path, answer.status, answer.headers, answer.body)
        if answer.status >= 400:
            self.assertIn(answer.error, self.api.document["components"]["schemas"]["Error"]["properties"]["error"]["enum"])
        return answer

    def ok(self, method, path, body=None, token=None, status=200, **more):
        answer = self.request(method, path, body, token, **more)
        self.assertEqual(answer.status, status, answer.body)
        return answer

    def refused(self, error, method, path, body=None, token=None, **more):
        answer = self.request(method, path, body, token, **more)
        self.assertEqual(answer.error, error, (answer.status, answer.body))
        return answer

    def login(self, account="admin", password=PASSWORD, **more):
        return self.ok("POST", "/v1/login", {"account": account, "password": password, **more})["token"]

    def add_account(self, admin_token, name, password=PASSWORD):
        return self.ok("POST", "/v1/accounts", {"name": name, "password": password}, admin_token, 201)["id"]

    def register(self, token, kind, machine, name):
        answer = self.ok("POST", "/v1/challenge", {"key": machine.key})
        return self.ok("POST", f"/v1/{kind}", machine.registration(answer, name), token, 201)

    def machine_login(self, machine):
        challenge = self.ok("POST", "/v1/challenge", {"key": machine.key})["challenge"]
        return self.ok("POST", "/v1/session", machine.proof(challenge))["token"]
