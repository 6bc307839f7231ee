"""Writes a GGUF file of a real model's shape with random weights, for timing alone:

    random_model.py SHAPE QUANTIZATION OUT.gguf

Weights are drawn with mean zero and a spread of one over the root of their inputs, what goes back
into the residual less by its depth, norms are one: numbers stay finite through every layer. Blocks
are random bytes under sane scales. Q4_K_M mixes types as llama.cpp's recipe does. The vocabulary is
a byte-level BPE of the real size, so that text can be sent, too.
"""
import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type


@dataclass(frozen=True)
class Shape:
    """A model's sizes, named as GGUF names them."""
    family: str
    layers: int
    width: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int
    rope_base: float
    epsilon: float
    is_tied: bool = True


SHAPES = {
    "llama-1b": Shape("llama", 16, 2048, 8192, 32, 8, 64, 128_256, 131_072, 5e5, 1e-5),
    "llama-8b": Shape("llama", 32, 4096, 14_336, 32, 8, 128, 128_256, 131_072, 5e5, 1e-5, False),
    "qwen3-0.6b": Shape("qwen3", 28, 1024, 3072, 16, 8, 128, 151_936, 40_960, 1e6, 1e-6),
    "qwen3-4b": Shape("qwen3", 36, 2560, 9728, 32, 8, 128, 151_936, 40_960, 1e6, 1e-6),
    "qwen3-8b": Shape("qwen3", 36, 4096, 12_288, 32, 8, 128, 151_936, 40_960, 1e6, 1e-6, False),
}
# The type of most matrices, and of those that the recipe gives more bits.
QUANTIZATIONS = {"q4_k_m": (Type.Q4_K, Type.Q6_K), "q8_0": (Type.Q8_0, Type.Q8_0)}
FILE_TYPES = {"q4_k_m": gguf.LlamaFileType.MOSTLY_Q4_K_M, "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}
SPECIALS = {"llama": ["<|begin_of_text|>", "<|end_of_text|>", "<|im_start|>", "<|im_end|>"],
            "qwen3": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]}
