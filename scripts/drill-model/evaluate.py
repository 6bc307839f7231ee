"""Owns the command that measures the drill model on fresh held-out exercises.

`evaluate.py checkpoint` measures a checkpoint in torch and needs the drill model's environment;
`evaluate.py api` measures a served model over HTTP and needs python3 alone.
"""
import argparse
import secrets
import sys
import time
from pathlib import Path

import conversations
import score
import served

SEED_MAX = 2**32


def positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def share(text):
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError("must be between 0 and 1")
    return number


def kinds(text):
    named = text.split(",")
    unknown = [name for name in named if name not in conversations.KINDS]
    if unknown:
        known = ", ".join(conversations.KINDS)
        raise argparse.ArgumentTypeError(
            f"no exercise is named {', '.join(unknown)}; there are {known}")
    return named


def parsed():
    parser = argparse.ArgumentParser(description=__doc__)
    ways = parser.add_subparsers(dest="way", required=True)
    checkpoint = ways.add_parser("checkpoint", help="a training's last checkpoint, in torch")
    checkpoint.add_argument("--folder", type=Path, required=True, help="where the checkpoint lies")
    api = ways.add_parser("api", help="a served model")
    api.add_argument("--url", required=True, help="such as http://127.0.0.1:8080/v1")
    api.add_argument("--key", required=True, help="an API key of the server")
    api.add_argument("--model", help="the model's name; without it the first that is served")
    api.add_argument("--at-once", type=positive, default=4, help="requests sent at once")
    api.add_argument("--timeout-s", type=positive, default=300, help="bound on one answer")
    for way in (checkpoint, api):
        way.add_argument("--draws", type=positive, default=40,
                         help="exercises per kind and language, long ones a quarter of it")
        way.add_argument("--seed", type=int, help="draws the same again; random without it")
        way.add_argument("--only", type=kinds, default=list(conversations.KINDS),
                         metavar="EXERCISE,...", help="these exercises alone")
        way.add_argument("--unseen", action="store_true",
                         help="in wordings that no training was steered by")
        way.add_argument("--show", type=int, default=0, metavar="N", help="show N wrong answers")
        way.add_argument("--at-least", type=share, default=0.0 if way is checkpoint else 0.9,
                         help="exit with 1 where an exercise and language falls below this share")
        way.add_argument("--all-at-least", type=share, default=0.0,
                         help="and where all of them together fall below this")
    return parser.parse_args()


def from_checkpoint(given):
    # Here and not above, so that the other way needs nothing but python3.
    import accuracy
    import training
    network, tokenizer = training.load_network(given.folder)
    return accuracy.measure(network, tokenizer, given.seed, given.draws, given.only,
                            given.unseen)


def from_server(given):
    server = served.Server(given.url, given.key, given.timeout_s)
    model = given.model or server.model()
    print(f"model {model}", flush=True)
    asked = conversations.fresh(given.seed, given.draws, given.only, given.unseen)
    return served.answers(server, model, asked, given.at_once)


def main():
    given = parsed()
    if given.seed is None:
        given.seed = secrets.randbelow(SEED_MAX)
    print(f"seed {given.seed}", flush=True)
    began = time.monotonic()
    try:
        answers = from_checkpoint(given) if given.way == "checkpoint" else from_server(given)
    except (served.ServerError, FileNotFoundError) as error:
        print(f"evaluate.py: {error}", file=sys.stderr)
        return 2
    for answer in [a for a in answers if not a.right][:given.show]:
        print(score.shown(answer))
    found = score.counts(answers)
    print(score.table(found))
    print(f"{len(answers)} exercises in {time.monotonic() - began:.0f} s")
    low = score.below(found, given.at_least)
    if low:
        print(f"below {given.at_least:.0%}: " + ", ".join(" ".join(key) for key in low))
    right, drawn = (sum(each) for each in zip(*found.values()))
    if right < given.all_at_least * drawn:
        print(f"all together {right}/{drawn}, below {given.all_at_least:.0%}")
        low.append("all")
    return 1 if low else 0


if __name__ == "__main__":
    sys.exit(main())
