"""Owns the trials that take long: what is refused, what falls back, what does not open. Run by
hand, scripts/boot-test --all; each leaves the bench as the next one wants it.
"""
import json
import re
import shutil
import struct
import time

import prefixes
import wire
import workstation
from machine import Failed
from trials import (ACT_TIMEOUT_S, ADDRESS, ANSWER, BOOT_TIMEOUT_S, DRILL, PROMPT, SETTINGS,
                    await_ready, board, import_image, runs, shown_recovery_key, write)

ESP_AT = "@@1M"
ZSTD = b"\x28\xb5\x2f\xfd"
ADDRESS_V6 = "fd00:7::7"
# The other end of the network that QEMU makes.
GATEWAY = bytes((10, 0, 2, 2))
REFUSED = r"(?i)access denied|security violation"
MAINTENANCE = r"Started redoubt-maintenance\.service"
SERVES = r"Finished redoubt-self-test\.service"


def with_uki(bench, machine, name, uki, entry):
    """A copy of the machine's disk whose ESP has this UKI under this name, and no other. The
    machine is switched off."""
    machine.cut_power()
    raw, disk = (machine.disk.with_name(f"{name}.{end}") for end in ("raw", "qcow2"))
    bench.tools.run("qemu-img", "convert", "-O", "raw", machine.disk, raw)
    esp = f"{raw}{ESP_AT}"
    for line in bench.tools.run("mdir", "-b", "-i", esp, "::EFI/Linux").splitlines():
        if line.strip().endswith(".efi"):
            bench.tools.run("mdel", "-i", esp, line.strip())
    bench.tools.run("mcopy", "-o", "-i", esp, uki, f"::EFI/Linux/{entry}")
    bench.tools.run("qemu-img", "convert", "-O", "qcow2", raw, disk)
    raw.unlink()
    return disk


class Swapped:
    """The machine with another disk or TPM for a while."""

    def __init__(self, machine, disk=None, tpm=None):
        self.machine, self.disk, self.tpm = machine, disk, tpm

    def __enter__(self):
        self.machine.cut_power()
        self.kept = self.machine.disk, self.machine.tpm
        self.machine.disk = self.disk or self.machine.disk
        self.machine.tpm = self.tpm or self.machine.tpm
        return self.machine

    def __exit__(self, *_):
        self.machine.cut_power()
        self.machine.disk, self.machine.tpm = self.kept
        if self.disk:
            self.disk.unlink(missing_ok=True)


def refused_ukis(bench, machine):
    """UKIs that nobody signed, or somebody else, are refused by the firmware; the same file, signed,
    starts from the same place."""
    uki = bench.images / "redoubt_2.efi"
    work = machine.folder
    unsigned, foreign = work / "unsigned.efi", work / "foreign.efi"
    shutil.copy(uki, unsigned)
    bench.tools.run("sbattach", "--remove", unsigned)
    for key in ("foreign.key", "foreign.crt"):
        (work / key).unlink(missing_ok=True)
    bench.tools.run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x",
                    "-keyout", work / "foreign.key", "-out", work / "foreign.crt")
    bench.tools.run("sbsign", "--key", work / "foreign.key", "--cert", work / "foreign.crt",
                    "--output", foreign, unsigned)
    with Swapped(machine, with_uki(bench, machine, "control", uki, "redoubt_9.efi")):
        machine.start()
        await_ready(machine)
    for name, path in (("unsigned", unsigned), ("foreign", foreign)):
        with Swapped(machine, with_uki(bench, machine, name, path, "redoubt_9.efi")):
            machine.start(reboot=False)
            machine.await_text(REFUSED, BOOT_TIMEOUT_S)
            time.sleep(20)
            if "Linux version" in machine.said or "systemd[1]" in machine.said:
                raise Failed(f"an {name} UKI has started a kernel")


def new_tpm(machine):
    """A TPM that has never seen this machine's disk."""
    folder = machine.folder / "other-tpm"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def await_maintenance(machine):
    """Starts the machine; its data do not open, and it asks what to do."""
    machine.start()
    machine.await_text(MAINTENANCE, BOOT_TIMEOUT_S)
    time.sleep(10)


