"""Owns the trials of image/build itself: what it makes is the same twice, and boots where the keys
are on a token. Run by hand, scripts/boot-test --all.
"""
import dataclasses
import os
import shutil
import subprocess
import time

from machine import ROOT, Failed
from trials import ANSWER, PROMPT, first_boot
from workstation import digest

BUILD_TIMEOUT_S = 1800
LIBRARY = "/usr/lib/softhsm/libsofthsm2.so"
LABEL, PIN, OFFICER_PIN = "owner", "4711-secret", "4712-secret"
FURTHER = "further"
# What is in the drill model's file, and what makes it a file that no card knows.
TITLE, OTHER_TITLE = b"Redoubt drill model", b"Redoubt extra model"


def run(log, *command, **environment):
    """Runs one of the project's commands; what it says goes into the log."""
    with open(log, "ab") as said:
        done = subprocess.run([str(part) for part in command], stdout=said, stderr=said,
                              env={**os.environ, **environment}, timeout=BUILD_TIMEOUT_S)
    if done.returncode != 0:
        raise Failed(f"{command[:3]} failed:\n{log.read_text(errors='replace')[-3000:]}")


def same_twice(bench):
    """Two images, built anew, the program too, are the same to the bit."""
    made = []
    for name in ("one", "two"):
        out = bench.folder / name
        began = time.monotonic()
        target = bench.folder / f"target-{name}"
        run(bench.folder / "builds.log", ROOT / "image/build", "--clean", "--keys", bench.keys,
            "--out", out, CARGO_TARGET_DIR=str(target))
        bench.figure(f"clean build {name}, packages fetched before, s",
                     round(time.monotonic() - began, 1))
        shutil.rmtree(target)
        made.append({path.name: digest(path) for path in out.iterdir()})
        if name == "one":
            packed = bench.folder / "disk.zst"
            bench.tools.run("zstd", "-3", "-q", "-f", out / "redoubt_1.raw", "-o", packed)
            bench.figure("disk as zstd -3, MB", round(packed.stat().st_size / 1e6, 1))
            packed.unlink()
        shutil.rmtree(out)
    one, two = made
    differ = sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))
    if differ:
        raise Failed(f"two builds differ in {differ}")
    bench.figure("files that are the same", len(one))


def keys_on_a_token(bench):
    """Keys that never leave a PKCS#11 token sign an image with a further model in it; a machine on
    which they are enrolled boots it, opens its data, and both models answer."""
    folder = bench.folder / "token"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "objects").mkdir(parents=True)
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder}/objects\n"
                                          "objectstore.backend = file\n")
    (folder / "pin").write_text(PIN + "\n")
    log, where = folder / "log", {"SOFTHSM2_CONF": str(folder / "softhsm2.conf")}
    run(log, "softhsm2-util", "--init-token", "--free", "--label", LABEL, "--pin", PIN,
        "--so-pin", OFFICER_PIN, **where)
    drill, further = ROOT / "models/drill/drill.gguf", folder / f"{FURTHER}.gguf"
    further.write_bytes(drill.read_bytes().replace(TITLE, OTHER_TITLE))
    keys, enrolled, images = folder / "keys", folder / "enrolment", folder / "images"
    for command in (
            ["firmware-config/make-keys", keys, "--token", LABEL],
            ["firmware-config/enrolment", keys, enrolled],
            ["image/build", "--test", "--keys", keys, "--program", bench.programs / "redoubt",
             "--model", further, "--out", images]):
        run(log, ROOT / "firmware-config/with-token", LIBRARY, "--pin-file", folder / "pin",
            ROOT / command[0], *command[1:], **where)
    private = [path.name for path in keys.iterdir() if path.suffix == ".key"]
    if private or PIN.encode() in log.read_bytes():
        raise Failed(f"the token's secrets are about: {private or 'the PIN is in the log'}")
    own = dataclasses.replace(bench, folder=folder, images=images, keys=keys)
    machine, people = first_boot(own, variables=enrolled / "variables.fd")
    answer = people.ask(bench.python, FURTHER, PROMPT)
    if answer != ANSWER:
        raise Failed(f"the further model answered {answer!r}")
    machine.cut_power()


def campaign(bench, trial):
    """Both; they need no machine of others."""
    trial("image built twice is the same", lambda: same_twice(bench))
    trial("image signed by keys on a token", lambda: keys_on_a_token(bench))
