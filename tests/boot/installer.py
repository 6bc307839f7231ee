"""Owns the trials of the installer: an image on a stick, an empty machine, and what somebody types
there. Each leaves a machine's own disk as a person would have it after that.
"""
import json
import os
import shutil
import subprocess
import time

import workstation
from machine import Failed, Machine
from trials import ACT_TIMEOUT_S, BOOT_TIMEOUT_S, DISK, SETTINGS, await_ready, board, write

STICK_BYTES = 6 << 30
ASKS = r"the installer asks what to install on"
INSTALLED = r"installed; the machine restarts when the stick is pulled out"
CUTS_S = (2, 8, 20, 40)
# How long a disk is watched that must not start.
SILENT_S = 90


def make_stick(bench, name, settings):
    """The image on a stick, as dd writes it, with a site.toml or without."""
    raw = bench.folder / name
    subprocess.run(["cp", "--sparse=always", f"{bench.image('1')}.raw", raw], check=True)
    os.truncate(raw, STICK_BYTES)
    if settings is not None:
        site = write(bench.folder / f"{name}.toml", settings)
        bench.tools.run("mcopy", "-o", "-i", f"{raw}@@1M", site, "::site.toml")
    return raw


def plugged(stick):
    """The stick is in when the machine starts, and is what the firmware starts."""
    return ("-drive", f"if=none,id=stick,file={stick},format=raw,cache=unsafe",
            "-device", "usb-storage,bus=usb.0,drive=stick,id=usb-stick,removable=on,bootindex=0")


def empty_machine(bench, name):
    folder = bench.folder / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    disk = folder / "disk.qcow2"
    bench.tools.run("qemu-img", "create", "-f", "qcow2", disk, DISK)
    machine = Machine(bench.tools, folder, disk)
    machine.enrol(bench.keys)
    return machine


def install(bench, machine, stick, *words):
    """Starts the stick, types what it asks for, pulls it out; the machine restarts by itself."""
    machine.start(*plugged(stick))
    machine.await_text(ASKS, BOOT_TIMEOUT_S)
    for word in words:
        time.sleep(5)
        machine.screen(machine.folder / "installer.png")
        machine.type(word + "\n")
    machine.await_text(INSTALLED, BOOT_TIMEOUT_S)
    machine.unplug()
    machine.await_("the machine restarts", lambda: machine.said.count("starting Boot0") >= 2,
                   ACT_TIMEOUT_S)
    await_ready(machine)


def check_stick(bench, stick):
    """Nothing was added to the stick."""
    listed = json.loads(bench.tools.run("sfdisk", "--json", stick))["partitiontable"]
    names = [entry.get("name") for entry in listed["partitions"]]
    if "redoubt-data" in names or len(names) != 5:
        raise Failed(f"the stick has {names}")


def without_settings(bench):
    """A stick without site.toml, or with a bad one, says so and writes nothing."""
    machine = empty_machine(bench, "refused")
    untouched = machine.folder / "untouched.qcow2"
    shutil.copy(machine.disk, untouched)
    for settings, says in ((None, r"there is no site\.toml on the stick"),
                           (SETTINGS.replace("box-7", "box_7"), r"'host_name' is 'box_7'")):
        stick = make_stick(bench, "refused.img", settings)
        try:
            machine.start(*plugged(stick))
            machine.await_text(says, BOOT_TIMEOUT_S)
            machine.screen(machine.folder / "installer.png")
        finally:
            machine.cut_power()
        bench.tools.run("qemu-img", "compare", machine.disk, untouched)
        check_stick(bench, stick)
        stick.unlink()


def from_stick(bench):
    """From a stick to a box that serves: one word is typed. Then the image is written anew, and the
    box is the same as before."""
    stick = make_stick(bench, "installer.img", SETTINGS)
    machine = empty_machine(bench, "installed")
    began = time.monotonic()
    try:
        install(bench, machine, stick, "INSTALL")
        bench.figure("stick to a box that serves, s", round(time.monotonic() - began, 1))
        fingerprint, _ = board(machine)
        workstation.certificate(machine.port, fingerprint, machine.folder / "box.pem")
        check_stick(bench, stick)
        machine.cut_power()
        install(bench, machine, stick, "KEEP")
        again, _ = board(machine)
        if again != fingerprint:
            raise Failed(f"the data did not stay: {fingerprint} before, {again} after")
    finally:
        machine.cut_power()
    stick.unlink()


def under_power_cuts(bench):
    """A disk that was cut off while it was written starts nothing; the next try ends well."""
    stick = make_stick(bench, "cuts.img", SETTINGS)
    machine = empty_machine(bench, "cuts")
    try:
        for cut_s in CUTS_S:
            machine.start(*plugged(stick))
            machine.await_text(ASKS, BOOT_TIMEOUT_S)
            time.sleep(5)
            # Whichever of the two is not asked for changes nothing.
            machine.type("ERASE\n")
            time.sleep(2)
            machine.type("INSTALL\n")
            time.sleep(cut_s)
            is_whole = "installed; the machine" in machine.said
            machine.cut_power()
            machine.start()
            end = time.monotonic() + SILENT_S
            while time.monotonic() < end and not is_whole:
                if "systemd[1]" in machine.said and not workstation.is_ready(machine.port):
                    # The boot partition is there, so everything is: it must come up.
                    is_whole = True
                time.sleep(1)
            if is_whole:
                await_ready(machine)
            machine.cut_power()
        install(bench, machine, stick, "ERASE", "INSTALL")
    finally:
        machine.cut_power()
    stick.unlink()


def campaign(bench, trial):
    """All of it."""
    trial("installer without settings", lambda: without_settings(bench))
    trial("from a stick to a box that serves, twice", lambda: from_stick(bench))
    trial("installer under power cuts", lambda: under_power_cuts(bench))
