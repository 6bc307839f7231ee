"""Owns the trials: what a box does when it is booted, attacked, updated and broken. Each has a
name, boots real images, and ends with a verdict; figures go beside it.
"""
import json
import re
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import workstation
from machine import Failed, Machine, Tools

BOOT_TIMEOUT_S = 600
ACT_TIMEOUT_S = 300
DISK = "10G"
ADDRESS = "10.0.2.15/24"
INSTALLER = "loader/addons/redoubt-install.addon.efi"
DRILL = "redoubt-drill"
CUTS_S = (1, 5, 12)
GOOD = "this image alone opens the data"
PROMPT, ANSWER = "Reverse the word lantern.", "nretnal"


@dataclass
class Bench:
    """What all trials share: images, keys, programs, and a folder for each trial."""
    tools: Tools
    folder: Path
    images: Path
    keys: Path
    programs: Path
    walk: Path
    python: Path
    sources: str
    figures: list = field(default_factory=list)
    machines: list = field(default_factory=list)

    def figure(self, name, value):
        self.figures.append((name, value))
        print(f"    {name}: {value}", flush=True)

    def image(self, version):
        return self.images / f"redoubt_{version}"

    def disk(self, name, version="1", settings=None):
        """A disk with an image, as the installer leaves it, with site.toml on its ESP."""
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        raw, disk = folder / "image.raw", folder / "disk.qcow2"
        subprocess.run(["cp", "--sparse=always", f"{self.image(version)}.raw", raw], check=True)
        self.tools.run("mdel", "-i", f"{raw}@@1M", f"::{INSTALLER}")
        if settings is not None:
            site = folder / "site.toml"
            site.write_text(settings)
            self.tools.run("mcopy", "-o", "-i", f"{raw}@@1M", site, "::site.toml")
        self.tools.run("qemu-img", "convert", "-O", "qcow2", raw, disk)
        raw.unlink()
        self.tools.run("qemu-img", "resize", disk, DISK)
        return disk

    def machine(self, name, disk):
        machine = Machine(self.tools, self.folder / name, disk)
        machine.enrol(self.keys)
        self.machines.append(machine)
        return machine

    def cut_power(self):
        """Ends every machine that still runs."""
        for machine in self.machines:
            machine.cut_power()


SETTINGS = f"format = 1\nhost_name = 'box-7'\naddress = '{ADDRESS}'\n" \
    "names = ['127.0.0.1']\n"


def await_ready(machine, timeout_s=BOOT_TIMEOUT_S):
    machine.await_("the box is ready", lambda: workstation.is_ready(machine.port), timeout_s)
    return machine.age_s()


def await_blessed(machine):
    machine.await_text("Finished systemd-bless-boot.service", ACT_TIMEOUT_S)


def board(machine):
    """(fingerprint, codes) off the screen."""
    def look():
        screen = machine.screen_text()
        codes = list(dict.fromkeys(re.findall(r"\b(?:[0-9A-Z]{4}-){4}[0-9A-Z]{4}\b", screen)))
        groups = re.search(r"fingerprint\s+((?:[0-9a-f]{4} ?){8})\s+((?:[0-9a-f]{4} ?){8})", screen)
        if len(codes) < 2 or not groups:
            return None
        return "".join(groups.group(1, 2)).replace(" ", "").strip(), codes[:2]
    return machine.await_("fingerprint and codes on the screen", look, ACT_TIMEOUT_S)


def shown_recovery_key(machine):
    """Off the screen, which shows it until both operators are enrolled."""
    def look():
        return re.search(r"\b([a-z]{8}(?:-[a-z]{8}){7})\b", machine.screen_text())
    return machine.await_("recovery key on the screen", look, ACT_TIMEOUT_S).group(1)


