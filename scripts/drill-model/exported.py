"""Owns the names of an exported model's tensors, and reading it back into a network, to go on from
it.

A run that goes on from a model keeps its tokens. Where a vocabulary was made anew all the same, a
token that both know keeps its row, another one begins as the mean of the rows of its characters.
"""
import gguf
import torch

NAMES = {"attn_norm": "attn_norm", "ffn_norm": "ffn_norm", "q_norm": "attn_q_norm",
         "k_norm": "attn_k_norm", "q": "attn_q", "k": "attn_k", "v": "attn_v",
         "o": "attn_output", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down"}


def tensor_name(name):
    """GGUF's name of a parameter."""
    if name == "embedding.weight":
        return "token_embd.weight"
    if name == "norm.weight":
        return "output_norm.weight"
    _, layer, part, _ = name.split(".")
    return f"blk.{layer}.{NAMES[part]}.weight"


def tokens_of(path):
    """(tokens in order of id, merges) of a GGUF file."""
    fields = gguf.GGUFReader(str(path)).fields

    def listed(name):
        field = fields[f"tokenizer.ggml.{name}"]
        return [bytes(field.parts[i]).decode() for i in field.data]
    return listed("tokens"), [merge.split(" ") for merge in listed("merges")]


def begin_from(path, network, tokenizer):
    """Sets a network's parameters to those of a GGUF file; how many tokens both know.

    ValueError: the file is of another shape.
    """
    reader = gguf.GGUFReader(str(path))
    tensors = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    field = reader.fields["tokenizer.ggml.tokens"]
    rows = {bytes(field.parts[i]).decode(): row for row, i in enumerate(field.data)}
    known = 0
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            values = torch.from_numpy(tensors[tensor_name(name)].copy()).float()
            if name == "embedding.weight":
                known = _set_rows(parameter, values, rows, tokenizer)
            elif values.shape != parameter.shape:
                raise ValueError(f"{path}: {name} has the shape {list(values.shape)}, "
                                 f"not {list(parameter.shape)}")
            else:
                parameter.copy_(values)
    return known


def _set_rows(embedding, values, rows, tokenizer):
    known = 0
    for id_ in range(embedding.shape[0]):
        token = tokenizer.id_to_token(id_)
        if token in rows:
            embedding[id_] = values[rows[token]]
            known += 1
            continue
        letters = [rows[letter] for letter in token if letter in rows]
        if letters:
            embedding[id_] = values[letters].mean(0)
    return known
