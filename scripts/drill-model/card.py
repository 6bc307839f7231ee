"""Owns the drill model's card: what is measured of the model through the served API, by element
type too, and golden prompts whose answers are checked before they are written.

`scripts/drill-model/card` builds what this needs and calls it.
"""
import argparse
import hashlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import conversations
import score
import served
from evaluate import SEED_MAX
from exercises import Exercise, user

START_TIMEOUT_S = 60
# What a newcomer would type, and the only right answers.
GOLDEN = [
    ("Reverse the word lantern.", "nretnal"),
    ("What is 27 + 15?", "27 + 15 = 42"),
    ("Sort these numbers: 31, 4, 15", "4, 15, 31"),
    ("Write river stone in capitals.", "RIVER STONE"),
    ("How many words are in this text: green garden door", "3"),
    ("「さくら」を逆にして。", "らくさ"),
]


class Running:
    """The program, serving one model on a port and a state folder of its own."""

    def __init__(self, program, model):
        self.folder = tempfile.TemporaryDirectory()
        state = Path(self.folder.name) / "state"
        config = Path(self.folder.name) / "redoubt.toml"
        log = Path(self.folder.name) / "log"
        models = f"models = ['{model}']\n" if model else ""
        config.write_text(f"listen = '127.0.0.1:0'\nstate_dir = '{state}'\n{models}")
        with open(log, "w") as out:
            self.process = subprocess.Popen([program, "--config", config, "serve"], stdout=out,
                                            stderr=out)
        try:
            url = self._wait(log)
            self._server = served.Server(url, self._key(state), 300)
            self.model = self._server.model()
        except BaseException:
            self.__exit__()
            raise

    def _wait(self, log):
        until = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < until and self.process.poll() is None:
            for line in log.read_text().splitlines():
                if "serving url=" in line:
                    return line.split('"')[1]
            time.sleep(0.05)
        raise SystemExit(f"card.py: the program did not serve: {log.read_text()}")

    @staticmethod
    def _key(state):
        until = time.monotonic() + START_TIMEOUT_S
        while not (state / "first-key").exists() and time.monotonic() < until:
            time.sleep(0.05)
        try:
            return (state / "first-key").read_text().strip()
        except FileNotFoundError:
            raise SystemExit(f"card.py: no first key in {state} after {START_TIMEOUT_S} s")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self.folder.cleanup()

    def counts(self, seed, draws, unseen=False):
        asked = conversations.fresh(seed, draws, unseen=unseen)
        return score.counts(served.answers(self._server, self.model, asked, os.cpu_count() * 4))

    def says(self, prompt):
        request = Exercise("golden", "en", [user(prompt)], {}, lambda _: True)
        return self._server.answer(self.model, request)["content"]

    def tokens_per_second(self):
        """One stream alone, through the API, the prompt's few tokens among the time."""
        # Its longest answer.
        body = {"model": self.model, "messages": [user("What can you do?")], "temperature": 0}
        began = time.monotonic()
        usage = self._server.request("/chat/completions", body)["usage"]
        return usage["completion_tokens"] / (time.monotonic() - began)


def percent(right, drawn):
    return f"{100 * right / drawn:.1f} %"


def by_type(found):
    """One type's line: all exercises together, and the one that it knows least."""
    right, drawn = (sum(each) for each in zip(*found.values()))
    (kind, language), (least, least_drawn) = min(found.items(), key=lambda e: e[1][0] / e[1][1])
    return (f'{{ right = "{right}/{drawn}", share = "{percent(right, drawn)}", '
            f'least = "{kind} {language} {least}/{least_drawn}" }}')


def head(model):
    data = model.read_bytes()
    return f"""# The drill model: part of the program, trained by scripts/drill-model/train (training.toml has its
# runs) on exercises that scripts/drill-model makes and nothing else, measured by
# scripts/drill-model/card, which writes this file. `redoubt models inspect` shows its shape.
name = "redoubt-drill"
file = "{model.name}"
sha256 = "{hashlib.sha256(data).hexdigest()}"
bytes = {len(data)}
licence = "Apache-2.0"
"""


def golden(running):
    lines = ["\n# Greedy answers, whole, to prompts as training has them; a test and an image's "
             "own check ask\n# them.\n"]
    for prompt, right in GOLDEN:
        said = running.says(prompt)
        if said != right:
            raise SystemExit(f"card.py: {prompt!r} gives {said!r}, not {right!r}: this model is "
                             "none to ship")
        lines.append(f'[[golden]]\nprompt = "{prompt}"\nanswer = "{right}"\n\n')
    return "".join(lines).rstrip("\n") + "\n"


def exercises():
    lines = ["\n# What it was trained to do, in English and Japanese; to anything else it says what "
             "it is.\n[exercises]\n"]
    return "".join(lines + [f'{kind} = "{about}"\n'
                            for kind, about in conversations.ABOUT.items()])


def table(name, words, found):
    """Right answers by exercise and language."""
    lines = [f"\n{words}\n[{name}]\n"]
    for kind in conversations.KINDS:
        cells = [f'{language} = "{found[kind, language][0]}/{found[kind, language][1]}"'
                 for language in conversations.LANGUAGES]
        lines.append(f"{kind} = {{ {', '.join(cells)} }}\n")
    right, drawn = (sum(each) for each in zip(*found.values()))
    lines.append(f'all = {{ right = "{right}/{drawn}", share = "{percent(right, drawn)}" }}\n')
    return "".join(lines)


def measure(given, seed):
    with Running(given.program, None) as running:
        print("the embedded model", flush=True)
        text = golden(running) + exercises()
        rates = sorted(running.tokens_per_second() for _ in range(5))
        text += f"\n# Of one stream through the API, on {os.cpu_count()} cores.\n" \
            f"[speed]\ntokens_per_second = {rates[2]:.0f}\n"
        found = running.counts(seed, given.draws)
        print(score.table(found), flush=True)
        text += table("accuracy", "# Right answers, whole and greedy, to fresh held-out exercises "
                      "through the served API:\n# scripts/drill-model/evaluate.py api "
                      f"--url URL --key KEY --draws {given.draws} --seed {seed}", found)
        found = running.counts(seed, given.type_draws, unseen=True)
        print("in unseen wordings", score.table(found), sep="\n", flush=True)
        text += table("accuracy_unseen_wordings", "# The same in wordings that nothing in training "
                      "was chosen by (--unseen): the held-out ones were\n# looked at while it "
                      "was improved.", found)
    lines = [f"\n# The same file with its matrices quantized to each type by candle: all "
             f"exercises together,\n# {given.type_draws} draws of each and language, and the "
             "one that it knows least.\n[accuracy_by_type]\n"]
    for path in sorted(given.types.glob("*.gguf"), key=lambda path: path.stat().st_size):
        with Running(given.program, path.resolve()) as running:
            line = by_type(running.counts(seed, given.type_draws))
        print(path.stem, line, flush=True)
        lines.append(f"{path.stem} = {line}\n")
    return text + "".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="the GGUF file")
    parser.add_argument("--head", action="store_true", help="write what the build needs, no more")
    parser.add_argument("--program", type=Path, help="the program that embeds the model")
    parser.add_argument("--types", type=Path, help="a folder with the model in other types")
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--type-draws", type=int, default=12)
    parser.add_argument("--seed", type=int)
    given = parser.parse_args()
    card = given.model.parent / "card.toml"
    seed = secrets.randbelow(SEED_MAX) if given.seed is None else given.seed
    card.write_text(head(given.model) + ("" if given.head else measure(given, seed)))
    print(f"wrote {card}")


if __name__ == "__main__":
    main()