def recover(machine, recovery_key):
    """Types what opens the data of a machine in maintenance mode."""
    machine.type("1\n")
    time.sleep(3)
    machine.type(recovery_key + "\n")


def foreign_tpm(bench, machine, recovery_key):
    """A disk in another machine does not open; with the recovery key it does, and stays so."""
    with Swapped(machine, tpm=new_tpm(machine)):
        await_maintenance(machine)
        machine.screen(bench.folder / "maintenance.png")
        if workstation.is_ready(machine.port):
            raise Failed("it serves")
        recover(machine, recovery_key)
        await_ready(machine)
        machine.cut_power()
        machine.start()
        await_ready(machine)
    # The disk comes home: there the TPM does not give the key away any more.
    await_maintenance(machine)
    recover(machine, recovery_key)
    await_ready(machine)


def records_out(bench, machine, people):
    """A stick that carries the authority's return label gets records, which verify; one without is
    not written to, not by a bit."""
    def said_since(start, pattern):
        machine.await_(pattern, lambda: re.search(pattern, machine.said[start:]), ACT_TIMEOUT_S)

    labelled = workstation.make_stick(bench.tools, machine.folder / "label.img",
                                      [bench.walk / "label/return-label.json"])
    before = workstation.digest(labelled)
    start = len(machine.said)
    machine.plug(labelled, "label")
    said_since(start, r"Records are on the stick, in records/site-[0-9a-f]+-\d+")
    said_since(start, r"redoubt-return@\w+\.service: Deactivated|Stopped redoubt-return@")
    machine.unplug("label")
    if workstation.digest(labelled) == before:
        raise Failed("the stick is as it was")
    folder = workstation.read_stick(bench.tools, labelled, "records", machine.folder / "records")
    made = list(folder.iterdir())
    if len(made) != 1 or made[0].name.endswith(".part"):
        raise Failed(f"not one whole folder of records: {made}")
    site = people.described()
    key = machine.folder / "site-key.txt"
    key.write_text(site["public_key"])
    verify = [bench.programs / "redoubt", "audit", "verify", "--folder", made[0], "--site-key", key]
    verified = workstation.run(*verify)
    entries = made[0] / "entries.jsonl"
    lines = entries.read_text().splitlines()
    bench.figure("entries of the audit log that left", len(lines))
    if site["site"] not in verified or "nothing is wrong" not in verified:
        raise Failed(f"audit verify: {verified}")
    if "with the return label walk" not in lines[-1] or "export" not in lines[-1]:
        raise Failed(f"that they leave is not the last entry: {lines[-1]}")
    entries.write_text(entries.read_text().replace("redoubt", "redOubt", 1))
    workstation.run(*verify, ok=False)

    plain = workstation.make_stick(bench.tools, machine.folder / "plain.img",
                                   [write(machine.folder / "holiday.txt", "sun")])
    before = workstation.digest(plain)
    start = len(machine.said)
    machine.plug(plain, "plain")
    said_since(start, "no return label")
    said_since(start, r"redoubt-medium@\w+\.service: Deactivated|Stopped redoubt-medium@")
    # Whoever would write begins right after that.
    time.sleep(10)
    machine.unplug("plain")
    if re.search("Start(ing|ed) redoubt-(records|return)@", machine.said[start:]):
        raise Failed("somebody wanted to write to a stick without a label")
    if workstation.digest(plain) != before:
        raise Failed("a stick without a label was written to")


def bad_update(bench, machine, people):
    """An image that does not come up is given up after three tries; the data are as before."""
    item = import_image(bench, machine, people, "bad", 3)
    began = time.monotonic()
    people.agree("activate", item)
    machine.await_("the box goes down", lambda: not workstation.is_ready(machine.port),
                   ACT_TIMEOUT_S)
    machine.await_("the old image serves", lambda: workstation.is_ready(machine.port),
                   4 * BOOT_TIMEOUT_S)
    bench.figure("bad image activated to the old one ready again, s",
                 round(time.monotonic() - began, 1))
    panics = machine.said.count("Kernel panic")
    if panics != 3:
        raise Failed(f"{panics} tries, not 3")
    if people.ask(bench.python, "walk", "Reverse the word lantern.") != ANSWER:
        raise Failed("the model's answer has changed")
    if item in people.status():
        raise Failed(f"{item} is still said to be active")


