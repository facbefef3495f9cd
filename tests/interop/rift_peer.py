#!/usr/bin/env python3
"""A second implementation of RIFT's cryptography, from the specifications alone and with nothing but Python's own
library: X25519 (RFC 7748), ChaCha20-Poly1305 (RFC 8439), Noise_XX_25519_ChaChaPoly_BLAKE2b (revision 34), SFrame
(RFC 9605), ristretto255 (RFC 9496) and CPace (draft-irtf-cfrg-cpace). It writes the example blocks of proto/WIRE.md and
plays either end of a handshake over UDP against rift-handshake or a host. Not constant-time: for tests only."""
import argparse
import base64
import hashlib
import hmac as hmac_module
import os
import socket
import struct
import sys
import time

P = 2**255 - 19


# ---- X25519 ----

def x25519(scalar, point):
    k = int.from_bytes(scalar, 'little') & ~7 & (1 << 255) - 1 | 1 << 254
    x1 = int.from_bytes(point, 'little') & (1 << 255) - 1
    x2, z2, x3, z3, swap = 1, 0, x1, 1, 0
    for t in reversed(range(255)):
        bit = k >> t & 1
        if swap ^ bit:
            x2, z2, x3, z3 = x3, z3, x2, z2
        swap = bit
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a, b * b, d * a, c * b
        e = aa - bb
        x3, z3 = (da + cb)**2 % P, x1 * (da - cb)**2 % P
        x2, z2 = aa * bb % P, e * (aa + 121665 * e) % P
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, P - 2, P) % P).to_bytes(32, 'little')


def public_of(secret):
    return x25519(secret, (9).to_bytes(32, 'little'))


def shared_of(secret, public):
    shared = x25519(secret, public)
    if shared == bytes(32):
        raise ValueError('a low-order point')
    return shared


# ---- ChaCha20-Poly1305, XChaCha20-Poly1305 ----

def rotate(v, n):
    return (v << n | v >> (32 - n)) & 0xffffffff


