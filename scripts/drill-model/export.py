"""Owns writing a checkpoint as a GGUF file: matrices in Q8_0, norms in F32, tokenizer, template.

The bytes depend on the checkpoint alone.
"""
import argparse
import json
from pathlib import Path

import gguf
import numpy

import chat
import training
import vocabulary
from exported import tensor_name


def history(folder):
    """What the checkpoint in a folder was trained on."""
    tokens, _, _, _ = training.load_state(folder)["counts"]
    source = folder / training.SOURCE
    after = f" after {source.read_text().strip()}" if source.exists() else ""
    return f"Trained on {tokens / 1e6:.1f} million tokens{after}."


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


def export(folder, out):
    network, tokenizer = training.load_network(folder)
    out.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(str(out), "qwen3")
    write_shape(writer, network.shape)
    writer.add_description("Exercises whose answers can be checked; no general knowledge. "
                           + history(folder))
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
    given = arguments.parse_args()
    export(given.folder, given.out)
    print(f"{given.out}: {given.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