def unfit_update(bench, machine, people):
    """An image that comes up and does not answer as it should restarts by itself until its tries are
    over; then the one before serves, and the data are as they were."""
    item = import_image(bench, machine, people, "unfit", 4)
    restarts = machine.said.count("starting Boot0")
    began = time.monotonic()
    people.agree("activate", item)
    machine.await_("three tries, and the image before",
                   lambda: machine.said.count("starting Boot0") >= restarts + 4,
                   5 * BOOT_TIMEOUT_S)
    machine.await_("the old image serves", lambda: workstation.is_ready(machine.port)
                   and runs(people, 2), BOOT_TIMEOUT_S)
    bench.figure("unfit image activated to the old one ready again, s",
                 round(time.monotonic() - began, 1))
    if people.ask(bench.python, "walk", PROMPT) != ANSWER:
        raise Failed("the model's answer has changed")
    if item in people.status():
        raise Failed(f"{item} is still said to be active")


def old_image_put_back(bench, machine, recovery_key):
    """The image before, signed by the owner, put back by hand: it boots, and opens nothing."""
    disk = with_uki(bench, machine, "old", bench.images / "redoubt_1.efi", "redoubt_9.efi")
    with Swapped(machine, disk):
        raw = machine.disk.with_name("old.raw")
        bench.tools.run("qemu-img", "convert", "-O", "raw", disk, raw)
        root = next(bench.images.glob("redoubt_1.root.*.raw"))
        verity = next(bench.images.glob("redoubt_1.root-verity.*.raw"))
        put_slot(bench, raw, root, verity)
        bench.tools.run("qemu-img", "convert", "-O", "qcow2", raw, disk)
        raw.unlink()
        await_maintenance(machine)
        if workstation.is_ready(machine.port):
            raise Failed("it serves")
        # It is the TPM alone that refuses.
        recover(machine, recovery_key)
        await_ready(machine)
    machine.start()
    await_ready(machine)


def told_image(bench, machine):
    """A credential beside the image, on the boot partition, is measured: the data do not open."""
    machine.cut_power()
    raw, disk = (machine.disk.with_name(f"told.{end}") for end in ("raw", "qcow2"))
    bench.tools.run("qemu-img", "convert", "-O", "raw", machine.disk, raw)
    credential = write(machine.folder / "redoubt.cred", "told\n")
    bench.tools.run("mmd", "-D", "s", "-i", f"{raw}{ESP_AT}", "::loader/credentials")
    bench.tools.run("mcopy", "-i", f"{raw}{ESP_AT}", credential, "::loader/credentials/")
    bench.tools.run("qemu-img", "convert", "-O", "qcow2", raw, disk)
    raw.unlink()
    with Swapped(machine, disk):
        await_maintenance(machine)
        if workstation.is_ready(machine.port):
            raise Failed("it serves")
    machine.start()
    await_ready(machine)


def put_slot(bench, raw, root, verity):
    """Writes an image's partitions into the slot that has its names, or another one."""
    for path, kind in ((root, "root"), (verity, "root-verity")):
        uuid = path.name.split(".")[-2]
        listed = json.loads(bench.tools.run("sfdisk", "--json", raw))["partitiontable"]
        names = {"root": ("redoubt_1", "_empty"), "root-verity": ("redoubt_1_verity", "_empty")}
        number, entry = next(
            (i, e) for i, e in enumerate(listed["partitions"], 1)
            if e.get("name") in names[kind] and is_kind(e, kind))
        with open(raw, "r+b") as disk, open(path, "rb") as file:
            disk.seek(entry["start"] * 512)
            shutil.copyfileobj(file, disk)
        dashed = "-".join((uuid[:8], uuid[8:12], uuid[12:16], uuid[16:20], uuid[20:]))
        bench.tools.run("sfdisk", "--part-uuid", raw, number, dashed)


def is_kind(entry, kind):
    types = {"root": "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
             "root-verity": "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5"}
    return entry["type"].upper() == types[kind]


def frames(path):
    """Frames of a capture (pcap)."""
    data = path.read_bytes()
    at = 24
    while at + 16 <= len(data):
        length = struct.unpack_from("<I", data, at + 8)[0]
        yield data[at + 16:at + 16 + length]
        at += 16 + length


