"""A machine's WebSocket at /v1/signal, as small as a test needs it: every message that comes is compared with
docs/openapi.yaml."""
import base64
import json
import os
import select
import socket
import ssl
import struct
import time

SCHEMAS = {"welcome": "SignalWelcome", "signal": "SignalReceived", "sent": "SignalSent", "error": "SignalError",
           "replaced": "SignalReplaced", "leaving": "SignalLeaving"}


class Closed(Exception):
    """The gateway ended it; code is the close frame's, None without one."""

    def __init__(self, code, why=""):
        super().__init__(f"closed with {code} {why}")
        self.code, self.why = code, why


class Socket:
    def __init__(self, port, api=None, tls=None, path="/v1/signal", protocol="wavry-signal.1", timeout=30):
        self.api, self.data, self.messages, self.parts = api, b"", [], b""
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            self.socket = tls.wrap_socket(self.socket)
        key = base64.b64encode(os.urandom(16)).decode()
        head = [f"GET {path} HTTP/1.1", "Host: gateway.test", "Upgrade: websocket", "Connection: Upgrade",
                f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13"]
        if protocol:
            head.append(f"Sec-WebSocket-Protocol: {protocol}")
        self.socket.sendall("\r\n".join(head + ["", ""]).encode())
        while b"\r\n\r\n" not in self.data:
            more = self.receive_some()
            if not more:
                raise Closed(None, "no answer: " + repr(self.data))
        answer, self.data = self.data.split(b"\r\n\r\n", 1)
        self.status = int(answer.split()[1])
        if self.status != 101:
            raise Closed(None, answer.decode())

    def receive_some(self):
        try:
            more = self.socket.recv(65536)
        except (ConnectionError, ssl.SSLError):
            more = b""
        self.data += more
        return more

    @staticmethod
    def framed(opcode, payload=b"", fin=True):
        mask = os.urandom(4)
        size = len(payload)
        head = bytes([opcode | (0x80 if fin else 0)])
        head += bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + struct.pack(">H", size) \
            if size < 65536 else bytes([0x80 | 127]) + struct.pack(">Q", size)
        masked = (int.from_bytes(payload, "big") ^ int.from_bytes((mask * (size // 4 + 1))[:size], "big")).to_bytes(size, "big")
        return head + mask + masked

    def frame(self, opcode, payload=b"", fin=True):
        self.socket.sendall(self.framed(opcode, payload, fin))

    def send(self, message):
        self.frame(1, json.dumps(message).encode())

    def close(self):
        self.socket.close()

    def take_frame(self):
        """(opcode, payload, fin) when one is there."""
        d = self.data
        if len(d) < 2:
            return None
        size, at = d[1] & 127, 2
        if size == 126:
            size, at = int.from_bytes(d[2:4], "big"), 4
        elif size == 127:
            size, at = int.from_bytes(d[2:10], "big"), 10
        if len(d) < at or len(d) < at + size:
            return None
        self.data = d[at + size:]
        return d[0] & 15, d[at:at + size], bool(d[0] & 0x80)

    def next(self, timeout=30):
        """The next message; Closed when there is none any more, TimeoutError when none comes."""
        end = time.monotonic() + timeout
        while True:
            got = self.take_frame()
            if not got:
                left = end - time.monotonic()
                pending = isinstance(self.socket, ssl.SSLSocket) and self.socket.pending()
                if left <= 0 or not (pending or select.select([self.socket], [], [], left)[0]):
                    raise TimeoutError("no message")
                if not self.receive_some():
                    raise Closed(None)
                continue
            opcode, payload, fin = got
            if opcode == 8:
                raise Closed(int.from_bytes(payload[:2], "big") if payload else None, payload[2:].decode())
            if opcode == 9:
                self.frame(10, payload)
            elif opcode in (0, 1):
                self.parts += payload
                if fin:
                    message, self.parts = json.loads(self.parts), b""
                    if self.api:
                        errors = self.api.errors(message, self.api.document["components"]["schemas"][SCHEMAS[message["type"]]])
                        assert not errors, errors
                    return message

    def until_closed(self, timeout=30):
        """Reads what still comes. Returns the close code."""
        try:
            while True:
                self.messages.append(self.next(timeout))
        except Closed as e:
            return e.code

    def hello(self, token):
        self.send({"type": "hello", "token": token})
        answer = self.next()
        assert answer["type"] == "welcome", answer
        return answer

    def signal(self, to, name, sealed="c2VhbGVk"):
        self.send({"type": "signal", "to": to, "id": name, "sealed": sealed})
