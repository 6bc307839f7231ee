"""Records what transformers computes for small random models of every family and element type.

tests/oracles/random-models.json says per model the GGUF metadata and tensors (whose elements come
out of random_weights.py) and per element type the greedy continuation; random-models.bin holds the
logits, f32 little-endian, (positions, vocabulary) of each record in the JSON's order.
"""

import json
import math

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import corpus
import random_weights

OUT = corpus.HERE.parent.parent / "tests" / "oracles"
VOCABULARY = 200
POSITIONS = 48
CONTINUED = 64
LEAST_GAP_NATS = 2e-4
ASKED_TYPES = ["F32", "F16", "Q8_0", "Q4_K"]
EVERY_TYPE = ["F32", "F16", "BF16", *random_weights.BLOCKS]

# head: elements per head. Options are those of transformers' configurations.
MODELS = [
    dict(name="llama-three-heads", family="llama", width=72, inner=100, heads=3, kv_heads=1,
         head=24, tied=True, types=["F32", "F16"]),
    dict(name="llama3-scaled-biased", family="llama", width=96, inner=160, heads=4, kv_heads=2,
         head=24, tied=False, types=["F32", "F16", "Q8_0"],
         options=dict(attention_bias=True, mlp_bias=True),
         rope=dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0,
                   high_freq_factor=4.0, original_max_position_embeddings=64)),
    dict(name="llama-linear", family="llama", width=64, inner=96, heads=2, kv_heads=2, head=32,
         tied=False, types=["F32"], rope=dict(rope_type="linear", rope_theta=10000.0, factor=4.0)),
    dict(name="mistral-window", family="mistral", width=96, inner=128, heads=5, kv_heads=1,
         head=32, tied=False, types=["F32", "Q8_0"], options=dict(sliding_window=20)),
    dict(name="qwen2-seven-heads", family="qwen2", width=112, inner=192, heads=7, kv_heads=1,
         head=16, tied=True, types=["F32", "F16"]),
    dict(name="qwen2-untied", family="qwen2", width=96, inner=160, heads=6, kv_heads=2, head=16,
         tied=False, types=["F32", "Q8_0"]),
    dict(name="qwen3-tied", family="qwen3", width=96, inner=160, heads=5, kv_heads=1, head=32,
         tied=True, types=["F32", "F16", "Q8_0"]),
    dict(name="llama-every-type", family="llama", width=256, inner=512, heads=4, kv_heads=2,
         head=64, tied=False, types=EVERY_TYPE),
    dict(name="qwen2-256", family="qwen2", width=256, inner=256, heads=8, kv_heads=4, head=32,
         tied=False, types=ASKED_TYPES),
    dict(name="qwen3-256", family="qwen3", width=256, inner=256, heads=4, kv_heads=1, head=128,
         tied=True, types=ASKED_TYPES),
    dict(name="mistral-256", family="mistral", width=256, inner=256, heads=4, kv_heads=1, head=64,
         tied=False, types=ASKED_TYPES, options=dict(sliding_window=20)),
]
LAYERS = 2


def configuration(model):
    rope = model.get("rope", dict(rope_type="default", rope_theta=10000.0))
    return AutoConfig.for_model(
        model["family"],
        vocab_size=VOCABULARY,
        hidden_size=model["width"],
        intermediate_size=model["inner"],
        num_hidden_layers=LAYERS,
        num_attention_heads=model["heads"],
        num_key_value_heads=model["kv_heads"],
        head_dim=model["head"],
        max_position_embeddings=256,
        rms_norm_eps=1e-5,
        rope_parameters=rope,
        tie_word_embeddings=model["tied"],
        attn_implementation="eager",
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        **model.get("options", {}),
    )


def metadata(model):
    """What the GGUF file says of the model."""
    arch = "llama" if model["family"] == "mistral" else model["family"]
    rope = model.get("rope", {})
    keys = {
        "block_count": LAYERS,
        "context_length": 256,
        "embedding_length": model["width"],
        "feed_forward_length": model["inner"],
        "attention.head_count": model["heads"],
        "attention.head_count_kv": model["kv_heads"],
        "attention.key_length": model["head"],
        "attention.value_length": model["head"],
        "rope.dimension_count": model["head"],
        "rope.freq_base": rope.get("rope_theta", 10000.0),
        "attention.layer_norm_rms_epsilon": 1e-5,
    }
    if rope.get("rope_type") == "linear":
        keys |= {"rope.scaling.type": "linear", "rope.scaling.factor": rope["factor"]}
    if "sliding_window" in model.get("options", {}):
        keys["attention.sliding_window"] = model["options"]["sliding_window"]
    return {"general.architecture": arch} | {f"{arch}.{key}": v for key, v in keys.items()}


