"""Owns how every engine is started, and what of a run is kept: its figures and its peak memory."""
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Engine:
    """A way to time a model: a program, then the file, then options and tests."""
    name: str
    program: tuple
    kinds: tuple
    options: tuple = ()
    takes_threads: bool = True

    def can(self, test):
        return test in self.kinds or test.rpartition("-")[0] in self.kinds


def known(programs):
    """All engines, ours first; `programs` is the folder of the compiled ones."""
    everything = ("first-token", "prefill", "decode", "streams")
    llama = (sys.executable, str(HERE / "llama.py"))
    mistral = (sys.executable, str(HERE / "mistral.py"))
    return [
        Engine("Redoubt", (str(programs / "steps"),), everything),
        Engine("llama.cpp", llama, everything, ("--repack", "yes")),
        Engine("llama.cpp, not repacked", llama, everything, ("--repack", "no")),
        Engine("candle", (str(programs / "peers"),), ("first-token", "prefill", "decode"),
               takes_threads=False),
        Engine("mistral.rs", mistral, ("prefill", "decode")),
    ]


def run(engine, model, threads, tests, clock):
    """({test: figure}, peak memory in MiB) of a process of its own; fewer where it failed."""
    asked = [test for test in tests if engine.can(test)]
    if not asked:
        return {}, None
    options = [*engine.options, "--clock", clock]
    if engine.takes_threads:
        options += ["--threads", str(threads)]
    environment = os.environ | {"RAYON_NUM_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen([*engine.program, str(model), *options, *asked], text=True,
                                   stdout=subprocess.PIPE, stderr=said, env=environment)
        lines = process.stdout.read().splitlines()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            said.seek(0)
            last = said.read().strip().splitlines()[-1:] or ["without a word"]
            print(f"{engine.name} failed on {model.name}: {last[0]}", file=sys.stderr)
    found = (line.split() for line in lines)
    figures = {words[0]: float(words[1]) for words in found if words and words[0] in asked}
    return figures, usage.ru_maxrss / 1024
