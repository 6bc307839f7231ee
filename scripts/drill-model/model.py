"""Owns the network: Qwen3's shape, small. RMSNorm, normalised q and k per head, grouped queries,
rotary positions (halves), SwiGLU, no biases, tied embeddings.

Knows nothing of data, schedules or files.
"""
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass
class Shape:
    vocabulary: int
    width: int = 256
    layers: int = 5
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 64
    feed_forward: int = 512
    rope_base: float = 100_000.0
    norm_epsilon: float = 1e-6
    context: int = 8192


class Norm(nn.Module):
    def __init__(self, width, epsilon):
        super().__init__()
        self.weight, self.epsilon = nn.Parameter(torch.ones(width)), epsilon

    def forward(self, x):
        scale = x.float().pow(2).mean(-1, keepdim=True).add(self.epsilon).rsqrt()
        return (x * scale * self.weight).to(x.dtype)


def turns(count, shape):
    """Cosines and sines of all positions: (tokens, head_dim / 2) each."""
    half = shape.head_dim // 2
    frequency = shape.rope_base ** (-torch.arange(half, dtype=torch.float32) / half)
    angle = torch.arange(count, dtype=torch.float32)[:, None] * frequency
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    """x: (batch, heads, tokens, head_dim)"""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


# Up to here plain products are faster on a CPU than the fused kernel.
PLAIN_TOKENS_MAX = 640


def attend(q, k, v, mask=None):
    """Causal attention. q: (batch, heads, tokens, head_dim), k and v: fewer heads, maybe longer.

    mask: true where a token is seen, (batch, 1, tokens, keys); none means all before.
    """
    batch, heads, tokens, width = q.shape
    if mask is not None or tokens > PLAIN_TOKENS_MAX:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None,
                                              enable_gqa=True)
    q = q.reshape(batch, k.shape[1], -1, width) * width ** -0.5
    scores = (q @ k.transpose(-1, -2)).view(batch, heads, tokens, tokens)
    later = torch.full((tokens, tokens), float("-inf"), dtype=q.dtype, device=q.device).triu(1)
    seen = (scores + later).softmax(-1).view(batch, k.shape[1], -1, tokens).to(v.dtype)
    return (seen @ v).view(batch, heads, tokens, width)


class Layer(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.s = s
        self.attn_norm, self.ffn_norm = (Norm(s.width, s.norm_epsilon) for _ in range(2))
        self.q_norm, self.k_norm = (Norm(s.head_dim, s.norm_epsilon) for _ in range(2))
        self.q = nn.Linear(s.width, s.heads * s.head_dim, bias=False)
        self.k = nn.Linear(s.width, s.kv_heads * s.head_dim, bias=False)
        self.v = nn.Linear(s.width, s.kv_heads * s.head_dim, bias=False)
        self.o = nn.Linear(s.heads * s.head_dim, s.width, bias=False)
        self.gate = nn.Linear(s.width, s.feed_forward, bias=False)
        self.up = nn.Linear(s.width, s.feed_forward, bias=False)
        self.down = nn.Linear(s.feed_forward, s.width, bias=False)
        nn.init.zeros_(self.o.weight)
        nn.init.zeros_(self.down.weight)

    def forward(self, x, rope, mask=None, past=None):
        """x: (batch, tokens, width); past: keys and values so far, which are extended."""
        def split(y):
            return y.unflatten(-1, (-1, self.s.head_dim)).transpose(1, 2)
        h = self.attn_norm(x)
        q = rotate(self.q_norm(split(self.q(h))), *rope)
        k = rotate(self.k_norm(split(self.k(h))), *rope)
        v = split(self.v(h))
        q, k = q.to(v.dtype), k.to(v.dtype)
        if past is not None:
            if past:
                k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
            past[:] = [k, v]
        y = attend(q, k, v, mask)
        x = x + self.o(y.transpose(1, 2).flatten(2))
        h = self.ffn_norm(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Drill(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = Norm(shape.width, shape.norm_epsilon)
        nn.init.normal_(self.embedding.weight, std=0.02)
        cos, sin = turns(shape.context, shape)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, tokens, mask=None, past=None, start=0):
        """tokens: (batch, tokens) -> hidden: (batch, tokens, width), normed for the head"""
        end = start + tokens.shape[1]
        rope = self.cos[start:end], self.sin[start:end]
        x = self.embedding(tokens)
        for i, layer in enumerate(self.layers):
            x = layer(x, rope, mask, None if past is None else past[i])
        return self.norm(x)

    def logits(self, hidden):
        return hidden @ self.embedding.weight.T