def llama3_divisors(model):
    """Per pair of a head's elements, what its angle is divided by (2407.21783's scaling)."""
    rope, divisors = model["rope"], []
    old = rope["original_max_position_embeddings"]
    for i in range(0, model["head"], 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (i / model["head"])
        smooth = (old / wavelength - rope["low_freq_factor"]) / (
            rope["high_freq_factor"] - rope["low_freq_factor"]
        )
        smooth = min(max(smooth, 0.0), 1.0)
        divisors.append(1.0 / ((1.0 - smooth) / rope["factor"] + smooth))
    return divisors


def tensors(model):
    """GGUF name, transformers' name, shape, base and spread of every tensor."""
    width, inner = model["width"], model["inner"]
    q_width, kv_width = model["heads"] * model["head"], model["kv_heads"] * model["head"]
    options = model.get("options", {})
    attention_bias = model["family"] == "qwen2" or options.get("attention_bias", False)

    def matrix(ours, theirs, rows, columns, gain, bias):
        yield f"{ours}.weight", f"{theirs}.weight", [rows, columns], 0.0, gain * columns**-0.5
        if bias:
            yield f"{ours}.bias", f"{theirs}.bias", [rows], 0.0, 0.5

    yield from matrix("token_embd", "model.embed_tokens", VOCABULARY, width, 4.0, False)
    yield "output_norm.weight", "model.norm.weight", [width], 1.0, 0.25
    if not model["tied"]:
        yield from matrix("output", "lm_head", VOCABULARY, width, 4.0, False)
    for layer in range(LAYERS):
        ours, theirs = f"blk.{layer}", f"model.layers.{layer}"
        attention, mlp = f"{theirs}.self_attn", f"{theirs}.mlp"
        o_bias = options.get("attention_bias", False)
        mlp_bias = options.get("mlp_bias", False)
        yield f"{ours}.attn_norm.weight", f"{theirs}.input_layernorm.weight", [width], 1.0, 0.25
        yield from matrix(
            f"{ours}.attn_q", f"{attention}.q_proj", q_width, width, 2.5, attention_bias)
        yield from matrix(
            f"{ours}.attn_k", f"{attention}.k_proj", kv_width, width, 2.5, attention_bias)
        yield from matrix(
            f"{ours}.attn_v", f"{attention}.v_proj", kv_width, width, 2.0, attention_bias)
        yield from matrix(f"{ours}.attn_output", f"{attention}.o_proj", width, q_width, 2.0, o_bias)
        if model["family"] == "qwen3":
            for part in "qk":
                yield (f"{ours}.attn_{part}_norm.weight", f"{attention}.{part}_norm.weight",
                       [model["head"]], 1.0, 0.25)
        yield (f"{ours}.ffn_norm.weight", f"{theirs}.post_attention_layernorm.weight", [width],
               1.0, 0.25)
        yield from matrix(f"{ours}.ffn_gate", f"{mlp}.gate_proj", inner, width, 2.5, mlp_bias)
        yield from matrix(f"{ours}.ffn_up", f"{mlp}.up_proj", inner, width, 2.5, mlp_bias)
        yield from matrix(f"{ours}.ffn_down", f"{mlp}.down_proj", width, inner, 2.0, mlp_bias)


def unpermuted(values, heads):
    """Rows of q and k as transformers wants them: GGUF's llama pairs neighbours, it pairs halves."""
    shape = values.shape
    return values.reshape(heads, -1, 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def build(model, dtype):
    module = AutoModelForCausalLM.from_config(configuration(model)).eval()
    state = {}
    for ours, theirs, shape, base, spread in tensors(model):
        name = f"{model['name']}/{ours}"
        if len(shape) == 1:
            values = random_weights.floats(name, shape[0], base, spread)
        else:
            values = random_weights.decoded(name, shape, dtype, spread)
        if model["family"] in ("llama", "mistral"):
            if "attn_q." in ours:
                values = unpermuted(values, model["heads"])
            if "attn_k." in ours:
                values = unpermuted(values, model["kv_heads"])
        state[theirs] = torch.from_numpy(np.ascontiguousarray(values))
    if model["tied"]:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    module.load_state_dict(state, strict=True)
    return module


def prompt(model):
    drawn = random_weights.words(random_weights.seed(model["name"]), np.uint64(0), POSITIONS)
    return [int(word % np.uint64(VOCABULARY)) for word in drawn]


def record(model, dtype, out):
    module = build(model, dtype)
    ids = prompt(model)
    with torch.inference_mode():
        logits = module(torch.tensor([ids])).logits[0]
        out.write(logits.numpy().astype("<f4").tobytes())
        gaps = []
        for _ in range(CONTINUED):
            best = module(torch.tensor([ids])).logits[0, -1].topk(2)
            gaps.append((best.values[0] - best.values[1]).item())
            ids.append(best.indices[0].item())
    spread = logits.std(-1).mean().item()
    print(f"{model['name']} {dtype}: logits spread {spread:.2f}, least gap {min(gaps):.2g} nats")
    if dtype == "F32":
        assert min(gaps) > LEAST_GAP_NATS, "a near tie: rename the model, its name is its seed"
    return {"type": dtype, "greedy": ids[POSITIONS:], "least_gap_nats": round(min(gaps), 6)}


def main():
    models = []
    with (OUT / "random-models.bin").open("wb") as out:
        for model in MODELS:
            records = [record(model, dtype, out) for dtype in model["types"]]
            listed = [
                {"name": ours, "shape": shape, "base": base, "spread": float(np.float32(spread))}
                for ours, _, shape, base, spread in tensors(model)
            ]
            if model.get("rope", {}).get("rope_type") == "llama3":
                values = llama3_divisors(model)
                listed.append(
                    {"name": "rope_freqs.weight", "shape": [len(values)], "values": values})
            models.append(
                {"name": model["name"], "vocabulary_len": VOCABULARY, "prompt": prompt(model),
                 "metadata": metadata(model), "tensors": listed, "records": records})
    lines = ",\n".join(json.dumps(model) for model in models)
    (OUT / "random-models.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
