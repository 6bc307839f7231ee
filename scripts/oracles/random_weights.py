"""Weights out of a counter, byte for byte what tests/src/random_weights.rs makes.

Word k of a stream is splitmix64's output for seed + (k + 1) * GOLDEN; a tensor's seed is FNV-1a of
"model/tensor". Floats take 24 bits of one word each. Quantized blocks are random bytes whose f16
scale fields are replaced by sane ones, so every type has a reference without a quantizer.
"""

import numpy as np

GOLDEN = np.uint64(0x9E37_79B9_7F4A_7C15)
SCALE_STREAM = np.uint64(1 << 40)

# name: (elements, bytes, scale field, minimum field, scale factor, minimum over scale).
# The factors give every type about the same spread; the minima centre it.
BLOCKS = {
    "Q4_0": (32, 18, 0, None, 0.125, 0.0),
    "Q4_1": (32, 20, 0, 2, 0.125, -7.5),
    "Q5_0": (32, 22, 0, None, 0.0625, 0.0),
    "Q5_1": (32, 24, 0, 2, 0.0625, -15.5),
    "Q8_0": (32, 34, 0, None, 0.0078125, 0.0),
    "Q2_K": (256, 84, 80, 82, 0.0416, 1.5),
    "Q3_K": (256, 110, 108, None, 0.0134, 0.0),
    "Q4_K": (256, 144, 0, 2, 0.00226, 7.5),
    "Q5_K": (256, 176, 0, 2, 0.0011, 15.5),
    "Q6_K": (256, 210, 208, None, 0.00042, 0.0),
}


def seed(name: str) -> np.uint64:
    value = 0xCBF2_9CE4_8422_2325
    for byte in name.encode():
        value = ((value ^ byte) * 0x0000_0100_0000_01B3) & 0xFFFF_FFFF_FFFF_FFFF
    return np.uint64(value)


def words(seed: np.uint64, first: np.uint64, count: int) -> np.ndarray:
    with np.errstate(over="ignore"):
        z = seed + (np.arange(count, dtype=np.uint64) + first + np.uint64(1)) * GOLDEN
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58_476D_1CE4_E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D0_49BB_1331_11EB)
        return z ^ (z >> np.uint64(31))


def floats(name: str, count: int, base: float, spread: float) -> np.ndarray:
    """base + spread * u with u uniform in [-1, 1), in f32 arithmetic."""
    drawn = (words(seed(name), np.uint64(0), count) >> np.uint64(40)).astype(np.float32)
    unit = (drawn - np.float32(1 << 23)) * np.float32(2.0**-23)
    return np.float32(base) + np.float32(spread) * unit


def encoded(name: str, count: int, dtype: str, spread: float) -> np.ndarray:
    """The bytes of `count` elements of a type."""
    if dtype == "F32":
        return floats(name, count, 0.0, spread).view(np.uint8)
    if dtype == "F16":
        return floats(name, count, 0.0, spread).astype(np.float16).view(np.uint8)
    if dtype == "BF16":
        bits = floats(name, count, 0.0, spread).view(np.uint32) >> np.uint32(16)
        return bits.astype(np.uint16).view(np.uint8)
    block_len, block_bytes, scale_at, min_at, factor, min_ratio = BLOCKS[dtype]
    blocks = count // block_len
    drawn = words(seed(name), np.uint64(0), -(-blocks * block_bytes // 8)).view(np.uint8)
    out = drawn[: blocks * block_bytes].reshape(blocks, block_bytes).copy()
    if dtype == "Q8_0":
        out[out == 0x80] = 0x81  # quantizers never write -128
    unit = (words(seed(name), SCALE_STREAM, blocks) >> np.uint64(41)).astype(np.float32)
    unit = unit * np.float32(2.0**-23) + np.float32(0.5)
    scale = (np.float32(spread) * np.float32(factor) * unit).astype(np.float16)
    out[:, scale_at : scale_at + 2] = scale.view(np.uint8).reshape(blocks, 2)
    if min_at is not None:
        least = (scale.astype(np.float32) * np.float32(min_ratio)).astype(np.float16)
        out[:, min_at : min_at + 2] = least.view(np.uint8).reshape(blocks, 2)
    return out.reshape(-1)


def decoded(name: str, shape, dtype: str, spread: float) -> np.ndarray:
    """The same elements as F32, decoded by the gguf package."""
    import gguf

    data = encoded(name, int(np.prod(shape)), dtype, spread).reshape(shape[0], -1)
    if dtype in ("F32", "F16"):
        return data.view(np.float32 if dtype == "F32" else np.float16).astype(np.float32)
    return gguf.quants.dequantize(data, gguf.GGMLQuantizationType[dtype]).astype(np.float32)