def first_boot(bench, variables=None):
    """From a fresh disk to the first answer; then what operators do, without a shell. `variables`:
    the firmware's, if they are not to be made here."""
    people = workstation.Workstation(bench.folder / "people", bench.programs, 0)
    settings = SETTINGS + people.make_keys()
    checked = workstation.run(bench.programs / "redoubt", "site", "check",
                              write(bench.folder / "site.toml", settings))
    if "anna, boris" not in checked:
        raise Failed(f"site check: {checked}")
    machine = bench.machine("first", bench.disk("first", settings=settings))
    if variables:
        shutil.copy(variables, machine.variables)
    machine.start()
    people.port = machine.port
    bench.figure("start to ready, first boot, s", round(await_ready(machine), 1))
    fingerprint, codes = board(machine)
    people.recovery_key = shown_recovery_key(machine)
    # The screen itself is drawn by another process than the port it is read from.
    time.sleep(5)
    machine.screen(bench.folder / "tty1.png")
    people.enrol(fingerprint, codes)
    people.make_api_key()
    answer = people.ask(bench.python, DRILL, PROMPT)
    bench.figure("start to first answer, operators enrolled by hand of a script, s",
                 round(machine.age_s(), 1))
    if answer != ANSWER:
        raise Failed(f"the drill model answered {answer!r}")
    await_blessed(machine)
    return machine, people


def trust(bench, people):
    """Both take the authority and the vendor."""
    people.agree("trust", str(bench.walk / "authority.root.json"), "--vendor",
                 str(bench.walk / "vendor.root.json"))


def stick_at_run_time(bench, machine, people):
    """A stick plugged in at run time is imported through the kernel's vfat; its model answers."""
    trust(bench, people)
    stick = workstation.make_stick(bench.tools, machine.folder / "stick.img",
                                   sorted((bench.walk / "model").iterdir()), partitioned=False)
    machine.plug(stick)
    machine.await_text(r"vendor/model/walk/1\.json is imported", ACT_TIMEOUT_S)
    machine.unplug()
    people.by("anna", "approve", "vendor/model/walk/1.json")
    people.agree("activate", "vendor/model/walk/1.json")
    answer = people.ask(bench.python, "walk", PROMPT)
    if answer != ANSWER:
        raise Failed(f"the model off the stick answered {answer!r}")


def await_updated(machine):
    """An image that was activated is written, started, serves, and is blessed; when it served."""
    machine.await_text(r"Starting redoubt-update\.service", BOOT_TIMEOUT_S)
    # A machine that restarts says that its firmware starts the loader.
    machine.await_("the box restarts", lambda: machine.said.count("starting Boot0") >= 2,
                   BOOT_TIMEOUT_S)
    machine.await_("the new image serves", lambda: workstation.is_ready(machine.port),
                   BOOT_TIMEOUT_S)
    served = time.monotonic()

    def is_blessed():
        return "Finished systemd-bless-boot.service" in machine.said.split("starting Boot0")[-1]
    machine.await_("the new image is blessed", is_blessed, ACT_TIMEOUT_S)
    return served


def import_image(bench, machine, people, folder, version):
    """An image travels as a bundle on a stick, and is approved; its name."""
    item = f"vendor/image/redoubt/{version}.json"
    stick = workstation.make_stick(bench.tools, machine.folder / f"{folder}.img",
                                   sorted((bench.walk / folder).iterdir()), size_mib=512)
    machine.plug(stick, folder)
    machine.await_text(re.escape(item) + " is imported", ACT_TIMEOUT_S)
    machine.unplug(folder)
    people.by("anna", "approve", item)
    return item


def update(bench, machine, people, cuts_s=()):
    """An image travels as a bundle on a stick, is written to the other slot, boots and is blessed;
    the site is the same as before. `cuts_s`: so long after the writing begins the power fails."""
    item = import_image(bench, machine, people, "image", 2)
    began = time.monotonic()
    people.agree("activate", item)
    for cut_s in cuts_s:
        machine.await_text(r"Starting redoubt-update\.service", BOOT_TIMEOUT_S)
        time.sleep(cut_s)
        machine.cut_power()
        machine.start()
    if cuts_s:
        # A cut may come after the whole update as well: what counts is what runs in the end.
        machine.await_("the new image serves", lambda: workstation.is_ready(machine.port)
                       and runs(people, 2), 2 * BOOT_TIMEOUT_S)
    else:
        served = await_updated(machine)
        bench.figure("activation of an image to ready again, s", round(served - began, 1))
    # Only the image itself is marked good by its box.
    machine.await_(f"{item} is marked good", lambda: any(
        "mark_good" in entry and item in entry for entry in people.log().split("index")),
        ACT_TIMEOUT_S)
    machine.await_("the data are closed to every other image",
                   lambda: GOOD in machine.said.split("starting Boot0")[-1], ACT_TIMEOUT_S)
    answer = people.ask(bench.python, "walk", PROMPT)
    if answer != ANSWER:
        raise Failed(f"after the update the model answered {answer!r}")


