"""Runs boot trials: run.py --tools TREE --folder FOLDER --images FOLDER --keys FOLDER
--programs FOLDER --walk FOLDER --python PYTHON [--all]. See scripts/boot-test.
"""
import argparse
import subprocess
import sys
from pathlib import Path

import trials
from machine import ROOT, Failed, Tools


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    for name in ("tools", "folder", "images", "keys", "programs", "walk", "python"):
        arguments.add_argument(f"--{name}", type=Path, required=True)
    arguments.add_argument("--all", action="store_true", help="the whole campaign")
    given = arguments.parse_args()
    sources = subprocess.run([ROOT / "image/debian-sources", "main"], check=True,
                             capture_output=True, text=True).stdout
    bench = trials.Bench(Tools(given.tools, given.folder), given.folder, given.images, given.keys,
                         given.programs, given.walk, given.python, sources)
    try:
        done = trials.run(bench, given.all)
    except Failed as failure:
        print(f"FAILED: {failure}", file=sys.stderr)
        sys.exit(1)
    for name, verdict, seconds in done:
        print(f"{seconds:5} s  {verdict}  {name}")
    print(f"{len(done)} passed, 0 failed")


if __name__ == "__main__":
    main()
