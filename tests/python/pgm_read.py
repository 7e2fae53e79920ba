"""Reads a pgm repository, in a folder, plain or sealed: lists its backups and restores one.

Written from docs/on-disk.md alone, so that the page is known to be enough: nothing here comes from pgm's code. It needs
`zstandard` and `cryptography` beside the standard library. It stops at the first thing that is not as the page says, and names
the object. It restores the files and the WAL that makes them consistent; it does not set up recovery beyond that.

    pgm_read.py [--key FILE] list FOLDER
    pgm_read.py [--key FILE] restore FOLDER SERVER LABEL TARGET
"""

import argparse
import base64
import binascii
import hashlib
import hmac
import json
import os
import re
import struct
import sys
import time
import zlib

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


class Problem(Exception):
    """Something is not as the page says; the text names the object."""


def require(condition, what):
    if not condition:
        raise Problem(what)


# Checksum: CRC-32C, four bytes at a time.


def crc_tables():
    by_byte = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        by_byte.append(value)
    two = [by_byte[n & 255] ^ n >> 8 for n in range(65536)]
    two = [by_byte[n & 255] ^ n >> 8 for n in two]
    four = [two[n & 65535] ^ n >> 16 for n in two]
    return by_byte, two, four


BY_BYTE, BY_TWO, BY_FOUR = crc_tables()