def runs(people, version):
    """Whether the box says that this image runs."""
    try:
        return bool(re.search(rf'"running": {version}\b', people.status()))
    except Failed:
        return False


def flipped_root(bench, machine):
    """A byte flipped in the root: the kernel panics, and does not serve."""
    machine.cut_power()
    disk = machine.disk.with_name("flipped.qcow2")
    raw = machine.disk.with_name("flipped.raw")
    bench.tools.run("qemu-img", "convert", "-O", "raw", machine.disk, raw)
    start = partition(bench, raw, "redoubt_2")
    with open(raw, "r+b") as file:
        # The superblock of erofs is at 1024: nothing is read before it.
        file.seek(start + 1024 + 64)
        byte = file.read(1)[0]
        file.seek(start + 1024 + 64)
        file.write(bytes([byte ^ 0xFF]))
    bench.tools.run("qemu-img", "convert", "-O", "qcow2", raw, disk)
    raw.unlink()
    kept, machine.disk = machine.disk, disk
    machine.start(reboot=False)
    machine.await_text(r"device-mapper: verity: .*corrupted|dm-verity device corrupted",
                       BOOT_TIMEOUT_S)
    machine.await_text(r"Kernel panic", ACT_TIMEOUT_S)
    if workstation.is_ready(machine.port):
        raise Failed("a box with a corrupted root serves")
    machine.cut_power()
    machine.disk = kept
    disk.unlink()


def partition(bench, raw, label):
    """Where a partition begins, bytes."""
    listed = bench.tools.run("sfdisk", "--json", raw)
    for entry in json.loads(listed)["partitiontable"]["partitions"]:
        if entry.get("name") == label:
            return entry["start"] * 512
    raise Failed(f"no partition {label} in {listed}")


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


class Trials:
    """What was tried, and how it ended. With `only`, trials whose names have none of these words
    are left out, but for those that others build on."""

    def __init__(self, bench, only=()):
        self.bench, self.only, self.done = bench, only, []
        # Brings things back to where the next trial begins, after one that failed.
        self.recover = bench.cut_power

    def __call__(self, name, act, is_needed=False):
        if self.only and not is_needed and not any(word in name for word in self.only):
            return None
        began, first = time.monotonic(), len(self.bench.figures)
        print(f"{name} ...", flush=True)
        made, verdict = None, "passed"
        try:
            made = act()
        except Exception as failure:  # A trial that broke has failed, whatever broke it.
            if is_needed:
                raise
            verdict = "FAILED"
            print(f"{name}: {failure!r}", flush=True)
        seconds = round(time.monotonic() - began)
        self.done.append((name, verdict, seconds, self.bench.figures[first:]))
        print(f"{name}: {verdict} after {seconds} s", flush=True)
        if verdict == "FAILED":
            self.recover()
        return made


def run(bench, everything, only=()):
    """The trials that run with every change, or all of them: (name, verdict, seconds, figures)."""
    import builds
    import campaign
    import installer

    trial = Trials(bench, only)
    try:
        machine, people = trial("first boot to the first answer", lambda: first_boot(bench), True)
        trial("stick at run time", lambda: stick_at_run_time(bench, machine, people), True)
        cuts_s = CUTS_S if everything and (not only or "power cuts" in only) else ()
        trial("update under power cuts" if cuts_s else "update",
              lambda: update(bench, machine, people, cuts_s), True)
        if everything:
            def recover():
                machine.cut_power()
                machine.start()
                await_ready(machine)
            trial.recover = recover
            campaign.campaign(bench, machine, people, trial)
            trial.recover = bench.cut_power
        trial("flipped byte in root", lambda: flipped_root(bench, machine))
    finally:
        bench.cut_power()
    if everything:
        installer.campaign(bench, trial)
        builds.campaign(bench, trial)
    return trial.done
