"""Owns the training run: schedule, optimizers, checkpoints, its log. Started again with the same
arguments it goes on where the last checkpoint stands.

Progress is counted in tokens, or with --minutes in time spent training, and sets the rate:
warm-up, constant, then a fall to zero over the last part.
"""
import argparse
import dataclasses
import hashlib
import json
import os
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch.nn import functional as F

import accuracy
import batches
import exported
import score
import vocabulary
from model import Drill, Shape
from muon import Muon

# The full rate; one that goes on from a model would lose what that knows at this one.
RATE = 3e-3
RATE_FROM_MODEL = 1.5e-3
MATRIX_DECAY = 0.1
WARM_UP = 0.015
FALL = 0.8
RATE_LEAST = 0.01
GRADIENT_NORM_MAX = 1.0
WEIGHT_USUAL = 150
CHECKPOINT_S = 120
REPORT_S = 60
# In a run's folder: what it was begun with.
BEGUN = "begun.json"


def rate_share(progress):
    """The share of the full rate at this progress, 0 to 1."""
    rise = min(1.0, progress / WARM_UP + 0.02)
    return min(rise, max(RATE_LEAST, (1 - progress) / FALL))


def precision_of(device):
    """The number type that products are faster in. Processors differ: there are some with
    instructions for bfloat16 that run at half the speed of those for float32."""
    if device != "cpu":
        return torch.bfloat16
    took = {}
    for precision in (torch.bfloat16, torch.float32):
        rows, matrix = (torch.ones(n, 256, dtype=precision) for n in (4096, 512))
        times = []
        for _ in range(9):
            began = time.monotonic()
            rows @ matrix.T
            times.append(time.monotonic() - began)
        took[precision] = sorted(times)[4]
    return min(took, key=took.get)


def weights_of(targets):
    """What each token to be written weighs: all of one answer together the root of their number.
    A sum of two digits would be nothing beside a call's JSON if all tokens weighed alike.

    targets: (rows, tokens), below 0 where nothing is to be written -> weights of the others
    """
    wanted = targets >= 0
    begins = wanted.clone()
    begins[:, 1:] &= ~wanted[:, :-1]
    answers = begins.flatten().cumsum(0)[wanted.flatten()]
    return answers.bincount()[answers].float().rsqrt()


class Run:
    """A network in training, with all that a checkpoint holds."""

    def __init__(self, folder, seed, precision=None, source=None):
        self.folder, self.seed = folder, seed
        path = folder / "tokenizer.json"
        if not path.exists():
            vocabulary.save(path, seed, exported.tokens_of(source) if source else None)
        self.tokenizer = Tokenizer.from_file(str(path))
        torch.manual_seed(seed)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.precision = precision or precision_of(self.device)
        self.network = Drill(Shape(self.tokenizer.get_vocab_size())).to(self.device)
        named = list(self.network.named_parameters())
        matrices = [p for n, p in named if p.ndim == 2 and n != "embedding.weight"]
        others = [p for n, p in named if p.ndim != 2 or n == "embedding.weight"]
        self.optimizers = [
            Muon(matrices, lr=RATE, weight_decay=MATRIX_DECAY, precision=self.precision),
            torch.optim.AdamW(others, lr=RATE, betas=(0.9, 0.98), weight_decay=0.0)]
        self.tokens, self.pools, self.seconds, self.steps = 0, 0, 0.0, 0
        self.forward = self.network

    def compile(self):
        """Has torch fuse what lies between the products: a third faster after some minutes."""
        self.forward = torch.compile(self.network, dynamic=True)

    @property
    def checkpoint(self):
        return self.folder / "checkpoint.pt"

    def save(self):
        state = {"shape": dataclasses.asdict(self.network.shape),
                 "network": self.network.state_dict(),
                 "optimizers": [o.state_dict() for o in self.optimizers],
                 "counts": [self.tokens, self.pools, self.seconds, self.steps]}
        part = self.checkpoint.with_suffix(".part")
        torch.save(state, part)
        os.replace(part, self.checkpoint)

    def load(self):
        if not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        self.network.load_state_dict(state["network"])
        for optimizer, held in zip(self.optimizers, state["optimizers"]):
            optimizer.load_state_dict(held)
        self.tokens, self.pools, self.seconds, self.steps = state["counts"]

    def step(self, tokens, targets, rate):
        """One step; the loss, a weighted mean over the tokens to be written."""
        tokens, targets = tokens.to(self.device), targets.to(self.device)
        with torch.autocast(self.device, torch.bfloat16, self.precision == torch.bfloat16):
            hidden = self.forward(tokens)
            wanted = targets >= 0
            logits = self.network.logits(hidden[wanted])
        losses = F.cross_entropy(logits.float(), targets[wanted], reduction="none")
        weights = weights_of(targets)
        loss = (losses * weights).sum() / weights.sum()
        # Between weighing all batches and all tokens alike: long prompts have few tokens to learn.
        (loss * (weights.sum() / WEIGHT_USUAL) ** 0.5).backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_NORM_MAX)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
        self.tokens += tokens.numel()
        self.steps += 1
        return loss.item()


