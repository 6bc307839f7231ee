"""How far llama.cpp and we are from transformers on SmolLM2: mean KL divergence over the positions
of tests/oracles/smollm2-logprobs.bin, the way tests/oracles.rs takes it. Fails where we are further.

    faithful.py MODEL.gguf NAME=LOGITS ...       (as tests/examples/logits.rs writes them)
"""
import sys
from pathlib import Path

import llama_cpp
import numpy as np

RECORD = Path(__file__).resolve().parents[2] / "tests/oracles/smollm2-logprobs.bin"
LAYOUT = b"RDLP0001"
KEPT = 256
CONTEXT = 1024
LEAST = 1e-12


def sequences():
    """(ids, per position the rest's probability, kept tokens, their log-probabilities)"""
    data = RECORD.read_bytes()
    assert data.startswith(LAYOUT), "another layout"
    at = len(LAYOUT)

    def take(kind, count):
        nonlocal at
        found = np.frombuffer(data, kind, count, at)
        at += found.nbytes
        return found
    for _ in range(take("<u4", 1)[0]):
        ids = take("<u4", take("<u4", 1)[0])
        yield ids, [(take("<f4", 1)[0], take("<u2", KEPT), take("<f4", KEPT)) for _ in ids]


def divergence(row, position):
    rest, tokens, kept = position
    scaled = row - row.max()
    theirs = scaled - np.log(np.exp(scaled).sum())
    found = (np.exp(kept) * (kept - theirs[tokens])).sum()
    others = max(1 - np.exp(theirs[tokens]).sum(), LEAST)
    rest = max(rest, LEAST)
    return found + rest * (np.log(rest) - np.log(others))


def main():
    path, *given = sys.argv[1:]
    model = llama_cpp.Llama(path, n_ctx=CONTEXT, n_batch=512, n_ubatch=512, logits_all=True,
                            verbose=False)
    named = dict(each.split("=", 1) for each in given)
    ours = {name: np.memmap(file, "<f4", "r").reshape(-1, model.n_vocab())
            for name, file in named.items()}
    totals, count = dict.fromkeys(["llama.cpp", *ours], 0.0), 0
    for ids, positions in sequences():
        model.reset()
        model.eval(ids.tolist())
        rows = {name: logits[count:count + len(ids)] for name, logits in ours.items()}
        rows["llama.cpp"] = model.scores[:len(ids)]
        for name, found in rows.items():
            totals[name] += sum(divergence(row.astype(np.float64), position)
                                for row, position in zip(found, positions))
        count += len(ids)
    for name, total in totals.items():
        print(f"{name}: mean KL {total / count:.2e} over {count} positions")
    if not all(0 <= totals[name] <= totals["llama.cpp"] for name in ours):
        raise SystemExit("faithful.py: we are further off than llama.cpp")


if __name__ == "__main__":
    main()
