"""Times Redoubt and its peers in turn on the same files, and prints medians, ratios and shares of
what the machine can do; scripts/bench-cpu runs it.
"""
import argparse
import re
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import gguf

import engines

# The head of a model of which the embedding is used twice.
EMBEDDING = "token_embd.weight"
HEAD = "output.weight"


@dataclass(frozen=True)
class Plan:
    """What is timed on one file with one number of threads."""
    model: str
    threads: int
    tests: tuple


DEPTHS = ("decode-16", "decode-512", "decode-4096")
STREAMS = ("streams-4", "streams-8", "streams-16")
PLANS = [
    Plan("llama-1b-q4_k_m", 1, DEPTHS[:2]),
    Plan("qwen3-0.6b-q8_0", 1, DEPTHS[:2]),
    Plan("llama-1b-q4_k_m", 2, ("prefill-128", "prefill-512", *DEPTHS, *STREAMS)),
    Plan("qwen3-0.6b-q8_0", 2, ("prefill-128", "prefill-512", *DEPTHS[:2], *STREAMS)),
    Plan("qwen3-4b-q4_k_m", 2, ("first-token", "prefill-512", "decode-16")),
    Plan("smollm2", 2, ("prefill-512", "decode-16")),
]
MEMORY = Plan("llama-1b-q4_k_m", 2, ("first-token", "decode-16"))


class Work:
    """What one token costs: bytes of weights read, and operations without the head's."""

    def __init__(self, path):
        reader = gguf.GGUFReader(path)
        matrices = {t.name: t for t in reader.tensors if len(t.shape) > 1}
        is_tied = HEAD not in matrices
        read = [t for name, t in matrices.items() if name != EMBEDDING or is_tied]
        self.bytes = sum(int(t.n_bytes) for t in read)
        self.operations = sum(2 * int(t.n_elements) for name, t in matrices.items()
                              if name not in (EMBEDDING, HEAD))


class Machine:
    """What memory and integer products can do at most, by the program `kernels`."""

    def __init__(self, programs, threads):
        said = subprocess.run([programs / "kernels", "--limits", str(threads)], check=True,
                              capture_output=True, text=True).stdout
        self.read = 1e9 * float(re.search(r"read at ([\d.]+) GB/s", said)[1])
        self.products = 1e9 * float(re.search(r": (\d+) Gop/s", said)[1])

    def limit(self, test, work):
        """Tokens per second that nothing can exceed, or None where there is no such bound."""
        if test.startswith("prefill"):
            return self.products / work.operations
        return self.read / work.bytes if test.startswith("decode") else None


def rounds(plan, path, chosen, given):
    """{engine: {test: [figures]}}, engine after engine in every round, each round from another on."""
    found = {engine.name: {} for engine in chosen}
    for number in range(1, given.rounds + 1):
        first = number % len(chosen)
        for engine in chosen[first:] + chosen[:first]:
            figures, mib = engines.run(engine, path, plan.threads, plan.tests, given.clock)
            for test, figure in [*figures.items(), ("MiB", mib)] if figures else []:
                found[engine.name].setdefault(test, []).append(figure)
            shown = ", ".join(f"{test} {figure:g}" for test, figure in figures.items())
            print(f"  round {number}, {engine.name}: {shown}", file=sys.stderr, flush=True)
    return found


def medians(found, test):
    """{engine: median} of those that have the test."""
    return {name: statistics.median(tests[test]) for name, tests in found.items() if test in tests}


def row(label, values, names, is_less_better):
    """A line of the table: every engine, and ours against the best of the others."""
    ours, peers = values.get("Redoubt"), [v for n, v in values.items() if n != "Redoubt"]
    ratio = ""
    if ours and peers:
        ratio = f"{min(peers) / ours if is_less_better else ours / max(peers):.2f}"
    cells = [f"{values[name]:.3g}" if name in values else "" for name in names]
    return f"| {label} | " + " | ".join(cells) + f" | {ratio} |"


def table(plan, found, names, limit):
    lines = []
    for test in plan.tests:
        values = medians(found, test)
        label = f"{plan.model}, {plan.threads} thread{'s'[:plan.threads - 1]}, {test}"
        line = row(label, values, names, test == "first-token")
        bound = limit(test)
        share = f"{values['Redoubt'] / bound:.2f}" if bound and "Redoubt" in values else ""
        lines.append(f"{line} {f'{bound:.3g}' if bound else ''} | {share} |")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True, help="folder of NAME.gguf")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall",
                        help="cpu: seconds of the process, for one thread on a busy machine")
    parser.add_argument("--only", default="", help="models whose names begin so")
    parser.add_argument("--engines", default="", metavar="NAME,...",
                        help="peers whose names begin so")
    given = parser.parse_args()
    chosen = [e for e in engines.known(given.programs)
              if e.name == "Redoubt" or e.name.startswith(tuple(given.engines.split(",")))]
    names = [engine.name for engine in chosen]
    # Plan by plan, so that a run that is cut short has shown what it found.
    print(f"| tokens per second | {' | '.join(names)} | to the best peer | limit | share |")
    print("|---" * (len(names) + 4) + "|", flush=True)
    limits = {}
    for plan in [plan for plan in PLANS if plan.model.startswith(given.only)]:
        if given.clock == "cpu" and plan.threads > 1:
            continue
        path = given.models / f"{plan.model}.gguf"
        print(f"{plan.model}, {plan.threads} threads", file=sys.stderr, flush=True)
        machine = limits.setdefault(plan.threads, Machine(given.programs, plan.threads))
        work = Work(path)
        found = rounds(plan, path, chosen, given)
        lines = table(plan, found, names, lambda test: machine.limit(test, work))
        print("\n".join(lines), flush=True)
    if MEMORY.model.startswith(given.only) and given.clock == "wall":
        path = given.models / f"{MEMORY.model}.gguf"
        found = rounds(MEMORY, path, chosen, given)
        label = f"{MEMORY.model} ({path.stat().st_size / 2**20:.0f} MiB), peak memory in MiB"
        print(row(label, medians(found, "MiB"), names, True) + " | |")
    for threads, machine in limits.items():
        print(f"{threads} thread(s): {machine.read / 1e9:.1f} GB/s, "
              f"{machine.products / 1e9:.0f} Gop/s")


if __name__ == "__main__":
    main()
