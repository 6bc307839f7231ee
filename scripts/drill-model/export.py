"""Owns writing a checkpoint as a GGUF file: matrices in Q8_0, norms in F32, tokenizer, template;
and one entry about its run in training.toml beside that. With --average, its weights are mixed with
those of another model of the same shape and tokens: what a run that went on from a model has learnt
and what it has lost lie on a line, and between the ends more is right than at either.

The bytes depend on the checkpoint and that model alone.
"""
import argparse
import hashlib
import json
from pathlib import Path

import gguf
import numpy
import torch

import chat
import exported
import training
import vocabulary
from exported import tensor_name
from model import Drill


def history(folder):
    """(what the run in a folder was begun with, its tokens, its seconds)"""
    tokens, _, seconds, _ = training.load_state(folder)["counts"]
    return json.loads((folder / training.BEGUN).read_text()), tokens, seconds


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def described(folder):
    begun, tokens, _ = history(folder)
    after = f" after a model of SHA-256 {begun['from']}" if begun["from"] else ""
    return f"Trained on {tokens / 1e6:.1f} million tokens{after}."


def averaged(network, tokenizer, other, share):
    """Mixes a share of another model's weights into a network."""
    theirs = Drill(network.shape)
    exported.begin_from(other, theirs, tokenizer)
    with torch.no_grad():
        for ours, their in zip(network.parameters(), theirs.parameters()):
            ours.lerp_(their, share)


def record(folder, out, average):
    """Adds the run to the file that says how the model came about; one from nothing begins it."""
    begun, tokens, seconds = history(folder)
    path = out.parent / "training.toml"
    text = path.read_text() if begun["from"] and path.exists() else HISTORY
    sha256 = digest(out)
    if sha256 in text:
        return
    rate = f"rate = {begun['rate']}\n" if begun.get("rate") else ""
    text += f'\n[[run]]\nfrom = "{begun["from"] or "nothing"}"\nseed = {begun["seed"]}\n' \
        f"{rate}tokens = {tokens}\nminutes = {seconds / 60:.0f}\n"
    if average:
        other, share = average
        text += f'averaged_with = "{digest(other)}"\nshare_of_that = {share}\n'
    text += f'sha256 = "{sha256}"\n'
    path.write_text(text)


HISTORY = """# How the drill model came about, one run of scripts/drill-model/train after the other, each from
# the model before it; scripts/drill-model/export.py adds to it.
"""


def write_shape(writer, shape):
    writer.add_name("Redoubt drill model")
    writer.add_author("The Redoubt project")
    writer.add_license("Apache-2.0")
    writer.add_block_count(shape.layers)
    writer.add_embedding_length(shape.width)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)
    writer.add_context_length(shape.context)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)


def write_vocabulary(writer, tokenizer):
    model = json.loads(tokenizer.to_str())["model"]
    tokens = [tokenizer.id_to_token(i) for i in range(tokenizer.get_vocab_size())]
    kinds = [gguf.TokenType.CONTROL if t in vocabulary.CONTROL else
             gguf.TokenType.USER_DEFINED if t in vocabulary.USER_DEFINED else
             gguf.TokenType.NORMAL for t in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.PRE)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    end, text_end = (tokenizer.token_to_id(t) for t in ("<|im_end|>", "<|endoftext|>"))
    writer.add_bos_token_id(text_end)
    writer.add_eos_token_id(end)
    writer.add_pad_token_id(text_end)
    writer.add_add_bos_token(False)
    writer.add_chat_template(chat.SOURCE)


def export(folder, out, average=None):
    """`average`: (a model's file, its share)"""
    network, tokenizer = training.load_network(folder)
    if average:
        averaged(network, tokenizer, *average)
    out.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(str(out), "qwen3")
    write_shape(writer, network.shape)
    writer.add_description("Exercises whose answers can be checked; no general knowledge. "
                           + described(folder))
    write_vocabulary(writer, tokenizer)
    for name, parameter in network.named_parameters():
        values = parameter.detach().float().numpy().astype(numpy.float32)
        kind = gguf.GGMLQuantizationType.F32
        if values.ndim == 2:
            kind = gguf.GGMLQuantizationType.Q8_0
            values = gguf.quants.quantize(values, kind)
        writer.add_tensor(tensor_name(name), values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--folder", type=Path, required=True, help="where the checkpoint lies")
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--average", type=Path, metavar="GGUF", help="mix with this model")
    arguments.add_argument("--share", type=float, default=0.5, help="of that model in the mix")
    given = arguments.parse_args()
    average = (given.average, given.share) if given.average else None
    export(given.folder, given.out, average)
    record(given.folder, given.out, average)
    print(f"{given.out}: {given.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