def sticks_not_read(bench, machine):
    """Of a stick that is not read the box says why: one of another kind, one of none, and one that
    was pulled out while it was written to, which is not mended."""
    def partition(name, kind=None, *features):
        image = machine.folder / f"{name}.img"
        image.unlink(missing_ok=True)
        with open(image, "wb") as file:
            file.truncate(64 << 20)
        bench.tools.run("sfdisk", "--quiet", image, input="start=2048, type=83\n")
        if kind:
            at = ["-E", "offset=1048576", image, "32M"]
            bench.tools.run("mke2fs", "-q", "-t", kind, *at)
        for feature in features:
            bench.tools.run("debugfs", "-w", "-R", f"feature {feature}", f"{image}?offset=1048576")
        return image

    for name, made, said in [
            ("ext2", ("ext2",), r"has 'ext2' on it, which is not read here"),
            ("empty", (), r"has no file system"),
            ("cut-off", ("ext4", "needs_recovery"), r"\(ext4\) is damaged, or was pulled out"),
    ]:
        stick = partition(name, *made)
        before, start = workstation.digest(stick), len(machine.said)
        machine.plug(stick, name)
        machine.await_(said, lambda: re.search(said, machine.said[start:]), ACT_TIMEOUT_S)
        machine.unplug(name)
        if workstation.digest(stick) != before:
            raise Failed(f"the stick '{name}' was written to")


def silence(bench, machine, people):
    """With a given address nothing leaves but ARP for replies, and replies."""
    machine.cut_power()
    capture = machine.folder / "capture.pcap"
    capture.unlink(missing_ok=True)
    machine.start("-object", f"filter-dump,id=dump,netdev=net,file={capture}")
    await_ready(machine)
    people.ask(bench.python, "walk", "Reverse the word lantern.")
    machine.cut_power()
    sent, replies = [], 0
    for frame in frames(capture):
        if not frame[6:9] == b"\x52\x54\x00":
            continue
        kind = struct.unpack_from(">H", frame, 12)[0]
        # An answer, or the question for whom an answer goes to; not for its own address.
        asked = frame[38:42]
        if kind == wire.ARP and (frame[20:22] == b"\0\2" or asked == GATEWAY):
            continue
        if kind == wire.IPV4 and frame[23] == wire.TCP:
            head = 14 + 4 * (frame[14] & 15)
            port, flags = struct.unpack_from(">H", frame, head)[0], frame[head + 13]
            if port == 443 and not (flags & wire.SYN and not flags & wire.ACK):
                replies += 1
                continue
        sent.append(frame[:64].hex())
    bench.figure("frames sent in replies, the control", replies)
    if replies == 0:
        raise Failed("the capture has no replies: it shows nothing")
    if sent:
        raise Failed(f"{len(sent)} frames left by themselves: {sent[:3]}")
    machine.start()
    await_ready(machine)


def silence_v6(bench):
    """The same with an IPv6 address: nothing leaves by itself, and a neighbour is answered."""
    people = workstation.Workstation(bench.folder / "v6-people", bench.programs, 0)
    settings = SETTINGS.replace(ADDRESS, f"{ADDRESS_V6}/64") + people.make_keys()
    machine = bench.machine("v6", bench.disk("v6", settings=settings))
    cable = wire.Wire()
    machine.start(network=cable.network, port=False)
    machine.await_(SERVES, lambda: cable.listen(1) or re.search(SERVES, machine.said),
                   BOOT_TIMEOUT_S)
    cable.listen(20)
    sent, cable.heard = cable.heard, []
    for _ in range(3):
        cable.send(wire.solicit(ADDRESS_V6))
        cable.listen(2)
    machine.screen(bench.folder / "tty1-v6.png")
    shown = machine.screen_text()
    machine.cut_power()
    answers = sum(map(wire.is_advertised, cable.heard))
    bench.figure("answers to a neighbour, the control", answers)
    if answers == 0:
        raise Failed("nobody answers: the cable shows nothing")
    if sent:
        raise Failed(f"{len(sent)} frames left by themselves: {[s[:80].hex() for s in sent[:3]]}")
    if f"https://[{ADDRESS_V6}]" not in shown:
        raise Failed(f"the screen does not say the address: {shown}")


