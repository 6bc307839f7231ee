"""Records what transformers computes in F32 for SmolLM2: tests/oracles/smollm2-*.

smollm2-logprobs.bin, little-endian: the bytes "RDLP0001"; u32 count of sequences; then of each
sequence u32 length, u32 ids[length], and for each position f32 the probability mass outside of the
largest, u16 ids[256] and f32 log-probabilities[256] of the 256 likeliest next tokens, likeliest
first. smollm2-greedy.json: per prompt the ids, the greedy answer's ids, and per step the chosen
token's log-probability and how many nats it leads the second best by.
"""

import json
import struct

import numpy as np
import torch

import corpus

OUT = corpus.HERE.parent.parent / "tests" / "oracles"
KEPT = 256
ANSWER_LEN = 48


def log_probabilities(model, ids):
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0]
    return torch.log_softmax(logits.double(), dim=-1)


def record_sequences(model, sequences):
    positions = 0
    with (OUT / "smollm2-logprobs.bin").open("wb") as out:
        out.write(b"RDLP0001" + struct.pack("<I", len(sequences)))
        for ids in sequences:
            out.write(struct.pack("<I", len(ids)) + np.array(ids, "<u4").tobytes())
            top = log_probabilities(model, ids).topk(KEPT, dim=-1)
            rest = (1.0 - top.values.exp().sum(-1)).clamp(min=0.0)
            for mass, tokens, values in zip(rest, top.indices, top.values):
                out.write(struct.pack("<f", mass.item()))
                out.write(tokens.numpy().astype("<u2").tobytes())
                out.write(values.numpy().astype("<f4").tobytes())
            positions += len(ids)
    print(f"{len(sequences)} sequences, {positions} positions")


def greedy(model, prompt):
    ids, steps, cache = list(prompt), [], None
    end = model.config.eos_token_id
    fed = torch.tensor([ids])
    for _ in range(ANSWER_LEN):
        with torch.inference_mode():
            out = model(fed, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        best = torch.log_softmax(out.logits[0, -1].double(), dim=-1).topk(2)
        token = best.indices[0].item()
        gap = (best.values[0] - best.values[1]).item()
        steps.append((token, round(best.values[0].item(), 6), round(gap, 6)))
        if token == end:
            break
        fed = torch.tensor([[token]])
    return steps


def record_greedy(model, tokenizer):
    records = []
    for line, prompt in corpus.prompts(tokenizer):
        steps = greedy(model, prompt)
        tokens, logprobs, gaps = (list(column) for column in zip(*steps))
        text = tokenizer.decode(tokens, skip_special_tokens=True)
        records.append(
            {
                "question": line,
                "prompt": prompt,
                "answer": tokens,
                "logprobs": logprobs,
                "gaps_nats": gaps,
                "text": text,
            }
        )
        print(f"{line} -> {text!r}")
    lines = ",\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    (OUT / "smollm2-greedy.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    tokenizer, model = corpus.tokenizer(), corpus.model()
    record_sequences(model, corpus.sequences(tokenizer))
    record_greedy(model, tokenizer)


if __name__ == "__main__":
    main()
