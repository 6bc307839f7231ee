"""Owns greedy writing by the network in torch, many prompts at once.

Prompts are padded on the left; rotary positions are relative, so padding only has to be masked.
"""
import torch

ROWS_MAX = 48
PROMPT_TOKENS_MAX = 24_000


@torch.no_grad()
def _batch(network, prompts, tokens_max, end):
    device = network.embedding.weight.device
    width = max(map(len, prompts))
    tokens = torch.zeros(len(prompts), width, dtype=torch.long, device=device)
    seen = torch.zeros(len(prompts), width, dtype=torch.bool, device=device)
    for i, ids in enumerate(prompts):
        tokens[i, width - len(ids):] = torch.tensor(ids)
        seen[i, width - len(ids):] = True
    causal = torch.ones(width, width, dtype=torch.bool, device=device).tril()
    # A padded row sees itself, or softmax is not a number.
    own = torch.eye(width, dtype=torch.bool, device=device)
    mask = (causal & seen[:, None, :] | own)[:, None]
    past = [[] for _ in network.layers]
    hidden = network(tokens, mask, past)
    written = [[] for _ in prompts]
    running = torch.ones(len(prompts), dtype=torch.bool, device=device)
    for step in range(tokens_max):
        chosen = network.logits(hidden[:, -1]).argmax(-1)
        for i in running.nonzero().flatten().tolist():
            written[i].append(int(chosen[i]))
        running &= chosen != end
        if not running.any():
            break
        seen = torch.cat([seen, torch.ones_like(seen[:, :1])], 1)
        hidden = network(chosen[:, None], seen[:, None, None], past, width + step)
    return written


def write(network, prompts, tokens_max, end):
    """Token ids written after each prompt, `end` included where it came."""
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    written = [None] * len(prompts)
    while order:
        longest = len(prompts[order[-1]])
        count = max(1, min(ROWS_MAX, PROMPT_TOKENS_MAX // longest))
        taken, order = order[-count:], order[:-count]
        with torch.autocast(network.embedding.weight.device.type, torch.bfloat16):
            found = _batch(network, [prompts[i] for i in taken], tokens_max, end)
        for i, ids in zip(taken, found):
            written[i] = ids
    return written