def nothing_else_listens(bench, machine):
    """Of all ports of TCP and UDP, one answers."""
    cable = wire.Wire()
    machine.cut_power()
    machine.start(network=cable.network, port=False)
    machine.await_(SERVES, lambda: cable.listen(1) or re.search(SERVES, machine.said),
                   BOOT_TIMEOUT_S)
    address = ADDRESS.split("/")[0]
    found = cable.scan(address, wire.syn)
    if found != [(wire.TCP, 443, wire.SYN | wire.ACK)]:
        raise Failed(f"TCP: {found} answered, not port 443 alone")
    # The handshake that was left open is asked for again.
    found = [answer for answer in cable.scan(address, wire.datagram) if answer[0] != wire.TCP]
    if found:
        raise Failed(f"UDP: {found} answered")
    bench.figure("ports that answer, of 65,535 of TCP and as many of UDP", "443/tcp")
    machine.cut_power()
    machine.start()
    await_ready(machine)


def no_traces(bench):
    """Nothing of where packages came from, no way to log in, in the image's root."""
    root = bench.folder / "root"
    shutil.rmtree(root, ignore_errors=True)
    image = next(bench.images.glob("redoubt_2.root.*.raw"))
    bench.tools.run("fsck.erofs", f"--extract={root}", image)
    initrd = bench.folder / "initrd"
    shutil.rmtree(initrd, ignore_errors=True)
    initrd.mkdir()
    unpack_initrd(bench, initrd)
    hosts = {line.split("/")[2] for line in bench.sources.splitlines() if "://" in line}
    names = set()
    for path in [*root.rglob("*"), *initrd.rglob("*")]:
        if path.parent.name in ("bin", "sbin", "system-generators", "systemd"):
            names.add(path.name)
        if not path.is_file() or path.is_symlink():
            continue
        data = path.read_bytes()
        for host in hosts:
            if host.encode() in data:
                raise Failed(f"{host} is in {path}")
    if not {"systemd-cryptsetup", "mount", "systemd-fstab-generator"} <= names:
        raise Failed("nothing was looked at")
    found = names & {"sh", "bash", "dash", "busybox", "agetty", "sulogin", "login", "su", "dpkg", "apt",
                     "perl", "python3", "systemd-debug-generator"}
    if found:
        raise Failed(f"in the root or the initrd there are {sorted(found)}")
    shadow = (root / "etc/shadow").read_text()
    for line in shadow.splitlines():
        if not re.match(r"^[^:]+:[!*]", line):
            raise Failed(f"somebody may log in: {line}")
    shutil.rmtree(root)
    shutil.rmtree(initrd)


def unpack_initrd(bench, folder):
    """The initrd of an image's UKI: archives, some compressed, one after the other."""
    uki, packed = bench.images / "redoubt_2.efi", folder / "packed"
    bench.tools.run("objcopy", "-O", "binary", "--only-section=.initrd", uki, packed)
    data, at, count = packed.read_bytes(), 0, 0
    while at < len(data):
        # Archives begin at words of four; what fills up is zeros.
        if data[at] == 0:
            at += 1
            continue
        is_packed = data[at:at + 4] == ZSTD
        part = folder / f"part{count}"
        part.write_bytes(data[at:])
        if is_packed:
            bench.tools.run("sh", "-c", f"cd {folder} && zstd -dcq part{count} | cpio -id --quiet")
            break
        said = bench.tools.run("sh", "-c", f"cd {folder} && cpio -id <part{count} 2>&1")
        at += 512 * int(re.search(r"(\d+) block", said).group(1))
        part.unlink()
        count += 1
    for left in [packed, *folder.glob("part*")]:
        left.unlink(missing_ok=True)


