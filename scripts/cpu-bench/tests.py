"""Owns the tests that every engine is timed with, and the tokens that they are made of: those of
tests/src/timed.rs.
"""
import time
from pathlib import Path

DECODED = 64
BEGUN = 16


def add_arguments(parser):
    parser.add_argument("file", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("tests", nargs="+", metavar="TEST")


def clock_of(given):
    return time.process_time if given.clock == "cpu" else time.perf_counter


def parsed(test):
    """(kind, number) of a test's name."""
    kind, _, number = test.rpartition("-")
    return (kind, int(number)) if number.isdecimal() else (test, 0)


def extent(test):
    """(positions in all, sequences) that a test needs."""
    kind, number = parsed(test)
    if kind == "streams":
        return number * (BEGUN + DECODED), number
    return number + BEGUN + DECODED, 1


class Running:
    """An engine with `compute(rows, outputs)` and `forget()`, and what its sequences are made of."""

    def __init__(self, engine, clock):
        self.engine, self.clock, self.salt = engine, clock, 0

    def fill(self, sequences, begin, end):
        rows = [((position * 7 + sequence * 131 + self.salt * 29) % 1000 + 10, position, sequence)
                for sequence in range(sequences) for position in range(begin, end)]
        outputs = {i for i, row in enumerate(rows) if row[1] + 1 == end}
        self.engine.compute(rows, outputs)

    def rate(self, test):
        """Tokens per second."""
        self.salt += 1
        self.engine.forget()
        kind, number = parsed(test)
        sequences, begin, end = {"prefill": (1, 0, number),
                                 "decode": (1, number, number + DECODED),
                                 "streams": (number, BEGUN, BEGUN + DECODED)}[kind]
        if begin:
            self.fill(sequences, 0, begin)
        began = self.clock()
        if begin:
            for position in range(begin, end):
                self.fill(sequences, position, position + 1)
        else:
            self.fill(1, 0, end)
        return sequences * (end - begin) / (self.clock() - began)


def run(given, load):
    """Prints a line for each test; `load(positions, sequences)` makes the engine."""
    clock = clock_of(given)
    needed = [extent(test) for test in given.tests]
    began = clock()
    engine = load(max(n for n, _ in needed), max(n for _, n in needed))
    running = Running(engine, clock)
    running.fill(1, 0, BEGUN)
    first_token = clock() - began
    for test in given.tests:
        if test == "first-token":
            print(f"{test} {first_token:.3f}", flush=True)
        else:
            print(f"{test} {running.rate(test):.2f}", flush=True)
