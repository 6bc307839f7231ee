"""Owns reading a LUKS2 volume outside the kernel (LUKS2 On-Disk Format Specification 1.1.1): which
of the two headers counts, the volume key by a passphrase, and sectors in plain text.
"""
import base64
import hashlib
import json
import struct
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

BINARY_BYTES = 4096
# Magic, version, size, sequence number, label, checksum's algorithm, salt, UUID, subsystem, offset,
# padding, checksum.
BINARY = struct.Struct(">6sHQQ48s32s64s40s48sQ184s64s")
CHECKSUM_AT = 448
MAGICS = {b"LUKS\xba\xbe", b"SKUL\xba\xbe"}
# Where a second header may begin: with JSON areas of these sizes (3.2).
SECOND_AT = [0x4000, 0x8000, 0x10000, 0x20000, 0x40000, 0x80000, 0x100000, 0x200000, 0x400000]
SECTOR_BYTES = 512


@dataclass
class Header:
    """One that is whole."""
    sequence: int
    json: dict


def _header(data):
    fields = BINARY.unpack(data[:BINARY_BYTES][:BINARY.size])
    magic, version, size, sequence = fields[:4]
    algorithm, checksum = fields[5].rstrip(b"\0").decode("ascii", "replace"), fields[11]
    if magic not in MAGICS or version != 2 or algorithm != "sha256" or len(data) < size:
        return None
    blank = bytearray(data[:size])
    blank[CHECKSUM_AT:CHECKSUM_AT + len(checksum)] = bytes(len(checksum))
    digest = hashlib.sha256(blank).digest()
    if checksum[:len(digest)] != digest:
        return None
    return Header(sequence, json.loads(data[BINARY_BYTES:size].split(b"\0", 1)[0]))


def header(read):
    """The newest header that is whole, or none. `read(at, count)` gives bytes of the volume."""
    found = []
    for at in [0, *SECOND_AT]:
        start = read(at, BINARY_BYTES)
        if start[:6] in MAGICS:
            size = struct.unpack_from(">Q", start, 8)[0]
            one = _header(read(at, min(size, max(SECOND_AT))))
            if one:
                found.append(one)
    return max(found, key=lambda one: one.sequence, default=None)


def _diffuse(block, name):
    size = hashlib.new(name).digest_size
    parts = [block[i:i + size] for i in range(0, len(block), size)]
    return b"".join(hashlib.new(name, struct.pack(">I", i) + part).digest()[:len(part)]
                    for i, part in enumerate(parts))


def _merged(material, stripes, name):
    """What was split against forensics (LUKS1 specification, 2.4)."""
    size = len(material) // stripes
    blocks = [material[i * size:(i + 1) * size] for i in range(stripes)]
    state = bytes(size)
    for block in blocks[:-1]:
        state = _diffuse(bytes(a ^ b for a, b in zip(state, block)), name)
    return bytes(a ^ b for a, b in zip(state, blocks[-1]))


def decrypted(key, data, at, unit=SECTOR_BYTES):
    """Whole units of aes-xts-plain64, the first of them at this byte of the volume's data. Units
    are numbered by 512 bytes, whatever their size."""
    plain = []
    for i in range(0, len(data), unit):
        tweak = struct.pack("<QQ", (at + i) // SECTOR_BYTES, 0)
        cipher = Cipher(algorithms.AES(key), modes.XTS(tweak)).decryptor()
        plain.append(cipher.update(data[i:i + unit]))
    return b"".join(plain)


def _opens(key, digests):
    for digest in digests.values():
        made = hashlib.pbkdf2_hmac(digest["hash"], key, base64.b64decode(digest["salt"]),
                                   digest["iterations"])
        wanted = base64.b64decode(digest["digest"])
        if made[:len(wanted)] == wanted:
            return True
    return False


def volume_key(read, passphrase):
    """The volume's key by a slot of PBKDF2 that this passphrase opens, or none."""
    known = header(read)
    for slot in (known.json["keyslots"] if known else {}).values():
        kdf, area, af = slot["kdf"], slot["area"], slot["af"]
        if kdf["type"] != "pbkdf2" or area["encryption"] != "aes-xts-plain64":
            continue
        wrapping = hashlib.pbkdf2_hmac(kdf["hash"], passphrase, base64.b64decode(kdf["salt"]),
                                       kdf["iterations"], area["key_size"])
        bytes_ = slot["key_size"] * af["stripes"]
        sectors = -(-bytes_ // SECTOR_BYTES) * SECTOR_BYTES
        material = decrypted(wrapping, read(int(area["offset"]), sectors), 0)[:bytes_]
        key = _merged(material, af["stripes"], af["hash"])
        if _opens(key, known.json["digests"]):
            return key
    return None


def segment(known):
    """(offset, unit's bytes) of the data."""
    only = known.json["segments"]["0"]
    if only["encryption"] != "aes-xts-plain64" or int(only["iv_tweak"]) != 0:
        raise ValueError(f"a segment of another kind: {only}")
    return int(only["offset"]), only["sector_size"]
