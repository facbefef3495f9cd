#!/usr/bin/env python3
"""The examples of VIDEO_REPAIR in proto/WIRE.md, written from section 6.8 alone and not from the code that they test.
Prints the block as it stands there; --check FILE compares."""
import sys

MASK = (1 << 64) - 1


def multiply(a, b):
    product = 0
    while b:
        if b & 1:
            product ^= a
        a <<= 1
        if a & 0x100:
            a ^= 0x11d
        b >>= 1
    return product


def inverse(a):
    return next(b for b in range(1, 256) if multiply(a, b) == 1)


def mix(z):
    z = (z + 0x9e3779b97f4a7c15) & MASK
    z = ((z ^ z >> 30) * 0xbf58476d1ce4e5b9) & MASK
    z = ((z ^ z >> 27) * 0x94d049bb133111eb) & MASK
    return z ^ z >> 31


def coefficient(newest, distance, index, position):
    if distance == 0:
        return inverse((128 + index) ^ position)
    word = mix((newest + (index << 32) + (distance << 40) + (position // 8 << 48)) & MASK)
    return word >> 8 * (position % 8) & 0xff or 1


class Frame:
    def __init__(self, keyframe, data):
        self.keyframe, self.data = keyframe, data

    def fragments(self, size):
        return [self.data[at:at + size] for at in range(0, len(self.data), size)]


def repair(frames, newest, epoch, size, cover, group, index):
    """Body of one VIDEO_REPAIR. FRAMES: {id: Frame}."""
    covered = [(d, frames[newest - d]) for d in range(4) if cover >> d & 1]
    symbol = bytearray(min(size, max(len(frame.data) for _, frame in covered)))
    for distance, frame in covered:
        parts = frame.fragments(size)
        groups = -(-len(parts) // 128)
        for i, part in enumerate(parts):
            if i % groups != group:
                continue
            factor = coefficient(newest, distance, index, i // groups)
            for at, byte in enumerate(part):
                symbol[at] ^= multiply(factor, byte)
    head = newest.to_bytes(4, "little") + epoch.to_bytes(2, "little") + size.to_bytes(2, "little")
    head += bytes([cover, group, index])
    for _, frame in covered:
        head += (len(frame.data) | frame.keyframe << 23).to_bytes(3, "little")
    return head + bytes(symbol)


def main():
    first = bytes(range(0x10, 0x10 + 20))
    second = bytes(range(0xa0, 0xa0 + 11))
    long = bytes(7 * i & 0xff for i in range(1041))
    frames = {5: Frame(1, first), 6: Frame(0, second), 7: Frame(0, long)}
    lines = [
        "repair frame 5 = " + first.hex(),
        "repair frame 6 = " + second.hex(),
        "repair 1 = " + repair(frames, 6, 1, 8, 1, 0, 0).hex(),
        "repair 2 = " + repair(frames, 6, 1, 8, 3, 0, 1).hex(),
        "repair 3 = " + repair(frames, 7, 1, 8, 1, 1, 2).hex(),
    ]
    text = "\n".join(lines) + "\n"
    if sys.argv[1:2] == ["--check"]:
        with open(sys.argv[2], encoding="utf-8") as f:
            sys.exit(0 if text in f.read() else f"{sys.argv[2]} does not hold:\n{text}")
    sys.stdout.write(text)


main()
