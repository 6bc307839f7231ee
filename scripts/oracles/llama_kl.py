"""How far llama.cpp, and we, are from transformers in F32 on SmolLM2; by hand only.

    scripts/oracles/run llama_kl                     llama.cpp's divergence, answers and speed
    scripts/oracles/run llama_kl NAME=LOGITS ...     and that of logits written by
        cargo run --release -p e2e --example logits -- MODE LOGITS     (f32, all positions)

Prints mean KL divergence over the whole vocabulary and over the 256 likeliest tokens and the rest,
which is what the tests compute from the record.
"""

import json
import sys
import time

import numpy as np
import torch
from llama_cpp import Llama

import corpus
from record_smollm2 import KEPT, OUT, log_probabilities

SPEED_PROMPT_LEN = 512
SPEED_DECODED = 64


def llama(threads):
    return Llama(
        str(corpus.MODEL), n_ctx=1024, n_batch=512, n_ubatch=512, n_threads=threads,
        n_threads_batch=threads, logits_all=True, verbose=False,
    )


def evaluated(model, ids):
    """Log-probabilities after each of the ids, one batch."""
    model.reset()
    model.eval(ids)
    logits = torch.from_numpy(np.array(model.scores[: len(ids)], np.float64))
    return torch.log_softmax(logits, dim=-1)


def divergence(reference, other):
    """Sums over positions of the full KL and of the KL over the kept tokens and the rest."""
    full = (reference.exp() * (reference - other)).sum()
    top = reference.topk(KEPT, dim=-1)
    theirs = other.gather(-1, top.indices)
    kept = (top.values.exp() * (top.values - theirs)).sum(-1)
    rest = (1 - top.values.exp().sum(-1)).clamp(min=1e-12)
    rest_theirs = (1 - theirs.exp().sum(-1)).clamp(min=1e-12)
    kept = kept + rest * (rest.log() - rest_theirs.log())
    return full.item(), kept.sum().item()


def compare(named):
    tokenizer, model = corpus.tokenizer(), corpus.model()
    theirs = llama(2)
    sums = {name: [0.0, 0.0, 0] for name in ["llama.cpp", *named]}
    positions = 0
    for ids in corpus.sequences(tokenizer):
        reference = log_probabilities(model, ids)
        others = {"llama.cpp": evaluated(theirs, ids)}
        for name, logits in named.items():
            part = torch.from_numpy(np.array(logits[positions : positions + len(ids)], np.float64))
            others[name] = torch.log_softmax(part, dim=-1)
        for name, other in others.items():
            full, kept = divergence(reference, other)
            same = (reference.argmax(-1) == other.argmax(-1)).sum().item()
            sums[name] = [a + b for a, b in zip(sums[name], (full, kept, same))]
        positions += len(ids)
    for name, (full, kept, same) in sums.items():
        print(f"{name}: KL {full / positions:.3g} (kept and rest {kept / positions:.3g}), "
              f"same first choice {same / positions:.2%} of {positions} positions")
    return theirs


def answers(model):
    """Along the recorded greedy answers: where the first choice differs, and by what."""
    gaps, errors, steps = [], [], 0
    for record in json.loads((OUT / "smollm2-greedy.json").read_text()):
        prompt, answer = record["prompt"], record["answer"]
        rows = evaluated(model, prompt + answer[:-1])[len(prompt) - 1 :]
        for row, token, logprob, gap in zip(rows, answer, record["logprobs"], record["gaps_nats"]):
            errors.append(abs(row[token].item() - logprob))
            steps += 1
            if row.argmax().item() != token:
                gaps.append(gap)
    print(f"llama.cpp answers: {steps} steps, {len(gaps)} other choices, widest gap "
          f"{max(gaps, default=0):.3f} nats, log-probability off by {np.mean(errors):.4f}")


def speed(threads):
    model = llama(threads)
    ids = [position * 7 % 1000 + 10 for position in range(SPEED_PROMPT_LEN)]
    model.eval(ids)
    model.reset()
    began = time.perf_counter()
    model.eval(ids)
    prefill = SPEED_PROMPT_LEN / (time.perf_counter() - began)
    began = time.perf_counter()
    for step in range(SPEED_DECODED):
        model.eval([step * 7 % 1000 + 10])
    decode = SPEED_DECODED / (time.perf_counter() - began)
    print(f"llama.cpp, {threads} threads: prefill {prefill:.0f}, decode {decode:.1f} tokens/s")


def main():
    vocabulary = 49_152
    named = {}
    for argument in sys.argv[1:]:
        name, path = argument.split("=", 1)
        named[name] = np.memmap(path, "<f4", "r").reshape(-1, vocabulary)
    answers(compare(named))
    for threads in (1, 2):
        speed(threads)


if __name__ == "__main__":
    main()
