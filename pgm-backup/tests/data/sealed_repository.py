#!/usr/bin/env python3
"""Computes sealed_repository.json, a sealed repository of one small object, from docs/on-disk.md alone.

Needs PyPI's `cryptography`. Run by hand when the format changes: sealed_repository.py > sealed_repository.json
"""
import base64
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


def material(name: str, length: int) -> bytes:
    return hashlib.sha512(name.encode()).digest()[:length]


def key_id(key: bytes) -> bytes:
    return hmac.new(key, b"pgm key id", hashlib.sha256).digest()[:16]


def seal(name: str, raw: bytes, key: bytes, context: bytes) -> bytes:
    own_key, prefix, wrap_nonce = material(name, 32), material(name + "p", 7), material(name + "w", 12)
    fixed = b"PGMS" + bytes([1, 1, 16, 0]) + prefix + b"\0"
    wrapped = AESGCM(key).encrypt(wrap_nonce, own_key, fixed + key_id(key) + context)
    header = fixed + key_id(key) + wrap_nonce + wrapped
    header += crc32c(header).to_bytes(4, "little")
    assert len(raw) <= 65536
    return header + AESGCM(own_key).encrypt(prefix + bytes(4) + b"\1", raw, fixed + context)


def record(text: str) -> bytes:
    body = text.encode()
    return body + b"// crc32c %08x\n" % crc32c(body)


master = material("master key", 32)
data_key = material("data key", 32)
repository = material("repository", 16).hex()
ring = (1763778896).to_bytes(8, "little") + data_key


def keys(number: int) -> bytes:
    context = f"pgm keys\0{repository}\0{number:08}".encode()
    sealed = base64.b64encode(seal(f"ring {number}", ring, master, context)).decode()
    return record(f'(\n    format: 1,\n    master_key: "{key_id(master).hex()}",\n    ring: "{sealed}",\n)\n')


path = "main/wal/note"
objects = {
    "repository.ron": record(f'(\n    format: 2,\n    id: "{repository}",\n    seal: Aes256Gcm,\n)\n'),
    "repository.keys/00000001": keys(1),
    "repository.keys/00000002": keys(2),
    path: seal("object", b"hello, pgm", data_key, f"pgm object\0{repository}\0{path}".encode()),
}
print(json.dumps({
    "master_key": master.hex(),
    "data_key": data_key.hex(),
    "data_key_id": key_id(data_key).hex(),
    "objects": {name: content.hex() for name, content in objects.items()},
}, indent=1))
