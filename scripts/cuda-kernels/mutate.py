"""Makes mistakes in the CUDA kernels, one at a time, and fails where the tests do not notice one:

    mutate.py [--sample N --seed S] [--only WORDS]

Run in the repository, once the tests are built. Without --sample all of
appliance/compute/cu/mutations.toml.
"""
import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

SOURCES = Path("appliance/compute/cu")
TIMEOUT_S = 400


def mutated(mutation, folder):
    """A driver for tests whose kernels have the mistake."""
    copy = folder / "appliance/compute/cu"
    shutil.copytree(SOURCES, copy)
    path = copy / mutation["file"]
    text = path.read_text()
    if text.count(mutation["from"]) != 1:
        sys.exit(f"'{mutation['what']}': its text does not stand once in {mutation['file']}")
    path.write_text(text.replace(mutation["from"], mutation["to"]))
    shutil.copytree("scripts", folder / "scripts")
    # A mistake may leave something unused.
    environment = {**os.environ, "CARGO_TARGET_DIR": str(folder / "target"), "MOCK_CXXFLAGS": ""}
    subprocess.run([folder / "scripts/kernels", "--mock"], check=True, env=environment)
    return folder / "target/mock/libcuda.so.1"


def is_noticed(mutation, library):
    words = mutation["tests"]
    if shutil.which("cargo-nextest"):
        command = ["cargo", "nextest", "run", "--workspace", "--locked", "--no-fail-fast",
                   "--no-tests=fail", "-E", f"binary(cuda) and test({words})"]
        fails_with, says = 100, ""
    else:
        command = ["cargo", "test", "--workspace", "--locked", "--test", "cuda", "--", words]
        fails_with, says = 101, "test result: FAILED"
    done = subprocess.run(command, env={**os.environ, "MOCK_CUDA_LIBRARY": str(library)},
                          capture_output=True, text=True, timeout=TIMEOUT_S)
    if done.returncode == 0:
        return False
    if done.returncode != fails_with or says not in done.stdout:
        sys.exit(f"the tests do not run:\n{done.stderr[-2000:]}")
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=int, help="so many, drawn")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="those whose description has these words")
    given = parser.parse_args()
    mutations = tomllib.loads((SOURCES / "mutations.toml").read_text())["mutation"]
    chosen = [mutation for mutation in mutations if given.only in mutation["what"]]
    if given.sample:
        chosen = random.Random(given.seed).sample(chosen, given.sample)
    unnoticed = 0
    for mutation in chosen:
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            noticed = is_noticed(mutation, mutated(mutation, Path(folder)))
        unnoticed += not noticed
        verdict = "noticed" if noticed else "NOT NOTICED"
        print(f"{verdict}, {time.monotonic() - began:.0f} s: {mutation['what']} "
              f"({mutation['file']}, {mutation['tests']})", flush=True)
    print(f"{len(chosen) - unnoticed} of {len(chosen)} mistakes noticed")
    sys.exit(1 if unnoticed else 0)


if __name__ == "__main__":
    main()
