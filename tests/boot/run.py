"""Runs boot trials: run.py --tools TREE --folder FOLDER --images FOLDER --keys FOLDER
--programs FOLDER --walk FOLDER --python PYTHON [--all] [--only WORDS]. See scripts/boot-test.
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
    arguments.add_argument("--only", action="append", default=[], metavar="WORDS",
                           help="with --all, trials whose names have these words")
    given = arguments.parse_args()
    sources = subprocess.run([ROOT / "image/debian-sources", "main"], check=True,
                             capture_output=True, text=True).stdout
    bench = trials.Bench(Tools(given.tools, given.folder), given.folder, given.images, given.keys,
                         given.programs, given.walk, given.python, sources)
    try:
        done = trials.run(bench, given.all, given.only)
    except Failed as failure:
        print(f"FAILED: {failure}", file=sys.stderr)
        sys.exit(1)
    print("\n| trial | verdict | seconds | figures |\n|---|---|---|---|")
    for name, verdict, seconds, figures in done:
        shown = "; ".join(f"{figure}: {value}" for figure, value in figures)
        print(f"| {name} | {verdict} | {seconds} | {shown} |")
    failed = sum(verdict != "passed" for _, verdict, _, _ in done)
    print(f"{len(done) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