def load_state(folder):
    """What the last checkpoint in a folder holds."""
    return torch.load(folder / "checkpoint.pt", map_location="cpu", weights_only=True)


def load_network(folder):
    """(network, tokenizer) of the last checkpoint in a folder."""
    state = load_state(folder)
    network = Drill(Shape(**state["shape"]))
    network.load_state_dict(state["network"])
    return network, Tokenizer.from_file(str(folder / "tokenizer.json"))


def begin(folder, given):
    """What a run was begun with, kept beside its checkpoints. One that is there goes on with the
    same arguments alone, and in the precision that it was begun in."""
    source = given.source and hashlib.sha256(given.source.read_bytes()).hexdigest()
    asked = {"seed": given.seed, "from": source, "minutes": given.minutes, "rate": given.rate,
             "tokens": None if given.minutes else given.tokens}
    path = folder / BEGUN
    if (folder / "checkpoint.pt").exists() and path.exists():
        begun = json.loads(path.read_text())
        if any(begun[name] != value for name, value in asked.items()):
            raise SystemExit(f"training.py: the run in {folder} was begun otherwise: {begun}. "
                             "Give the same arguments again, or remove the folder to begin anew.")
        return begun
    device = "cuda" if torch.cuda.is_available() else "cpu"
    begun = {**asked, "precision": str(precision_of(device)).removeprefix("torch.")}
    path.write_text(json.dumps(begun) + "\n")
    return begun


def say(text):
    print(time.strftime("%H:%M:%S"), text, flush=True)


def train(run, progress_of, rate, evaluate_s, draws):
    """Trains until progress is 1, at most at this rate."""
    saved = reported = time.monotonic()
    evaluated, losses, tokens_then = run.seconds, [], run.tokens
    for pool in batches.pools(run.folder / "tokenizer.json", run.seed, run.pools):
        for tokens, targets in pool:
            began = time.monotonic()
            progress = progress_of(run)
            if progress >= 1:
                run.save()
                return
            losses.append(run.step(torch.from_numpy(tokens), torch.from_numpy(targets),
                                   rate * rate_share(progress)))
            now = time.monotonic()
            run.seconds += now - began
            if now - reported > REPORT_S:
                speed = (run.tokens - tokens_then) / (now - reported)
                say(f"progress {progress:.3f} step {run.steps} tokens {run.tokens / 1e6:.2f}M "
                    f"loss {sum(losses) / len(losses):.4f} tokens/s {speed:.0f}")
                reported, losses, tokens_then = now, [], run.tokens
        run.pools += 1
        if time.monotonic() - saved > CHECKPOINT_S:
            run.save()
            saved = time.monotonic()
        if run.seconds - evaluated > evaluate_s:
            answers = accuracy.measure(run.network, run.tokenizer, run.pools, draws)
            say("accuracy en/ja, percent: " + score.line(score.counts(answers)))
            evaluated = run.seconds
            reported, tokens_then = time.monotonic(), run.tokens


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--folder", type=Path, required=True)
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--tokens", type=float, default=50e6, help="length of the run")
    arguments.add_argument("--from", dest="source", type=Path,
                           help="a model's GGUF file whose weights a new run begins with")
    arguments.add_argument("--rate", type=float, help="the full rate, if not the usual one: a "
                           "short run that goes on from a model wants less")
    arguments.add_argument("--minutes", type=float, help="length in time instead of tokens")
    arguments.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments.add_argument("--evaluate-s", type=float, default=600)
    arguments.add_argument("--draws", type=int, default=12)
    given = arguments.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(given.threads)
    precision = getattr(torch, begin(given.folder, given)["precision"])
    run = Run(given.folder, given.seed, precision, given.source)
    run.load()
    if given.source and run.steps == 0:
        known = exported.begin_from(given.source, run.network, run.tokenizer)
        say(f"begins with {given.source}, which knows {known} of the tokens")
    run.compile()
    parameters = sum(p.numel() for p in run.network.parameters())
    say(f"{parameters:,} parameters, {run.tokenizer.get_vocab_size()} tokens, "
        f"from step {run.steps}, on the {run.device}, products in {run.precision}")
    rate = given.rate or (RATE_FROM_MODEL if given.source else RATE)
    if given.minutes:
        train(run, lambda r: r.seconds / 60 / given.minutes, rate, given.evaluate_s, given.draws)
    else:
        train(run, lambda r: r.tokens / given.tokens, rate, given.evaluate_s, given.draws)
    say("trained")


if __name__ == "__main__":
    main()