def factory_reset(bench, machine, people, cut=False):
    """Two operators end the site: they have its record, and the box comes back empty, from the
    site.toml of its ESP, with another identity, key and codes. `cut`: the power fails after the
    answer and before the keys are destroyed."""
    site, recovery_key = people.site(), people.recovery_key
    others = {site, people.fingerprint, recovery_key}
    restarts = machine.said.count("starting Boot0")
    failures = len(re.findall(MAINTENANCE, machine.said))
    began = time.monotonic()
    people.agree("factory-reset", site)
    if cut:
        machine.cut_power()
        machine.start()
        restarts, failures = 1, 0
    # With the box out of the way.
    people.operator("check-reset", f"{site}.reset", "--site", site)
    changed = people.folder / "changed.reset"
    record = (people.folder / f"{site}.reset").read_text()
    changed.write_text(record.replace('"asked_by":{"name":"anna"', '"asked_by":{"name":"carl"'))
    people.operator("check-reset", changed.name, "--site", site, ok=False)
    # Once the keys are destroyed, and once the partition is made anew.
    machine.await_("the box restarts twice",
                   lambda: machine.said.count("starting Boot0") >= restarts + 2, 3 * BOOT_TIMEOUT_S)
    machine.await_("the empty box is ready", lambda: workstation.is_ready(machine.port),
                   BOOT_TIMEOUT_S)
    bench.figure("factory reset agreed on to the empty box ready, s",
                 round(time.monotonic() - began, 1))
    if len(re.findall(MAINTENANCE, machine.said)) > failures:
        raise Failed("a factory reset has led to maintenance mode")
    fingerprint, codes = board(machine)
    people.recovery_key = shown_recovery_key(machine)
    people.forget()
    people.enrol(fingerprint, codes)
    if others & {people.site(), people.fingerprint, people.recovery_key}:
        raise Failed(f"the box has kept something of {site}")
    status = people.status()
    if "walk" in status or not runs(people, 2):
        raise Failed(f"this is no empty box of image 2: {status}")
    people.make_api_key()
    if people.ask(bench.python, DRILL, PROMPT) != ANSWER:
        raise Failed("the drill model's answer has changed")


def erased_in_maintenance(bench, machine, people):
    """Whoever stands before a box whose data do not open may erase them, by a word that is typed as
    it stands there: the box begins anew, and keeps nothing."""
    with Swapped(machine, tpm=new_tpm(machine)):
        await_maintenance(machine)
        began = time.monotonic()
        for word in ("erase", "ERASE"):
            machine.type("2\n")
            time.sleep(3)
            machine.type(f"{word}\n")
            time.sleep(3)
        await_ready(machine, 3 * BOOT_TIMEOUT_S)
        bench.figure("erased in maintenance mode to the empty box ready, s",
                     round(time.monotonic() - began, 1))
        fingerprint, codes = board(machine)
        if fingerprint == people.fingerprint:
            raise Failed("the box has kept its key")
        people.forget()
        people.enrol(fingerprint, codes)
        people.make_api_key()
        if people.ask(bench.python, DRILL, PROMPT) != ANSWER:
            raise Failed("the drill model's answer has changed")


def power_cuts(bench, machine):
    """Of machines of its own; this one would take half of the processor meanwhile."""
    machine.cut_power()
    prefixes.power_cuts(bench)
    machine.start()
    await_ready(machine)


def campaign(bench, machine, people, trial):
    """All of it, on a machine that has been updated to image 2."""
    trial("nothing of the mirror, nobody who logs in", lambda: no_traces(bench))
    trial("records out", lambda: records_out(bench, machine, people))
    trial("sticks that are not read", lambda: sticks_not_read(bench, machine))
    trial("silence on the network", lambda: silence(bench, machine, people))
    trial("silence on the network, IPv6", lambda: silence_v6(bench))
    trial("nothing else listens", lambda: nothing_else_listens(bench, machine))
    trial("unsigned and foreign UKIs", lambda: refused_ukis(bench, machine))
    trial("old image put back", lambda: old_image_put_back(bench, machine, people.recovery_key))
    trial("image that is told something", lambda: told_image(bench, machine))
    trial("power cuts at any write", lambda: power_cuts(bench, machine))
    trial("bad update", lambda: bad_update(bench, machine, people))
    trial("update that is not good", lambda: unfit_update(bench, machine, people))
    trial("foreign TPM, recovery key",
          lambda: foreign_tpm(bench, machine, people.recovery_key))
    trial("factory reset", lambda: factory_reset(bench, machine, people))
    trial("factory reset with a power cut",
          lambda: factory_reset(bench, machine, people, cut=True))
    trial("erased in maintenance mode", lambda: erased_in_maintenance(bench, machine, people))