def crc32c(data, before=0):
    """Goes on from the checksum of what was `before`."""
    crc = before ^ 0xFFFFFFFF
    two, four = BY_TWO, BY_FOUR
    whole = len(data) & ~3
    for (word,) in struct.iter_unpack("<I", memoryview(data)[:whole]):
        crc ^= word
        crc = four[crc & 65535] ^ two[crc >> 16]
    for byte in data[whole:]:
        crc = BY_BYTE[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


# RON, as far as records use it.


class Name(str):
    """A variant without content, such as `Full`."""


TOKEN = re.compile(
    r"""(?:\s|//[^\n]*(?:\n|$)|/\*.*?\*/)*
        (?: (?P<text>"(?:[^"\\]|\\.)*")
          | (?P<number>[-+]?[0-9][0-9_]*(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)
          | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
          | (?P<sign>[()\[\]{},:])
          | (?P<end>$) )""",
    re.VERBOSE | re.DOTALL,
)
ESCAPE = re.compile(r"\\(?:u\{([0-9A-Fa-f]+)\}|x([0-9A-Fa-f]{2})|(.))", re.DOTALL)
SHORT = {"n": "\n", "r": "\r", "t": "\t", "0": "\0"}


class Ron:
    """A structure becomes a dict, a tuple or list a list, `Some(x)` is x, another variant with content is (name, content)."""

    def __init__(self, text):
        self.tokens = []
        at = 0
        while True:
            token = TOKEN.match(text, at)
            require(token, f"no RON at byte {at}")
            self.tokens.append((token.lastgroup, token.group(token.lastgroup)))
            if token.lastgroup == "end":
                return
            at = token.end()

    def document(self):
        value = self.value()
        require(self.tokens[0][0] == "end", "more than one RON value")
        return value

    def next(self):
        return self.tokens.pop(0)

    def takes(self, sign):
        if self.tokens[0] == ("sign", sign):
            self.next()
            return True
        return False

    def value(self):
        kind, text = self.next()
        if kind == "text":
            return ESCAPE.sub(unescape, text[1:-1])
        if kind == "number":
            digits = text.replace("_", "")
            return float(digits) if re.search("[.eE]", digits) else int(digits)
        if kind == "sign" and text in "([{":
            return self.inside({"(": ")", "[": "]", "{": "}"}[text])
        require(kind == "word", f"no RON value begins with {text!r}")
        if text in ("true", "false"):
            return text == "true"
        if self.takes("("):
            content = self.inside(")")
            if isinstance(content, list) and len(content) == 1:
                content = content[0]
            return content if text == "Some" else (text, content)
        return None if text == "None" else Name(text)

    def inside(self, closing):
        listed, named = [], {}
        while not self.takes(closing):
            value = self.value()
            if self.takes(":"):
                named[value] = self.value()
            else:
                listed.append(value)
            if not self.takes(","):
                require(self.takes(closing), f"`,` or `{closing}` is missing")
                break
        require(not (listed and named), "names only for some fields")
        return named if named or closing == "}" else listed


def unescape(match):
    digits = match[1] or match[2]
    return chr(int(digits, 16)) if digits else SHORT.get(match[3], match[3])


def record(path, data, newest=1):
    """A record: RON and a line with its checksum."""
    line = re.fullmatch(rb"// crc32c ([0-9a-f]{8})\n", data[-19:])
    require(line, f"{path}: its checksum line is missing")
    body = data[:-19]
    require(crc32c(body) == int(line[1], 16), f"{path}: wrong checksum")
    try:
        fields = Ron(body.decode()).document()
    except (Problem, UnicodeDecodeError) as error:
        raise Problem(f"{path}: {error}") from error
    require(isinstance(fields, dict) and next(iter(fields), "") == "format", f"{path}: no format")
    require(fields["format"] <= newest, f"{path}: format {fields['format']} is not known")
    return fields


# Sealed objects.


class Sealed(Exception):
    """The object is sealed with a key that is not at hand."""


def key_id(key):
    return hmac.new(key, b"pgm key id", hashlib.sha256).digest()[:16]


def unseal(path, data, keys, context):
    """The raw bytes of a sealed object. `keys` are by their id."""
    require(len(data) >= 96 + 16, f"{path}: too short for a sealed object")
    header = data[:96]
    require(header[:4] == b"PGMS", f"{path}: not a sealed object")
    require(crc32c(header[:92]) == int.from_bytes(header[92:], "little"), f"{path}: damaged header")
    version, cipher, power, zero = header[4:8]
    require(version == 1 and cipher == 1, f"{path}: unknown seal")
    require(10 <= power <= 24 and zero == 0 and header[15] == 0, f"{path}: impossible header")
    key = keys.get(header[16:32])
    if key is None:
        raise Sealed(f"{path}: sealed with the key {header[16:32].hex()}, which is not at hand")
    try:
        own = AESGCM(AESGCM(key).decrypt(header[32:44], header[44:92], header[:32] + context))
        raw, step, aad = [], (1 << power) + 16, header[:16] + context
        for number, at in enumerate(range(96, len(data), step)):
            last = at + step >= len(data)
            nonce = header[8:15] + number.to_bytes(4, "big") + bytes([last])
            raw.append(own.decrypt(nonce, data[at : at + step], aad))
            require(raw[-1] or number == 0, f"{path}: cut off")
    except (InvalidTag, ValueError) as error:
        raise Problem(f"{path}: changed, cut off, or another object in its place") from error
    return b"".join(raw)


# Frames and packs.

RAW_MAX = 1 << 20


def lz4_block(data, size):
    """One LZ4 block."""
    out, at = bytearray(), 0
    while at < len(data):
        token = data[at]
        at += 1
        count = token >> 4
        if count == 15:
            while data[at] == 255:
                count, at = count + 255, at + 1
            count, at = count + data[at], at + 1
        out += data[at : at + count]
        at += count
        if at >= len(data):
            break
        back, at = int.from_bytes(data[at : at + 2], "little"), at + 2
        count = token & 15
        if count == 15:
            while data[at] == 255:
                count, at = count + 255, at + 1
            count, at = count + data[at], at + 1
        require(0 < back <= len(out) and len(out) + count + 4 <= size, "no LZ4 block")
        for _ in range(count + 4):
            out.append(out[-back])
    return bytes(out)


def gzip_member(data, size):
    require(data[:10] == bytes.fromhex("1f8b08000000000000ff"), "another gzip header")
    member = zlib.decompressobj(31)
    raw = member.decompress(data, size + 1)
    require(member.eof and not member.unused_data, "not one gzip member")
    return raw


def zstd_frame(data, size):
    member = zstandard.ZstdDecompressor().decompressobj()
    raw = member.decompress(data)
    require(not member.unused_data and len(raw) <= size, "not one zstd frame")
    return raw


CODECS = [lambda data, size: data, zstd_frame, lz4_block, gzip_member]


class Pack:
    """An object made of frames."""

    def __init__(self, path, data, kind):
        self.path, self.data = path, data
        require(len(data) >= 16 + 8 + 32, f"{path}: too short for a pack")
        magic, version, zero, found, zeros, crc = struct.unpack("<4sBBHII", data[:16])
        require(magic == b"PGMP" and crc32c(data[:12]) == crc, f"{path}: damaged header")
        require(version == 1 and zero == 0 == zeros, f"{path}: unknown version")
        require(found == kind, f"{path}: a pack of kind {found}, not {kind}")
        footer = data[-32:]
        magic, count, index_at, self.raw_bytes, index_crc, crc = struct.unpack("<4sIQQII", footer)
        require(magic == b"PGME" and crc32c(footer[:28]) == crc, f"{path}: damaged footer")
        require(count <= 1 << 20, f"{path}: too many frames")
        require(index_at + 8 + 20 * count + 32 == len(data), f"{path}: another size")
        index = data[index_at:-32]
        require(crc32c(index) == index_crc, f"{path}: damaged index")
        self.index_crc = index_crc
        require(index[:8] == b"PGMI" + count.to_bytes(4, "little"), f"{path}: no index")
        self.frames = list(struct.iter_unpack("<QIII", index[8:]))
        self.number_at, end = {}, 16
        for number, (offset, length, _, _) in enumerate(self.frames):
            require(offset == end and length >= 32, f"{path}: frames do not touch")
            self.number_at[offset], end = number, offset + length
        require(end == index_at, f"{path}: frames do not reach the index")
        require(sum(frame[2] for frame in self.frames) == self.raw_bytes, f"{path}: wrong sum")

    def frame(self, number):
        """The raw bytes of a frame."""
        offset, length, raw_size, raw_crc = self.frames[number]
        where = f"{self.path}: frame at {offset}"
        header, payload = self.data[offset : offset + 32], self.data[offset + 32 : offset + length]
        magic, version, codec, zero, seal = struct.unpack("<4sBBHI", header[:12])
        sizes = struct.unpack("<IIIII", header[12:])
        require(magic == b"PGMF" and crc32c(header[:28]) == sizes[4], f"{where}: damaged header")
        require(version == 1 and codec <= 3, f"{where}: unknown version or codec")
        require(zero == 0 and seal == 0, f"{where}: zeros are missing")
        require(sizes[0] <= RAW_MAX and sizes[1] == len(payload), f"{where}: impossible sizes")
        require((sizes[0], sizes[2]) == (raw_size, raw_crc), f"{where}: the index says otherwise")
        require(crc32c(payload) == sizes[3], f"{where}: damaged payload")
        try:
            raw = CODECS[codec](payload, raw_size)
        except (Problem, IndexError, zlib.error, zstandard.ZstdError) as error:
            raise Problem(f"{where}: cannot be decompressed: {error}") from error
        require(len(raw) == raw_size, f"{where}: {len(raw)} instead of {raw_size} raw bytes")
        require(codec == 0 or len(payload) < raw_size, f"{where}: compressed in vain")
        require(codec == 0 and sizes[2] == sizes[3] or crc32c(raw) == raw_crc, f"{where}: damaged")
        return raw

    def content(self):
        """The raw bytes of all frames."""
        return b"".join(self.frame(number) for number in range(len(self.frames)))


# Repository.

COMPONENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")


class Repository:
    """A repository in a folder."""

    def __init__(self, folder, master=None):
        self.folder, self.keys = folder, None
        about = record("repository.ron", self.stored("repository.ron"), newest=2)
        self.id = about["id"]
        if about["format"] == 1:
            require("seal" not in about, "repository.ron: sealed, in the format of plain ones")
            require(master is None, "the repository is plain, but a key was given")
        else:
            require(about.get("seal") == "Aes256Gcm", "repository.ron: unknown seal")
            require(master is not None, "the repository is sealed: give its master key (--key)")
            self.keys = self.ring(master)

    def ring(self, master):
        """The data keys by their id."""
        numbers = sorted(self.names("repository.keys"), reverse=True)
        require(numbers, "repository.keys: empty")
        for number in numbers:
            path = f"repository.keys/{number}"
            try:
                found = record(path, self.stored(path))
                break
            except Problem as error:
                print(f"pgm_read: {error}; taking the one before", file=sys.stderr)
        else:
            raise Problem("repository.keys: none can be read")
        own = key_id(master).hex()
        sealed_with = found["master_key"]
        require(sealed_with == own, f"{path}: sealed with the master key {sealed_with}, not {own}")
        context = b"\0".join([b"pgm keys", self.id.encode(), number.encode()])
        try:
            sealed = base64.b64decode(found["ring"], validate=True)
            ring = unseal(path, sealed, {key_id(master): master}, context)
        except (Sealed, binascii.Error) as error:
            raise Problem(f"{path}: {error}") from error
        require(len(ring) % 40 == 0 and 1 <= len(ring) // 40 <= 256, f"{path}: no ring")
        keys = [ring[at + 8 : at + 40] for at in range(0, len(ring), 40)]
        return {key_id(key): key for key in keys}

    def stored(self, path):
        """What is stored at a path."""
        try:
            with open(os.path.join(self.folder, path), "rb") as file:
                return file.read()
        except OSError as error:
            raise Problem(f"{path}: {error.strerror}") from error

    def get(self, path):
        """An object's raw bytes."""
        data = self.stored(path)
        if self.keys is None:
            return data
        if not data:
            return data
        context = b"\0".join([b"pgm object", self.id.encode(), path.encode()])
        try:
            return unseal(path, data, self.keys, context)
        except Sealed as error:
            raise Problem(str(error)) from error

    def names(self, folder):
        """What is directly in a folder, temporary and foreign files passed over."""
        try:
            found = os.listdir(os.path.join(self.folder, folder))
        except FileNotFoundError:
            return []
        return sorted(name for name in found if COMPONENT.fullmatch(name))

    def exists(self, path):
        return os.path.isfile(os.path.join(self.folder, path))

    def servers(self):
        """Names of the servers."""
        names = (name for name in self.names("") if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name))
        return [name for name in names if self.exists(f"{name}/server.ron")]

    def backups(self, server):
        """Labels of a server's backups, the oldest first."""
        folder = f"{server}/backup"
        return [name for name in self.names(folder) if self.exists(f"{folder}/{name}/backup.ron")]

    def entry(self, server, label):
        """The catalog entry of a backup."""
        path = f"{server}/backup/{label}/backup.ron"
        entry = record(path, self.get(path))
        require((entry["server"], entry["label"]) == (server, label), f"{path}: of another backup")
        return entry

    def retained(self, server, label):
        """Whether the backup must not be deleted."""
        folder = f"{server}/backup/{label}/marks"
        for number in self.names(folder)[-1:]:
            path = f"{folder}/{number}"
            try:
                return record(path, self.get(path))["retention"] != "Normal"
            except Problem:
                return True
        return False


# Manifest.


def checked(path, data, said):
    require(len(data) == said["size"], f"{path}: {len(data)} instead of {said['size']} bytes")
    require(crc32c(data) == said["crc32c"], f"{path}: not the one of the catalog entry")
    return data


def name_of(path):
    """The bytes of a path, refused if it leads anywhere else."""
    raw = bytes.fromhex(path["hex"]) if isinstance(path, dict) else path.encode()
    parts = raw.split(b"/")
    sound = b"\0" not in raw and not any(part in (b"", b".", b"..") for part in parts)
    require(sound, f"the manifest names the path {raw!r}")
    return raw


class Manifest:
    """Every file of a backup, and where its bytes rest."""

    def __init__(self, path, pack, server, label):
        self.directories, self.files, self.tablespaces, self.links = [], [], [], []
        frames = [pack.frame(number) for number in range(len(pack.frames))]
        require(len(frames) >= 2, f"{path}: too few frames")
        header, end = lines(frames[:1]), lines(frames[-1:])
        require([next(iter(line)) for line in header + end] == ["header", "end"], f"{path}: order")
        header, end = header[0]["header"], end[0]["end"]
        require(header["format"] == 1, f"{path}: format {header['format']} is not known")
        require((header["server"], header["label"]) == (server, label), f"{path}: another's")
        table = len(frames) - 1 - end["table_frames"]
        require(table >= 1, f"{path}: its table of packs is larger than itself")
        self.packs = [line["pack"] for line in lines(frames[table:-1])]
        kinds = {
            "directory": self.directories,
            "file": self.files,
            "tablespace": self.tablespaces,
            "symlink": self.links,
        }
        for line in lines(frames[1:table]):
            ((kind, content),) = line.items()
            require(kind in kinds, f"{path}: a line {kind} among the files")
            kinds[kind].append(content)
        counts = {
            "packs": len(self.packs),
            "files": len(self.files),
            "directories": len(self.directories),
            "links": len(self.tablespaces) + len(self.links),
            "raw_bytes": sum(file["size"] for file in self.files),
        }
        for name, count in counts.items():
            require(end[name] == count, f"{path}: {count} {name} instead of {end[name]}")


def lines(frames):
    text = b"".join(frames)
    require(text.endswith(b"\n") or not text, "a line of the manifest has no end")
    return [json.loads(line) for line in text.splitlines()]


# Restore.


class Restore:
    """One backup on its way into a directory."""

    def __init__(self, repository, server, label, target):
        self.repository, self.server, self.target = repository, server, os.fsencode(target)
        self.folder = f"{server}/backup/{label}"
        self.entry = repository.entry(server, label)
        path = f"{self.folder}/manifest"
        data = checked(path, repository.get(path), self.entry["manifest"])
        self.manifest = Manifest(path, Pack(path, data, 3), server, label)
        self.opened, self.checksums = {}, {}

    def run(self):
        os.makedirs(self.target, mode=0o700, exist_ok=True)
        require(not os.listdir(self.target), f"{os.fsdecode(self.target)}: not empty")
        os.chmod(self.target, 0o700)
        self.make_tablespaces()
        for directory in sorted(self.manifest.directories, key=lambda one: name_of(one["path"])):
            os.makedirs(self.at(directory["path"]), mode=0o700, exist_ok=True)
        # By pack, so that few of them are in memory.
        first = lambda file: (file["extents"] or [[0, 0, 0]])[0][1:3]
        for file in sorted(self.manifest.files, key=first):
            self.make_file(file)
        for link in self.manifest.links:
            os.symlink(link["target"], self.at(link["path"]))
        if self.entry["wal"] == "Archive":
            self.add_wal()
        self.add_server_manifest()
        for directory in reversed(self.manifest.directories):
            os.chmod(self.at(directory["path"]), directory["mode"])

    def at(self, path):
        return os.path.join(self.target, name_of(path))

    def make_tablespaces(self):
        for tablespace in self.manifest.tablespaces:
            target = tablespace["target"]
            os.makedirs(target, mode=0o700, exist_ok=True)
            require(not os.listdir(target), f"{target}: the tablespace's directory is not empty")
            os.makedirs(os.path.join(self.target, b"pg_tblspc"), mode=0o700, exist_ok=True)
            os.symlink(target, self.at(f"pg_tblspc/{tablespace['oid']}"))

    def make_file(self, file):
        path = self.at(file["path"])
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        crc, size = 0, 0
        with open(path, "xb") as out:
            for offset, pack, frame, start, length in file["extents"]:
                require(offset == size and length > 0, f"{file['path']}: extents do not touch")
                piece = self.frame(pack, frame)[start : start + length]
                require(len(piece) == length, f"{file['path']}: an extent leaves its frame")
                out.write(piece)
                crc, size = crc32c(piece, crc), size + length
        require(size == file["size"], f"{file['path']}: {size} instead of {file['size']} bytes")
        require(file.get("crc32c", crc) == crc, f"{file['path']}: wrong checksum")
        self.checksums[path] = crc
        os.chmod(path, file["mode"])
        os.utime(path, (file["mtime"], file["mtime"]))

    def frame(self, number, offset):
        """The frame at an offset of a pack of the table."""
        if (number, offset) == self.opened.get("frame"):
            return self.opened["raw"]
        if number != self.opened.get("number"):
            require(number < len(self.manifest.packs), f"there is no pack {number} in the table")
            said = self.manifest.packs[number]
            path = f"{self.server}/backup/{said['label']}/{said['number']:04}.pack"
            pack = Pack(path, self.repository.get(path), 1)
            found = (len(pack.data), pack.raw_bytes, len(pack.frames), pack.index_crc)
            index_crc = said.get("index_crc32c", pack.index_crc)
            wanted = (said["size"], said["raw_bytes"], said["frames"], index_crc)
            require(found == wanted, f"{path}: not the one that the manifest means")
            self.opened = {"number": number, "pack": pack}
        pack = self.opened["pack"]
        require(offset in pack.number_at, f"{pack.path}: no frame begins at {offset}")
        raw = pack.frame(pack.number_at[offset])
        self.opened.update(frame=(number, offset), raw=raw)
        return raw

    def add_wal(self):
        """The segments from the start to the end of the backup."""
        size, timeline = self.entry["segment_bytes"], self.entry["timeline"]
        start, end = lsn(self.entry["start_lsn"]), lsn(self.entry["end_lsn"])
        os.makedirs(os.path.join(self.target, b"pg_wal"), mode=0o700, exist_ok=True)
        for number in range(start // size, (end - 1) // size + 1):
            a_file = 0x100000000 // size
            name = f"{timeline:08X}{number // a_file:08X}{number % a_file:08X}"
            path = self.wal_object(timeline, name, min(end, (number + 1) * size))
            raw = Pack(path, self.repository.get(path), 2).content()
            require(len(raw) == size, f"{path}: {len(raw)} bytes, not a segment")
            with open(os.path.join(self.target, b"pg_wal", name.encode()), "xb") as out:
                out.write(raw)
            os.chmod(out.name, 0o600)

    def wal_object(self, timeline, name, needed):
        folder = f"{self.server}/wal/{timeline:08X}"
        if self.repository.exists(f"{folder}/{name}"):
            return f"{folder}/{name}"
        form = re.compile(name + r"\.([0-9A-F]{16})\.partial")
        partial = [found for found in map(form.fullmatch, self.repository.names(folder)) if found]
        enough = [found for found in partial if int(found[1], 16) >= needed]
        require(enough, f"{folder}/{name}: missing")
        return f"{folder}/{max(enough, key=lambda found: found[1])[0]}"

    def add_server_manifest(self):
        sent, method = self.entry["server_manifest"], self.entry["method"]
        if sent is not None:
            path = f"{self.folder}/pg_manifest"
            data = checked(path, self.repository.get(path), sent)
            content = Pack(path, data, 4).content()
        elif method not in ("Files", "Blocks"):
            return
        if method != "BaseBackup":
            content = self.composed_manifest()
        with open(os.path.join(self.target, b"backup_manifest"), "xb") as out:
            out.write(content)
        os.chmod(out.name, 0o600)

    def composed_manifest(self):
        """What the server would say of the whole files."""
        files = []
        for file in self.manifest.files:
            name = name_of(file["path"])
            if name.startswith(b"pg_wal/"):
                continue
            try:
                line = {"Path": name.decode()}
            except UnicodeDecodeError:
                line = {"Encoded-Path": name.hex()}
            modified = time.strftime("%Y-%m-%d %H:%M:%S GMT", time.gmtime(file["mtime"]))
            checksum = self.checksums[self.at(file["path"])].to_bytes(4, "little").hex()
            line.update({"Size": file["size"], "Last-Modified": modified})
            line.update({"Checksum-Algorithm": "CRC32C", "Checksum": checksum})
            files.append(spaced(line))
        entry = self.entry
        wal = {"Timeline": entry["timeline"], "Start-LSN": entry["start_lsn"], "End-LSN": entry["end_lsn"]}
        version = "1,\n"
        if entry["version"] >= 170000:
            version = f'2,\n"System-Identifier": {entry["system_id"]},\n'
        text = (
            f'{{ "PostgreSQL-Backup-Manifest-Version": {version}"Files": [\n'
            + ",\n".join(files)
            + f'\n],\n"WAL-Ranges": [\n{spaced(wal)}\n],\n'
        ).encode()
        digest = hashlib.sha256(text).hexdigest()
        return text + f'"Manifest-Checksum": "{digest}"}}\n'.encode()


def spaced(line):
    return f"{{ {json.dumps(line, ensure_ascii=False)[1:-1]} }}"


def lsn(text):
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


# Commands.


def list_backups(repository):
    for server in repository.servers():
        path = f"{server}/server.ron"
        about = record(path, repository.get(path))
        print(f"{server}: system {about['system_id']}, version {about['version']}")
        for label in repository.backups(server):
            entry = repository.entry(server, label)
            size, retained = entry["size"], repository.retained(server, label)
            print(
                f"  {label} {entry['kind']} {entry['status']} {entry['timeline']}"
                f" {entry['start_lsn']} {entry['end_lsn']} {size['files']} files"
                f" {size['raw_bytes']} bytes{' retained' if retained else ''}"
            )


def master_key(file):
    if file is None:
        return None
    with open(file, encoding="ascii") as opened:
        digits = opened.read().strip()
    require(re.fullmatch("[0-9a-fA-F]{64}", digits), f"{file}: not 64 hexadecimal digits")
    return bytes.fromhex(digits)


def main():
    parser = argparse.ArgumentParser(description="Reads a pgm repository in a folder.")
    parser.add_argument("--key", metavar="FILE", help="the master key of a sealed repository")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list").add_argument("folder")
    restore = commands.add_parser("restore")
    for name in ("folder", "server", "label", "target"):
        restore.add_argument(name)
    asked = parser.parse_args()
    try:
        repository = Repository(asked.folder, master_key(asked.key))
        if asked.command == "list":
            list_backups(repository)
        else:
            Restore(repository, asked.server, asked.label, asked.target).run()
    except Problem as problem:
        sys.exit(f"pgm_read: {problem}")


if __name__ == "__main__":
    main()