PRE_TOKENIZERS = {"llama": "llama-bpe", "qwen3": "qwen2"}
# The last ids of a vocabulary; more than enough for any.
RESERVED = 256
TEMPLATE = ("{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
            "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
LETTERS = "etaoinshrdlcumwfgypbvkjxqzETAOINSHRDLCUMWFGYPBVKJXQZ0123456789"
# The root mean square of what a block's random bytes stand for.
RMS_INT8 = 73.9
RMS_Q4_K_SCALE = 48.4
RMS_NIBBLE = 4.61
RMS_SIX_BITS = 18.5


def byte_letters():
    """The printable stand-in of every byte, by GPT-2's rule."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    letters = {byte: chr(byte) for byte in plain}
    letters.update({byte: chr(256 + i) for i, byte in enumerate(others)})
    return [letters[byte] for byte in range(256)]


def vocabulary(shape):
    """(tokens, types, merges): all bytes, then pairs and threes of letters until it is full."""
    tokens, merges = byte_letters(), []
    wanted = shape.vocabulary - RESERVED
    pairs = []
    for first in tokens[ord(" ")] + LETTERS:
        for second in LETTERS:
            merges.append(f"{first} {second}")
            pairs.append(first + second)
    tokens = tokens + pairs
    for pair in pairs:
        for letter in LETTERS[: min(len(LETTERS), wanted - len(tokens))]:
            merges.append(f"{pair} {letter}")
            tokens.append(pair + letter)
    assert len(tokens) == wanted, "letters enough for every vocabulary"
    specials = SPECIALS[shape.family]
    specials = specials + [f"<|reserved_{i}|>" for i in range(RESERVED - len(specials))]
    types = [gguf.TokenType.NORMAL] * wanted + [gguf.TokenType.CONTROL] * RESERVED
    return tokens + specials, types, merges


def add_tokenizer(writer, shape):
    tokens, types, merges = vocabulary(shape)
    specials = SPECIALS[shape.family]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE_TOKENIZERS[shape.family])
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(tokens.index(specials[0]))
    writer.add_eos_token_id(tokens.index(specials[1]))
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)


def halves(value, blocks):
    """A half-precision number's bytes, once for each block."""
    return np.broadcast_to(np.frombuffer(np.float16(value).tobytes(), np.uint8), (blocks, 2))


def random_bytes(rng, blocks, count):
    return np.frombuffer(rng.bytes(blocks * count), np.uint8).reshape(blocks, count)


def q8_0(rng, blocks, spread):
    levels = random_bytes(rng, blocks, 32).copy()
    levels[levels == 128] = 0
    return np.hstack([halves(spread / RMS_INT8, blocks), levels])


def q4_k(rng, blocks, spread):
    """w = d scale level - d_min minimum, with the minimum in the middle of the levels."""
    scales = (random_bytes(rng, blocks, 8) & 31) + 32
    packed = np.hstack([
        (scales[:, :4] & 63) | ((scales[:, 4:] >> 4) << 6),
        (scales[:, :4] & 63) | ((scales[:, 4:] >> 4) << 6),
        (scales[:, 4:] & 15) | ((scales[:, 4:] & 15) << 4)])
    d = spread / (RMS_Q4_K_SCALE * RMS_NIBBLE)
    return np.hstack([halves(d, blocks), halves(7.5 * d, blocks), packed,
                      random_bytes(rng, blocks, 128)])


def q6_k(rng, blocks, spread):
    return np.hstack([random_bytes(rng, blocks, 208),
                      halves(spread / (RMS_SIX_BITS * RMS_INT8), blocks)])


FILL = {Type.Q8_0: q8_0, Type.Q4_K: q4_k, Type.Q6_K: q6_k}


def has_more_bits(layer, layers):
    """The layers to whose values and down projections Q4_K_M gives Q6_K."""
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def tensors(shape, quantization):
    """(name, rows, columns, type, spread) of each tensor; norms have neither columns nor type."""
    usual, more = QUANTIZATIONS[quantization]
    width, heads_width = shape.width, shape.heads * shape.head_dim
    kv_width, into = shape.kv_heads * shape.head_dim, (2 * shape.layers) ** -0.5

    def matrix(name, rows, columns, kind, share=1.0):
        return name, rows, columns, kind, share / math.sqrt(columns)

    def norm(name, rows):
        return name, rows, 0, None, 0.0

    yield matrix("token_embd.weight", shape.vocabulary, width, more)
    for layer in range(shape.layers):
        block = f"blk.{layer}."
        best = more if has_more_bits(layer, shape.layers) else usual
        yield norm(block + "attn_norm.weight", width)
        yield matrix(block + "attn_q.weight", heads_width, width, usual)
        yield matrix(block + "attn_k.weight", kv_width, width, usual)
        yield matrix(block + "attn_v.weight", kv_width, width, best)
        yield matrix(block + "attn_output.weight", width, heads_width, usual, into)
        if shape.family == "qwen3":
            yield norm(block + "attn_q_norm.weight", shape.head_dim)
            yield norm(block + "attn_k_norm.weight", shape.head_dim)
        yield norm(block + "ffn_norm.weight", width)
        yield matrix(block + "ffn_gate.weight", shape.feed_forward, width, usual)
        yield matrix(block + "ffn_up.weight", shape.feed_forward, width, usual)
        yield matrix(block + "ffn_down.weight", width, shape.feed_forward, best, into)
    yield norm("output_norm.weight", width)
    if not shape.is_tied:
        yield matrix("output.weight", shape.vocabulary, width, more)


def add_shape(writer, name, shape, quantization):
    writer.add_name(f"random-{name}")
    writer.add_file_type(FILE_TYPES[quantization])
    writer.add_quantization_version(2)
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.epsilon)
    writer.add_vocab_size(shape.vocabulary)
    if shape.family == "llama":
        writer.add_rope_dimension_count(shape.head_dim)


def write(name, quantization, out, seed):
    shape = SHAPES[name]
    writer = gguf.GGUFWriter(out, shape.family)
    add_shape(writer, name, shape, quantization)
    add_tokenizer(writer, shape)
    listed = list(tensors(shape, quantization))
    for tensor, rows, columns, kind, _ in listed:
        if kind is None:
            writer.add_tensor_info(tensor, (rows,), np.dtype(np.float32), rows * 4, Type.F32)
            continue
        length, size = gguf.GGML_QUANT_SIZES[kind]
        writer.add_tensor_info(tensor, (rows, columns), np.dtype(np.float32),
                               rows * columns // length * size, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    rng = np.random.Generator(np.random.SFC64(seed))
    for _, rows, columns, kind, spread in listed:
        if kind is None:
            writer.write_tensor_data(np.ones(rows, np.float32))
            continue
        blocks = rows * columns // gguf.GGML_QUANT_SIZES[kind][0]
        writer.write_tensor_data(np.ascontiguousarray(FILL[kind](rng, blocks, spread)))
    writer.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("quantization", choices=QUANTIZATIONS)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    part = given.out.with_suffix(".part")
    write(given.shape, given.quantization, part, given.seed)
    part.rename(given.out)
    print(f"{given.out}: {given.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
