"""The record generator and the digest of package record, for Python clients.

See record/doc.go: the three implementations must agree byte for byte.
Run as a program, it prints the digest of COUNT records of SEED as one partition.
"""

import hashlib
import json
import struct
import sys

M = 0xFFFFFFFF
POOL_SIZE = 1 << 16
POOL_MASK = POOL_SIZE // 2 - 1
BASE_TIMESTAMP = 1_700_000_000_000
SWAP = bytes(b ^ 0x40 if b in b"\0,=\n" else b for b in range(256))


def mix(x):
    x ^= x >> 16
    x = x * 0x85EBCA6B & M
    x ^= x >> 13
    x = x * 0xC2B2AE35 & M
    return x ^ x >> 16


class Generator:
    def __init__(self, seed):
        self.seed = seed
        raw = bytearray(POOL_SIZE)
        s = seed
        for i in range(POOL_SIZE):
            s = s + 0x9E3779B9 & M
            b = mix(s) >> 24
            raw[i] = raw[i - 64] if i >> 6 & 1 else b
        self.raw = bytes(raw)
        self.headers = self.raw.translate(SWAP)

    def record(self, index):
        """Returns (key, value, headers, timestamp in ms)."""
        raw = self.raw
        state = mix(self.seed ^ mix(index + 1 & M))

        def draw():
            nonlocal state
            state = state + 0x9E3779B9 & M
            return mix(state)

        a = draw()
        off = draw() & POOL_MASK
        kind = a & 15
        if kind == 0:
            key = None
        elif kind == 1:
            key = b""
        else:
            key = raw[off:off + 1 + (a >> 4) % 40]

        b = draw()
        off = draw() & POOL_MASK
        kind = b & 31
        if kind == 0:
            value = None
        elif kind == 1:
            value = b""
        else:
            n = b >> 13
            cls = (b >> 5) % 200
            if cls < 140:
                n = 8 + n % 120
            elif cls < 190:
                n = 128 + n % 512
            elif cls < 199:
                n = 1024 + n % 3072
            else:
                n = 4096 + n % 28672
            value = b"%d.%b" % (index, raw[off:off + n])

        headers = []
        for j in range(draw() & 3):
            h = draw()
            off = draw() & POOL_MASK
            name = "ключ" if (h >> 8) % 16 == 0 else "h"
            kind = h >> 16 & 7
            if kind == 0:
                hv = None
            elif kind == 1:
                hv = b""
            else:
                hv = self.headers[off:off + 1 + (h >> 20) % 24]
            headers.append(("%s%d-%d" % (name, j, h % 50), hv))

        return key, value, headers, BASE_TIMESTAMP + index * 2 + draw() % 1000


def _bytes(v):
    if v is None:
        return b"\xff\xff\xff\xff"
    return struct.pack(">i", len(v)) + v


class Summer:
    """Digests one partition, in offset order."""

    def __init__(self):
        self.content = hashlib.sha256()
        self.full = hashlib.sha256()
        self.count = 0
        self.first = -1
        self.next = 0
        self.bytes = 0

    def add(self, offset, timestamp, key, value, headers):
        parts = [struct.pack(">q", offset), _bytes(key), _bytes(value), struct.pack(">i", len(headers or ()))]
        for k, v in headers or ():
            parts.append(_bytes(k.encode()))
            parts.append(_bytes(v))
        c = b"".join(parts)
        self.content.update(c)
        self.full.update(c)
        self.full.update(struct.pack(">q", timestamp))
        if self.first < 0:
            self.first = offset
        self.next = offset + 1
        self.count += 1
        self.bytes += len(key or b"") + len(value or b"")

    def digest(self):
        return {
            "count": self.count,
            "first": self.first,
            "next": self.next,
            "bytes": self.bytes,
            "content": self.content.hexdigest(),
            "full": self.full.hexdigest(),
        }


def main():
    generator, summer = Generator(int(sys.argv[1])), Summer()
    for i in range(int(sys.argv[2])):
        key, value, headers, timestamp = generator.record(i)
        summer.add(i, timestamp, key, value, headers)
    print(json.dumps({"0": summer.digest()}))


if __name__ == "__main__":
    main()
