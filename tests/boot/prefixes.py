"""Owns the trial of power cuts at any write: a first boot and an update are recorded write by
write, the disk is made as it was after many prefixes of the record, and each must be one that a box
goes on from: partition table, ESP and its UKIs, slots, LUKS2 header, file system, the server's state.
"""
import json
import os
import random
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import luks2
import trials
import workstation
import writes
from machine import Failed, free_port

SEED = 7
PREFIXES = 120
LEAST = 100
BOOTED = 5
SERVE_TIMEOUT_S = 120
E2FSCK_CORRECTED = 1
COPY_BYTES = 1 << 20
ESP, DATA = "redoubt-esp", "redoubt-data"


@dataclass
class Record:
    """What a machine wrote, and what it began with: disk and firmware's variables. Its TPM is as it
    was at the end, for before its first start it is none."""
    name: str
    folder: Path
    start: Path
    log: Path
    recovery_key: str = ""
    seen: dict = field(default_factory=dict)


def begin(bench, machine, name):
    """Records the machine from its next start on."""
    folder = bench.folder / f"prefixes-{name}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    record = Record(name, folder, folder / "start.raw", folder / "writes")
    bench.tools.run("qemu-img", "convert", "-O", "raw", machine.disk, record.start)
    shutil.copy(machine.variables, folder / "variables.fd")
    record.log.touch()
    machine.record = record.log
    return record


def end(record, machine):
    """Switches the machine off; what it does from then on is not recorded."""
    machine.cut_power()
    machine.record = None
    shutil.copytree(machine.tpm, record.folder / "tpm")


def holes_kept(path):
    """(at, data) of what is allocated in a file."""
    with open(path, "rb") as file:
        end, at = os.fstat(file.fileno()).st_size, 0
        while at < end:
            try:
                at = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                return
            stop = os.lseek(file.fileno(), at, os.SEEK_HOLE)
            while at < stop:
                file.seek(at)
                data = file.read(min(COPY_BYTES, stop - at))
                yield at, data
                at += len(data)


class Plain:
    """The data partition in plain text, in a sparse file, kept up to date write by write."""

    def __init__(self, path, span, key, known):
        offset, self.unit = luks2.segment(known)
        self.begin, self.end, self.key = span[0] + offset, span[1], key
        self.file = open(path, "w+b")
        self.file.truncate(self.end - self.begin)

    def put(self, at, data):
        """What the disk has at this byte now."""
        begin, end = max(at, self.begin), min(at + len(data), self.end)
        if begin >= end:
            return
        part = data[begin - at:end - at]
        if (begin - self.begin) % self.unit or len(part) % self.unit:
            raise Failed(f"a write of {len(part)} bytes at {begin} is not of whole units")
        zeros = bytes(self.unit)
        for i in range(0, len(part), self.unit):
            unit, to = part[i:i + self.unit], begin - self.begin + i
            self.file.seek(to)
            # What was discarded is read as nothing.
            self.file.write(zeros if unit == zeros
                            else luks2.decrypted(self.key, unit, to, self.unit))


def partitions(bench, disk):
    """{name: (begin, end)}, bytes; a slot that is in use has the name of its image."""
    table = json.loads(bench.tools.run("sfdisk", "--json", disk))["partitiontable"]
    return {entry["name"]: (entry["start"] * 512, (entry["start"] + entry["size"]) * 512)
            for entry in table["partitions"] if entry["name"] != "_empty"}


def reader(disk, span):
    """Reads a partition of a disk in a file."""
    def read(at, count):
        with open(disk, "rb") as file:
            file.seek(span[0] + at)
            return file.read(min(count, span[1] - span[0] - at))
    return read


def same(path, disk, span):
    """Whether a partition begins with all of a file."""
    with open(path, "rb") as wanted, open(disk, "rb") as found:
        found.seek(span[0])
        while True:
            data = wanted.read(COPY_BYTES)
            if not data:
                return True
            if found.read(len(data)) != data:
                return False


