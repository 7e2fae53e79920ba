#!/usr/bin/env python3
"""Computes seal_vectors.json from docs/on-disk.md alone, with PyPI's `cryptography`.

Run by hand when the format changes: seal_vectors.py > seal_vectors.json
"""
import hashlib
import hmac
import json

from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def raw(length: int) -> bytes:
    return bytes(i * 7 % 251 for i in range(length))


def material(name: str, length: int) -> bytes:
    return hashlib.sha512(name.encode()).digest()[:length]


def vector(name: str, length: int, power: int, context: bytes) -> dict:
    master = material(name + " master", 32)
    data_key = material(name + " data key", 32)
    prefix = material(name + " prefix", 7)
    wrap_nonce = material(name + " wrap nonce", 12)
    key_id = hmac.new(master, b"pgm key id", hashlib.sha256).digest()[:16]
    fixed = b"PGMS" + bytes([1, 1, power, 0]) + prefix + b"\0"
    wrapped = AESGCM(master).encrypt(wrap_nonce, data_key, fixed + key_id + context)
    header = fixed + key_id + wrap_nonce + wrapped
    header += crc32c(header).to_bytes(4, "little")
    content, size, chunks = raw(length), 1 << power, []
    count = max(1, -(-length // size))
    for number in range(count):
        last = bytes([number == count - 1])
        nonce = prefix + number.to_bytes(4, "big") + last
        part = content[number * size:(number + 1) * size]
        chunks.append(AESGCM(data_key).encrypt(nonce, part, fixed + context))
    return {
        "name": name,
        "raw_bytes": length,
        "chunk_power": power,
        "context": context.decode(),
        "master_key": master.hex(),
        "key_id": key_id.hex(),
        "data_key": data_key.hex(),
        "prefix": prefix.hex(),
        "wrap_nonce": wrap_nonce.hex(),
        "sealed": (header + b"".join(chunks)).hex(),
    }


print(json.dumps([
    vector("empty", 0, 16, b""),
    vector("ten bytes", 10, 16, b"pgm file"),
    vector("one whole chunk", 1024, 10, b"pgm file"),
    vector("one byte more", 1025, 10, b"main/backup/20261122T023456Z/0001.pack"),
    vector("three chunks", 3000, 10, "grüße".encode()),
], indent=1, ensure_ascii=False))
