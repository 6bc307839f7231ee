"""Cuts the images of a slot's partitions to what dm-verity covers, so that they can travel: trim.py
ROOT VERITY. A root's data is as long as the superblock of its verity says; of the hashes nothing
but zeros follows the last one.
"""
import os
import struct
import sys

BLOCK = 4096
# The superblock of dm-verity, as cryptsetup writes it: data blocks at 72.
MAGIC, DATA_BLOCKS_AT = b"verity\0\0", 72


def covered(verity):
    with open(verity, "rb") as file:
        block = file.read(BLOCK)
    if not block.startswith(MAGIC):
        sys.exit(f"{verity} has no superblock of dm-verity")
    return struct.unpack_from("<Q", block, DATA_BLOCKS_AT)[0] * BLOCK


def last_used(path):
    """Bytes up to the last block that is not zeros."""
    end = 0
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        at = 0
        while at < size:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            hole = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            file.seek(at)
            while at < hole:
                block = file.read(BLOCK)
                at += BLOCK
                if block.strip(b"\0"):
                    end = at
    return end


root, verity = sys.argv[1:]
os.truncate(root, covered(verity))
os.truncate(verity, last_used(verity))