class Look:
    """Looks at a disk as it was after a prefix."""

    def __init__(self, bench, record, disk, plain):
        self.bench, self.record, self.disk, self.plain = bench, record, disk, plain
        self.work = record.folder / "look"

    def all(self):
        """Fails with what a box could not go on from."""
        shutil.rmtree(self.work, ignore_errors=True)
        self.work.mkdir()
        found = partitions(self.bench, self.disk)
        self.esp(found)
        if DATA not in found:
            return self.note("before the data partition")
        if luks2.header(reader(self.disk, found[DATA])) is None:
            raise Failed("the partition table names the data, and no LUKS2 header is whole")
        self.data()
        shutil.rmtree(self.work)
        return None

    def note(self, what):
        self.record.seen[what] = self.record.seen.get(what, 0) + 1

    def esp(self, found):
        """The ESP is a file system, at least one UKI there can be started, and each that can has a
        slot that is whole."""
        begin, end = found[ESP]
        esp = self.work / "esp"
        with open(self.disk, "rb") as disk, open(esp, "wb") as file:
            disk.seek(begin)
            file.truncate(end - begin)
            for at in range(0, end - begin, COPY_BYTES):
                data = disk.read(min(COPY_BYTES, end - begin - at))
                if data.count(0) != len(data):
                    file.seek(at)
                    file.write(data)
        run = subprocess.run(self.bench.tools.command("fsck.fat", "-a", esp), capture_output=True,
                             text=True)
        if run.returncode not in (0, 1):
            raise Failed(f"the ESP: {run.stdout}{run.stderr}")
        self.bench.tools.run("fsck.fat", "-n", esp)
        names = self.bench.tools.run("mdir", "-b", "-i", esp, "::EFI/Linux").splitlines()
        ukis = [name for name in map(str.strip, names) if name.endswith(".efi")]
        startable = 0
        for name in ukis:
            startable += self.uki(esp, name, found)
        if not startable:
            raise Failed(f"no UKI can be started: {ukis}")
        self.note(f"{startable} image(s) that start")

    def uki(self, esp, name, found):
        version = name.split("redoubt_")[1].split("+")[0].removesuffix(".efi")
        copy = self.work / "uki"
        copy.unlink(missing_ok=True)
        self.bench.tools.run("mcopy", "-i", esp, name, copy)
        image = self.bench.images / f"redoubt_{version}"
        if copy.read_bytes() != image.with_name(image.name + ".efi").read_bytes():
            # While it is written. The loader takes another one, and the box writes it anew.
            self.note("a UKI that is not whole")
            return 0
        for kind, label in (("root", image.name), ("root-verity", f"{image.name}_verity")):
            content = next(self.bench.images.glob(f"{image.name}.{kind}.*.raw"))
            if label not in found or not same(content, self.disk, found[label]):
                raise Failed(f"{name} is there, and its {kind} is not whole")
        return 1

    def data(self):
        """The file system recovers, and the server from what is in it."""
        copy = self.work / "data"
        self.plain.file.flush()
        subprocess.run(["cp", "--sparse=always", self.plain.file.name, copy], check=True)
        checked = subprocess.run(self.bench.tools.command("e2fsck", "-fp", copy),
                                 capture_output=True, text=True)
        if checked.returncode > E2FSCK_CORRECTED:
            raise Failed(f"the file system of the data: {checked.stdout}{checked.stderr}")
        self.bench.tools.run("e2fsck", "-fn", copy)
        out = self.work / "var"
        out.mkdir()
        self.bench.tools.run("debugfs", "-R", f"rdump /lib {out}", copy)
        copy.unlink()
        # They belong to the box's users; the server that is tried here runs as whoever tries it.
        for path in [out, *out.rglob("*")]:
            os.chown(path, os.getuid(), os.getgid(), follow_symlinks=False)
        for path in sorted((out / "lib/redoubt-image").glob("*.json")):
            json.loads(path.read_text())
        state = out / "lib/redoubt"
        self.note("a state of the server" if (state / "store").exists() else "no state yet")
        self.serve(state)

    def serve(self, state):
        """The server starts with what is left, and is ready."""
        state.mkdir(parents=True, exist_ok=True)
        state.chmod(0o700)
        port, said = free_port(), self.work / "said"
        settings = self.work / "redoubt.toml"
        settings.write_text(f"listen = '127.0.0.1:{port}'\nstate_dir = '{state}'\n"
                            "tls_names = ['127.0.0.1']\n")
        with open(said, "wb") as log:
            server = subprocess.Popen([self.bench.programs / "redoubt", "--config", settings,
                                       "serve"], stdout=log, stderr=log)
        try:
            end = time.monotonic() + SERVE_TIMEOUT_S
            while not workstation.is_ready(port):
                if server.poll() is not None or time.monotonic() > end:
                    raise Failed(f"the server does not recover: {said.read_text()[-2000:]}")
                time.sleep(0.1)
        finally:
            server.terminate()
            server.wait(SERVE_TIMEOUT_S)


