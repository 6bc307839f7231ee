"""Records token ids of strings.py by llama.cpp, on published vocabularies and on SmolLM2.

Per vocabulary one line per string: the CRC-32 of its ids as little-endian 32-bit numbers. For
SmolLM2 and for Llama's SentencePiece the ids themselves.
Run: scripts/oracles/text/run record_tokens
"""

import json
import pathlib
import struct
import sys
import zlib

import llama_cpp

from places import CACHE, PACKAGE, RECORDS
from strings import strings

FULL = {"smollm2"}
VOCABULARIES = [
    "aquila", "baichuan", "command-r", "deepseek-coder", "deepseek-llm", "falcon", "gpt-2", "gpt-neox", "llama-bpe",
    "llama-spm", "mpt", "phi-3", "qwen2", "qwen35", "refact", "starcoder",
]


def main():
    texts = strings()
    RECORDS.mkdir(parents=True, exist_ok=True)
    (RECORDS / "strings.json").write_text(json.dumps(texts, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    files = {name: PACKAGE / "models" / f"ggml-vocab-{name}.gguf" for name in VOCABULARIES}
    files["smollm2"] = CACHE / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    for name, path in files.items():
        model = llama_cpp.Llama(model_path=str(path), vocab_only=True, verbose=False)
        ids = [model.tokenize(text.encode("utf-8"), add_bos=False, special=False) if text else [] for text in texts]
        if name in FULL:
            lines = [" ".join(map(str, row)) for row in ids]
        else:
            lines = [f"{zlib.crc32(struct.pack(f'<{len(row)}I', *row)):08x}" for row in ids]
        (RECORDS / f"tokens-{name}.txt").write_text("\n".join(lines) + "\n")
        print(name, len(texts), "strings,", sum(map(len, ids)), "tokens", file=sys.stderr)


main()
