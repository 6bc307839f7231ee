"""Owns a record of what a machine wrote to its disk, as QEMU's blklogwrites makes it (the format of
Linux' dm-log-writes): every write in its order, and the disk as it was after any number of them.
"""
import struct
from dataclasses import dataclass

MAGIC, VERSION = 0x6A736677736872, 1
SUPER = struct.Struct("<QQQI")
ENTRY = struct.Struct("<QQQQ")
FLUSH, DISCARD, MARK = 1, 4, 8
CHUNK_BYTES = 1 << 20


@dataclass
class Write:
    """`bytes` at `at` of the disk; their content lies at `content` of the record, or is zero."""
    at: int
    bytes: int
    flags: int
    content: int

    @property
    def is_flush(self):
        return bool(self.flags & FLUSH)


def read(path):
    """All writes of a record, in order."""
    found = []
    with open(path, "rb") as file:
        magic, version, count, sector = SUPER.unpack(file.read(SUPER.size))
        if (magic, version) != (MAGIC, VERSION):
            raise ValueError(f"{path} is no record of writes")
        end = file.seek(0, 2)
        at = sector
        # The count is behind where the machine was ended at once.
        while at + ENTRY.size <= end:
            file.seek(at)
            start, sectors, flags, _ = ENTRY.unpack(file.read(ENTRY.size))
            if (start, sectors, flags) == (0, 0, 0) and len(found) >= count:
                break
            at += sector
            length = sectors * sector
            found.append(Write(start * sector, 0 if flags & MARK else length, flags, at))
            if not flags & DISCARD:
                at += length
    return found


class Replay:
    """A disk image, brought from one prefix to a later one; `on_write(at, data)` sees changes."""

    def __init__(self, record, disk, on_write):
        self.record, self.disk, self.on_write = open(record, "rb"), open(disk, "r+b"), on_write
        self.done = 0

    def advance(self, writes, count):
        """The disk after the first `count` of the writes."""
        for write in writes[self.done:count]:
            for begin in range(0, write.bytes, CHUNK_BYTES):
                size = min(CHUNK_BYTES, write.bytes - begin)
                self._put(write, begin, size)
        self.done = count
        self.disk.flush()

    def _put(self, write, begin, size):
        if write.flags & DISCARD:
            data = bytes(size)
        else:
            self.record.seek(write.content + begin)
            data = self.record.read(size)
        self.disk.seek(write.at + begin)
        if data.count(0) == len(data):
            # Holes stay holes where nothing was.
            if self.disk.read(size).count(0) == size:
                return
            self.disk.seek(write.at + begin)
        self.disk.write(data)
        self.on_write(write.at + begin, data)

    def close(self):
        self.record.close()
        self.disk.close()


def prefixes(writes, count, random):
    """At how many writes to look, in order: spread over the record, and before and after flushes,
    where what must have happened by then has."""
    flushes = [i for i, write in enumerate(writes) if write.is_flush]
    chosen = random.sample(flushes, min(len(flushes), count // 4))
    around = {i for at in chosen for i in (at, at + 1)}
    rest = count - len(around)
    spread = {round(i * len(writes) / rest) for i in range(1, rest + 1)}
    return sorted(i for i in spread | around if 0 < i <= len(writes))