def check(bench, record):
    """Every chosen prefix is looked at; some of them are booted."""
    log = writes.read(record.log)
    chosen = writes.prefixes(log, PREFIXES, random.Random(SEED))
    if len(chosen) < LEAST:
        raise Failed(f"{len(chosen)} prefixes of {len(log)} writes, not {LEAST}")
    key, known, span = volume(bench, record, log)
    disk = record.folder / "disk.raw"
    subprocess.run(["cp", "--sparse=always", record.start, disk], check=True)
    plain = Plain(record.folder / "plain.raw", span, key, known)
    for at, data in holes_kept(record.start):
        plain.put(at, data)
    replay = writes.Replay(record.log, disk, plain.put)
    boots = set(chosen[len(chosen) // (2 * BOOTED)::len(chosen) // BOOTED][:BOOTED])
    look = Look(bench, record, disk, plain)
    for count in chosen:
        replay.advance(log, count)
        try:
            look.all()
        except Failed as failure:
            raise Failed(f"after {count} of {len(log)} writes: {failure}") from failure
        if count in boots:
            boot(bench, record, disk)
    replay.close()
    bench.figure(f"{record.name}: writes, prefixes looked at, of them booted",
                 f"{len(log)}, {len(chosen)}, {len(boots)}")
    bench.figure(f"{record.name}: found", record.seen)
    shutil.rmtree(record.folder)


def volume(bench, record, log):
    """(volume key, header, where the partition is) of the data, as they are at the end."""
    end = record.folder / "end.raw"
    subprocess.run(["cp", "--sparse=always", record.start, end], check=True)
    replay = writes.Replay(record.log, end, lambda at, data: None)
    replay.advance(log, len(log))
    replay.close()
    span = partitions(bench, end)[DATA]
    read = reader(end, span)
    key, known = luks2.volume_key(read, record.recovery_key.encode()), luks2.header(read)
    end.unlink()
    if key is None:
        raise Failed("the recovery key does not open the data of the recorded disk")
    return key, known, span


def boot(bench, record, raw):
    """A machine with this disk, and what it had else when the record began, serves."""
    disk = bench.folder / "prefix" / "disk.qcow2"
    shutil.rmtree(disk.parent, ignore_errors=True)
    disk.parent.mkdir()
    bench.tools.run("qemu-img", "convert", "-O", "qcow2", raw, disk)
    machine = bench.machine("prefix", disk)
    shutil.copy(record.folder / "variables.fd", machine.variables)
    shutil.copytree(record.folder / "tpm", machine.tpm, dirs_exist_ok=True)
    try:
        machine.start()
        trials.await_ready(machine)
    finally:
        machine.cut_power()
    record.seen["booted and ready"] = record.seen.get("booted and ready", 0) + 1


def power_cuts(bench):
    """Records a first boot and an update, and looks at prefixes of both."""
    people = workstation.Workstation(bench.folder / "prefixes-people", bench.programs, 0)
    settings = trials.SETTINGS + people.make_keys()
    machine = bench.machine("recorded", bench.disk("recorded", settings=settings))
    try:
        first = begin(bench, machine, "first boot")
        machine.start()
        people.port = machine.port
        trials.await_ready(machine)
        fingerprint, codes = trials.board(machine)
        first.recovery_key = trials.shown_recovery_key(machine)
        trials.await_blessed(machine)
        end(first, machine)
        machine.start()
        trials.await_ready(machine)
        people.enrol(fingerprint, codes)
        trials.trust(bench, people)
        item = trials.import_image(bench, machine, people, "image", 2)
        machine.cut_power()
        second = begin(bench, machine, "update")
        second.recovery_key = first.recovery_key
        machine.start()
        trials.await_ready(machine)
        people.agree("activate", item)
        trials.await_updated(machine)
        # With the key slots of the image before: that they go is part of it.
        machine.await_("the data are closed to every other image",
                       lambda: trials.GOOD in machine.said.split("starting Boot0")[-1],
                       trials.ACT_TIMEOUT_S)
        end(second, machine)
    finally:
        machine.cut_power()
    check(bench, first)
    check(bench, second)