def chacha_rounds(state):
    s = list(state)
    quarters = [(0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
                (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)]
    for _ in range(10):
        for a, b, c, d in quarters:
            for x, y, z, n in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
                s[x] = s[x] + s[y] & 0xffffffff
                s[z] = rotate(s[z] ^ s[x], n)
    return s


CONSTANTS = struct.unpack('<4I', b'expand 32-byte k')


def chacha_block(key, counter, nonce):
    state = CONSTANTS + struct.unpack('<8I', key) + (counter,) + struct.unpack('<3I', nonce)
    return struct.pack('<16I', *((a + b) & 0xffffffff for a, b in zip(chacha_rounds(state), state)))


def chacha_xor(key, counter, nonce, data):
    out = bytearray()
    for i in range(0, len(data), 64):
        block = chacha_block(key, counter + i // 64, nonce)
        out += bytes(a ^ b for a, b in zip(data[i:i + 64], block))
    return bytes(out)


def poly1305(key, data):
    r = int.from_bytes(key[:16], 'little') & 0x0ffffffc0ffffffc0ffffffc0fffffff
    s, total = int.from_bytes(key[16:], 'little'), 0
    for i in range(0, len(data), 16):
        total = (total + int.from_bytes(data[i:i + 16] + b'\1', 'little')) * r % (2**130 - 5)
    return ((total + s) & (1 << 128) - 1).to_bytes(16, 'little')


def aead_tag(key, nonce, ad, text):
    def pad(b):
        return b + bytes(-len(b) % 16)
    return poly1305(chacha_block(key, 0, nonce)[:32],
                    pad(ad) + pad(text) + struct.pack('<QQ', len(ad), len(text)))


def seal(key, nonce, plain, ad=b''):
    text = chacha_xor(key, 1, nonce, plain)
    return text + aead_tag(key, nonce, ad, text)


def unseal(key, nonce, sealed, ad=b''):
    if len(sealed) < 16 or not hmac_module.compare_digest(aead_tag(key, nonce, ad, sealed[:-16]), sealed[-16:]):
        raise ValueError('does not open')
    return chacha_xor(key, 1, nonce, sealed[:-16])


def xseal(key, nonce, plain):
    state = CONSTANTS + struct.unpack('<8I', key) + struct.unpack('<4I', nonce[:16])
    s = chacha_rounds(state)
    return seal(struct.pack('<8I', *(s[:4] + s[12:])), bytes(4) + nonce[16:], plain)


def nonce_of(counter):
    return bytes(4) + struct.pack('<Q', counter)


# ---- BLAKE2b, HMAC, HKDF of Noise ----

def blake(data, size=64, key=b''):
    return hashlib.blake2b(data, digest_size=size, key=key).digest()


def hmac_blake(key, data):
    return hmac_module.new(key, data, hashlib.blake2b).digest()


def hkdf(ck, data, outputs):
    temp, last, out = hmac_blake(ck, data), b'', []
    for i in range(1, outputs + 1):
        last = hmac_blake(temp, last + bytes([i]))
        out.append(last)
    return out


# ---- Noise XX ----

class Noise:
    PATTERN = ['e', 'e ee s es', 's se']

    def __init__(self, initiator, secret, prologue, ephemeral=None):
        self.initiator, self.s, self.e = initiator, secret, ephemeral or os.urandom(32)
        self.rs = self.re = self.k = None
        self.n = self.step = 0
        self.h = self.ck = b'Noise_XX_25519_ChaChaPoly_BLAKE2b'.ljust(64, b'\0')
        self.mix_hash(prologue)

    def mix_hash(self, data):
        self.h = blake(self.h + data)

    def mix_dh(self, token):
        ours_is_e = token == 'ee' or (token == 'es') == self.initiator
        theirs_is_e = token == 'ee' or (token == 'se') == self.initiator
        shared = shared_of(self.e if ours_is_e else self.s, self.re if theirs_is_e else self.rs)
        self.ck, k = hkdf(self.ck, shared, 2)
        self.k, self.n = k[:32], 0

    def encrypt(self, plain):
        if self.k:
            plain = seal(self.k, nonce_of(self.n), plain, self.h)
            self.n += 1
        self.mix_hash(plain)
        return plain

    def decrypt(self, data):
        before = self.h
        self.mix_hash(data)
        if not self.k:
            return data
        self.n += 1
        return unseal(self.k, nonce_of(self.n - 1), data, before)

    def write(self, payload):
        out = b''
        for token in self.PATTERN[self.step].split():
            if token == 'e':
                out += public_of(self.e)
                self.mix_hash(public_of(self.e))
            elif token == 's':
                out += self.encrypt(public_of(self.s))
            else:
                self.mix_dh(token)
        self.step += 1
        return out + self.encrypt(payload)

    def read(self, message):
        for token in self.PATTERN[self.step].split():
            if token == 'e':
                self.re, message = message[:32], message[32:]
                self.mix_hash(self.re)
            elif token == 's':
                size = 48 if self.k else 32
                self.rs, message = self.decrypt(message[:size]), message[size:]
            else:
                self.mix_dh(token)
        self.step += 1
        return self.decrypt(message)

    def split(self):
        """Client to host, host to client, base of the inner keys."""
        return [k[:32] for k in hkdf(self.ck, b'', 3)]


# ---- datagrams of the handshake ----

def prologue_of(client_id):
    return b'RIFT 1' + struct.pack('<I', client_id)


def first_key(host_key):
    return blake(b'RIFT 1 first' + (host_key or bytes(32)), 32)


def make_init(client_id, message, host_key, cookie=bytes(16)):
    head = struct.pack('<BBHI', 1, 1, 0, client_id) + cookie + struct.pack('<H', len(message))
    mac = blake(head + message, 16, first_key(host_key))
    return (head + mac + message).ljust(1200, b'\0')


def parse_init(datagram, host_key):
    if len(datagram) != 1200 or datagram[:4] != b'\1\1\0\0':
        raise ValueError('no INIT')
    n = struct.unpack('<H', datagram[24:26])[0]
    message = datagram[42:42 + n]
    if blake(datagram[:26] + message, 16, first_key(host_key)) != datagram[26:42]:
        raise ValueError('INIT has a wrong MAC')
    if any(datagram[42 + n:]):
        raise ValueError('INIT has padding that is not 0')
    return struct.unpack('<I', datagram[4:8])[0], message


def make_reply(kind, first_id, second_id, message):
    return struct.pack('<BBHII', kind, 1, 0, first_id, second_id) + message


def make_data(key, receiver, counter, payload):
    head = struct.pack('<BBHIQ', 16, 0, 0, receiver, counter)
    return head + seal(key, nonce_of(counter), payload, head)


# ---- the inner channel, input, media, cursor (section 11) ----

def inner_key(base, label):
    return blake(label, 32, base)


def seal_inner(key, number, plain):
    return struct.pack('<Q', number) + seal(key, nonce_of(number), plain)


def seal_input(key, seq, event):
    return seal(key, nonce_of(seq), event)


def hmac512(key, data):
    return hmac_module.new(key, data, hashlib.sha512).digest()


def media_keys(base, kid):
    secret = hmac512(b'', base)
    number = struct.pack('>QH', kid, 0xf001)
    return (hmac512(secret, b'SFrame 1.0 Secret key ' + number + b'\1')[:32],
            hmac512(secret, b'SFrame 1.0 Secret salt ' + number + b'\1')[:12])


def sframe_header(kid, ctr):
    def part(v):
        if v < 8:
            return v, b''
        b = v.to_bytes((v.bit_length() + 7) // 8, 'big')
        return 8 | len(b) - 1, b
    (k, kid_bytes), (c, ctr_bytes) = part(kid), part(ctr)
    return bytes([k << 4 | c]) + kid_bytes + ctr_bytes


def seal_media(base, kid, ctr, about, unit):
    key, salt = media_keys(base, kid)
    nonce = bytes(a ^ b for a, b in zip(salt, ctr.to_bytes(12, 'big')))
    header = sframe_header(kid, ctr)
    return header + seal(key, nonce, unit, header + about)


# ---- ristretto255 (RFC 9496) and CPace ----

D = -121665 * pow(121666, P - 2, P) % P
SQRT_M1 = pow(2, (P - 1) // 4, P)


def is_negative(v):
    return v % P & 1


def positive(v):
    return -v % P if is_negative(v) else v % P


def sqrt_ratio(u, v):
    r = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    check = v * r * r % P
    correct, flipped, flipped_i = check == u % P, check == -u % P, check == -u * SQRT_M1 % P
    if flipped or flipped_i:
        r = r * SQRT_M1 % P
    return correct or flipped, positive(r)


INVSQRT_A_MINUS_D = sqrt_ratio(1, -1 - D)[1]
SQRT_AD_MINUS_ONE = 25063068953384623474111414158702152701244531502492656460079210482610430750235
assert SQRT_AD_MINUS_ONE**2 % P == (-D - 1) % P


def point_add(a, b):
    x1, y1, z1, t1 = a
    x2, y2, z2, t2 = b
    aa, bb = (y1 - x1) * (y2 - x2), (y1 + x1) * (y2 + x2)
    c, d = 2 * t1 * D * t2, 2 * z1 * z2
    e, f, g, h = bb - aa, d - c, d + c, bb + aa
    return e * f % P, g * h % P, f * g % P, e * h % P


def point_mul(k, point):
    out = (0, 1, 1, 0)
    while k:
        if k & 1:
            out = point_add(out, point)
        point = point_add(point, point)
        k >>= 1
    return out


def point_decode(data):
    s = int.from_bytes(data, 'little')
    if s >= P or is_negative(s):
        raise ValueError('no ristretto255 element')
    ss = s * s % P
    u1, u2 = (1 - ss) % P, (1 + ss) % P
    v = (-D * u1 * u1 - u2 * u2) % P
    square, inv = sqrt_ratio(1, v * u2 * u2)
    den_x = inv * u2 % P
    x = positive(2 * s * den_x)
    y = u1 * inv * den_x * v % P
    t = x * y % P
    if not square or is_negative(t) or y == 0:
        raise ValueError('no ristretto255 element')
    return x, y, 1, t


def point_encode(point):
    x0, y0, z0, t0 = point
    u1, u2 = (z0 + y0) * (z0 - y0) % P, x0 * y0 % P
    inv = sqrt_ratio(1, u1 * u2 * u2)[1]
    den1, den2 = inv * u1 % P, inv * u2 % P
    z_inv = den1 * den2 * t0 % P
    if is_negative(t0 * z_inv):
        x, y, den = y0 * SQRT_M1 % P, x0 * SQRT_M1 % P, den1 * INVSQRT_A_MINUS_D % P
    else:
        x, y, den = x0, y0, den2
    if is_negative(x * z_inv):
        y = -y % P
    return positive(den * (z0 - y)).to_bytes(32, 'little')


def elligator(data):
    t = int.from_bytes(data, 'little') & (1 << 255) - 1
    r = SQRT_M1 * t * t % P
    u = (r + 1) * (1 - D * D) % P
    v = (-1 - r * D) * (r + D) % P
    square, s = sqrt_ratio(u, v)
    c = -1
    if not square:
        s, c = -positive(s * t) % P, r
    n = (c * (r - 1) * (D - 1)**2 - v) % P
    w0, w1 = 2 * s * v % P, n * SQRT_AD_MINUS_ONE % P
    w2, w3 = (1 - s * s) % P, (1 + s * s) % P
    return w0 * w3 % P, w2 * w1 % P, w1 * w3 % P, w0 * w2 % P


def lv(*fields):
    out = b''
    for field in fields:
        n = len(field)
        while True:
            out += bytes([n & 0x7f | (0x80 if n > 0x7f else 0)])
            n >>= 7
            if not n:
                break
        out += field
    return out


def cpace_generator(prs, ci, sid):
    dsi = b'CPaceRistretto255'
    pad = max(0, 128 - len(lv(prs)) - len(lv(dsi)) - 1)
    h = hashlib.sha512(lv(dsi, prs, bytes(pad), ci, sid)).digest()
    return point_add(elligator(h[:32]), elligator(h[32:]))


def cpace_share(prs, ci, sid, scalar):
    return point_encode(point_mul(int.from_bytes(scalar, 'little'), cpace_generator(prs, ci, sid)))


def cpace_finish(sid, scalar, peer, ya, ada, yb, adb):
    """The key and the tags of the initiator and of the responder."""
    k = point_encode(point_mul(int.from_bytes(scalar, 'little'), point_decode(peer)))
    isk = hashlib.sha512(lv(b'CPaceRistretto255_ISK', sid, k) + lv(ya, ada) + lv(yb, adb)).digest()
    mac_key = hashlib.sha512(b'CPaceMac' + sid + isk).digest()
    return isk, hmac512(mac_key, lv(ya, ada)), hmac512(mac_key, lv(yb, adb))


# ---- the example blocks of WIRE.md ----

def show(name, data):
    text = data.hex()
    if len(name) + 3 + len(text) <= 102:
        print(name, '=', text)
        return
    print(name, '=')
    for i in range(0, len(text), 96):
        print('    ' + text[i:i + 96])


def example_handshake():
    secrets = [bytes([0x11 * i]) * 32 for i in (1, 2, 3, 4)]
    client_id, host_id, hello = 0x04030201, 0x14131211, b'hello'
    client = Noise(True, secrets[0], prologue_of(client_id), secrets[1])
    host = Noise(False, secrets[2], prologue_of(client_id), secrets[3])
    messages = [client.write(b'')]
    host.read(messages[0])
    messages.append(host.write(struct.pack('<I', host_id)))
    client.read(messages[1])
    messages.append(client.write(hello))
    assert host.read(messages[2]) == hello and client.split() == host.split() and client.h == host.h
    return secrets, client_id, host_id, hello, messages, client


def print_handshake():
    secrets, client_id, host_id, hello, messages, client = example_handshake()
    for name, secret in zip(('client static secret', 'client ephemeral secret', 'host static secret',
                             'host ephemeral secret'), secrets):
        show(name, secret)
    show('client id', struct.pack('<I', client_id))
    show('host id', struct.pack('<I', host_id))
    show('payload of message 2', struct.pack('<I', host_id))
    show('payload of message 3', hello)
    show('key of the MAC', first_key(public_of(secrets[2])))
    show('key of the MAC while pairing', first_key(None))
    show('INIT without its padding', make_init(client_id, messages[0], public_of(secrets[2]))[:42 + 32])
    show('RESPONSE', make_reply(2, client_id, host_id, messages[1]))
    show('FINISH', make_reply(3, host_id, client_id, messages[2]))
    keys = client.split()
    show('key client to host', keys[0])
    show('key host to client', keys[1])
    show('base of the inner keys', keys[2])
    show('handshake hash', client.h)


def print_datagram_1():
    key, input_key = bytes(range(32)), bytes(range(64, 96))
    event = struct.pack('<BBHiiQ', 1, 1, 30, 0, 0, 1000000)
    show('data input key', input_key)
    payload = struct.pack('<BHIB', 0x10, 41, 1, 1) + seal_input(input_key, 1, event) + struct.pack('<BHI', 1, 4, 1)
    show('event 1', event)
    show('payload 1', payload)
    show('datagram 1', make_data(key, 0x14131211, 0, payload))


def print_inner():
    secrets, _, _, _, _, client = example_handshake()
    base, sid = client.split()[2], client.h
    to_host, to_client = inner_key(base, b'RIFT 1 to host'), inner_key(base, b'RIFT 1 to client')
    show('inner key to host', to_host)
    show('inner key to client', to_client)
    input_key = inner_key(base, b'RIFT 1 input')
    show('inner input key', input_key)
    take = bytes.fromhex('1a00')
    show('InnerToHost', take)
    show('its message, number 0', seal_inner(to_host, 0, take))
    media_base = bytes(range(0x80, 0xa0))
    grant = bytes.fromhex('0a240809 1220') + media_base
    show('InnerToClient', grant)
    show('its message, number 5', seal_inner(to_client, 5, grant))
    event = struct.pack('<BBHiiQ', 1, 1, 30, 0, 0, 1000000)
    show('event', event)
    show('the event sealed, sequence 258', seal_input(input_key, 258, event))

    show('media base key', media_base)
    key, salt = media_keys(media_base, 9)
    show('media key of KID 9', key)
    show('media salt of KID 9', salt)
    about, unit = struct.pack('<HBHH', 258, 1, 640, 360), bytes.fromhex('0000000165888400')
    show('access unit', unit)
    show('what is said about it', about)
    show('sealed, CTR 0', seal_media(media_base, 9, 0, about, unit))
    show('sealed, CTR 1000', seal_media(media_base, 9, 1000, about, unit))
    cursor_key, nonce = inner_key(media_base, b'RIFT 1 cursor'), bytes(range(24))
    image = bytes.fromhex('0807 1001 1801 3204 01020304')
    show('cursor key', cursor_key)
    show('cursor nonce', nonce)
    show('CursorImage', image)
    show('SealedCursor.sealed', xseal(cursor_key, nonce, image))

    code, name = b'12345678', b'tablet'
    channel = b'RIFT 1 pair' + public_of(secrets[0]) + public_of(secrets[2])
    ya, yb = bytes([5]) * 31 + b'\5', bytes([6]) * 31 + b'\6'
    share_a, share_b = cpace_share(code, channel, sid, ya), cpace_share(code, channel, sid, yb)
    isk, tag_a, tag_b = cpace_finish(sid, ya, share_b, share_a, name, share_b, b'')
    assert (isk, tag_a, tag_b) == cpace_finish(sid, yb, share_a, share_a, name, share_b, b'')
    show('code', code)
    show('name', name)
    show('channel', channel)
    show('client scalar', ya)
    show('host scalar', yb)
    show('client share', share_a)
    show('host share', share_b)
    show('pairing key', isk)
    show('client tag', tag_a)
    show('host tag', tag_b)


def check_vectors(path):
    import json
    with open(path, encoding='ascii') as f:
        vectors = json.load(f)
    v = {k: bytes.fromhex(x) for k, x in vectors['G_Coffee25519'].items()}
    assert point_encode(cpace_generator(v['PRS'], v['CI'], v['sid'])) == v['g']
    assert cpace_share(v['PRS'], v['CI'], v['sid'], v['ya']) == v['Ya']
    assert cpace_share(v['PRS'], v['CI'], v['sid'], v['yb']) == v['Yb']
    isk = cpace_finish(v['sid'], v['ya'], v['Yb'], v['Ya'], v['ADa'], v['Yb'], v['ADb'])[0]
    assert isk == v['ISK_IR']
    p = vectors['G_Coffee25519_points']['Valid']
    product = point_mul(int.from_bytes(bytes.fromhex(p['s']), 'little'), point_decode(bytes.fromhex(p['X'])))
    assert point_encode(product).hex() == p['G.scalar_mult_vfy(s,X)'].lower()


# ---- either end over UDP ----

def key_text(key):
    return 'wavry1' + base64.urlsafe_b64encode(key).decode().rstrip('=')


def parse_key(text):
    return bytes.fromhex(text) if len(text) == 64 else base64.urlsafe_b64decode(text.removeprefix('wavry1') + '=')


def print_end(noise, peer):
    keys = noise.split()
    for name, value in (('peer key', peer), ('handshake hash', noise.h), ('key client to host', keys[0]),
                        ('key host to client', keys[1]), ('base of the inner keys', keys[2])):
        print(f'{name} = {value.hex()}', flush=True)


def initiate(a):
    s = socket.socket(socket.AF_INET6 if ':' in a.address else socket.AF_INET, socket.SOCK_DGRAM)
    s.connect((a.address, a.port))
    s.settimeout(0.3)
    client_id = int.from_bytes(os.urandom(4), 'little') | 1
    host_key = parse_key(a.host_key) if a.host_key else None
    noise, cookie, host_id = Noise(True, a.secret, prologue_of(client_id)), bytes(16), 0
    message = noise.write(b'')
    end = time.monotonic() + a.seconds
    out = None
    while time.monotonic() < end:
        s.send(out or make_init(client_id, message, host_key, cookie))
        try:
            datagram = s.recv(2000)
        except (TimeoutError, ConnectionRefusedError):
            continue
        if datagram[0] == 4 and len(datagram) == 24:
            cookie = datagram[8:]
        elif datagram[0] == 2 and noise.step == 1:
            host_id = struct.unpack('<I', datagram[8:12])[0]
            payload = noise.read(datagram[12:])
            if payload not in (b'', struct.pack('<I', host_id)):
                raise ValueError('RESPONSE has a wrong payload')
            if host_key and noise.rs != host_key:
                raise ValueError('another host key')
            out = make_reply(3, host_id, client_id, noise.write(a.payload.encode()))
            print_end(noise, noise.rs)
        elif datagram[0] == 16 and out:
            head, body = datagram[:16], datagram[16:]
            unseal(noise.split()[1], nonce_of(struct.unpack('<Q', head[8:])[0]), body, head)
            print('data = opened', flush=True)
            return 0
    return 1


def respond(a):
    s = socket.socket(socket.AF_INET6 if ':' in a.address else socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((a.address, a.port))
    print(f'listening = {s.getsockname()[1]}', flush=True)
    print(f'key = {key_text(public_of(a.secret))}', flush=True)
    s.settimeout(a.seconds)
    noise = host_id = client_id = None
    while True:
        try:
            datagram, peer = s.recvfrom(2000)
        except TimeoutError:
            return 1
        if datagram[0] == 1 and noise is None:
            client_id, message = parse_init(datagram, public_of(a.secret))
            noise, host_id = Noise(False, a.secret, prologue_of(client_id)), int.from_bytes(os.urandom(4), 'little')
            noise.read(message)
            s.sendto(make_reply(2, client_id, host_id, noise.write(struct.pack('<I', host_id))), peer)
        elif datagram[0] == 3 and noise:
            if struct.unpack('<II', datagram[4:12]) != (host_id, client_id):
                raise ValueError('FINISH has other ids')
            print('payload =', noise.read(datagram[12:]).hex())
            print_end(noise, noise.rs)
            s.sendto(make_data(noise.split()[1], client_id, 0, struct.pack('<BHI', 1, 4, 1)), peer)
            return 0


def print_knock():
    def keyed(text, size):
        return hashlib.blake2b(text, key=secret, digest_size=size).digest()

    def datagram(kind, role, flags, number, nonce, address):
        head = bytes([kind, 1, role, flags]) + key_id + struct.pack('<I', number) + nonce + address + bytes(6)
        return head + hashlib.blake2b(head, key=mac_key, digest_size=16).digest()

    secret, nonce = bytes(range(0x80, 0xa0)), bytes.fromhex('c0c1c2c3c4c5c6c7')
    mac_key, key_id = keyed(b'RIFT 1 knock', 32), keyed(b'RIFT 1 knock id', 16)[:8]
    seen = bytes(10) + b'\xff\xff' + bytes([203, 0, 113, 7]) + struct.pack('>H', 40000)
    for name, value in (('punch secret', secret), ('key of the MAC', mac_key), ('id', key_id), ('client at', seen),
                        ('KNOCK', datagram(80, 1, 0, 7, nonce, bytes(18))), ('ANSWER', datagram(81, 0, 0, 7, nonce, seen)),
                        ('KNOCK with USE', datagram(80, 1, 1, 8, nonce, seen))):
        text = value.hex()
        if len(text) <= 64:
            print(f'{name} = {text}')
        else:
            print(f'{name} =\n    {text[:96]}\n    {text[96:]}')


def main():
    p = argparse.ArgumentParser(description=__doc__)
    sub = p.add_subparsers(dest='what', required=True)
    e = sub.add_parser('examples', help='print the blocks of WIRE.md')
    e.add_argument('block', choices=['handshake', 'datagram-1', 'inner', 'knock'])
    c = sub.add_parser('check', help='check this implementation against the vectors of CPace')
    c.add_argument('vectors')
    for name, port in (('initiate', None), ('respond', 0)):
        q = sub.add_parser(name)
        q.add_argument('--address', default='127.0.0.1')
        q.add_argument('--port', type=int, default=port, required=port is None)
        q.add_argument('--secret', type=bytes.fromhex, default=os.urandom(32), help='X25519 secret, hex')
        q.add_argument('--host-key', help='wavry1... or hex')
        q.add_argument('--payload', default='')
        q.add_argument('--seconds', type=float, default=10)
    a = p.parse_args()
    if a.what == 'examples':
        {'handshake': print_handshake, 'datagram-1': print_datagram_1, 'inner': print_inner, 'knock': print_knock}[a.block]()
        return 0
    if a.what == 'check':
        return check_vectors(a.vectors)
    return {'initiate': initiate, 'respond': respond}[a.what](a)


if __name__ == '__main__':
    sys.exit(main())
