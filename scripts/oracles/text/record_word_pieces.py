"""Records token ids of strings.py, and of strings for WordPiece alone, by the tokenizers library
with all-MiniLM-L6-v2's tokenizer.json: neither cut nor padded, control tokens in text taken as text.

tokens-minilm.txt: per string of strings.py the CRC-32 of its ids as little-endian 32-bit numbers.
word-pieces.json: of the other strings the text and the ids themselves.
Run: scripts/get-model minilm, then scripts/oracles/text/run record_word_pieces
"""

import json
import struct
import zlib

import tokenizers

from places import CACHE, RECORDS
from strings import strings

OWN = [
    "", " ", "hello", "Hello, World!", "unaffable embeddings", "don't stop", "C'est l'été à Orléans",
    "ÀÉÎÕÜ àéîõü ñ ç ß ẞ İ ı ﬁ", "e\u0301 a\u0308\u0323 o\u0302\u0301 \u0301", "Å \u212b ⅷ Ⅷ ǅ",
    "日本語のテキストと漢字", "中文，没有空格。", "한국어 문장입니다", "がぎぐ か\u3099き\u3099", "\U00020000\U0002b820\U0002f800",
    "😀 🤣👩‍👧 🇩🇪", "a😀b", "x" * 99, "x" * 100, "x" * 101, "é" * 100, "e\u0301" * 100, "字" * 120, "embedding" * 11, "embedding" * 12,
    "a\u0000b\ufffdc\u200bd\u00ade\u2028f\u0085g\u00a0h", "tab\tline\nline\r\nend", "[CLS] [SEP] [MASK] [PAD] [UNK]",
    "[unused1] ##ing ## # #ing", "snake_case $100 50% a+b=c <tag> `code` ^ ~ |", "…—–‘’“”„«»¿¡§¶†‡•", "١٢٣ १२३ ๑๒๓ 123",
    "Привет, мир! Ёлка", "Γειά σου Κόσμε ΑΣ ς", "שלום עולם", "مرحبا بالعالم", "नमस्ते दुनिया", "สวัสดีชาวโลก", "Tiếng Việt ằ ẵ",
]


def main():
    tokenizer = tokenizers.Tokenizer.from_file(str(CACHE / "models" / "all-MiniLM-L6-v2" / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    ids = [tokenizer.encode(text).ids for text in strings()]
    lines = [f"{zlib.crc32(struct.pack(f'<{len(row)}I', *row)):08x}" for row in ids]
    (RECORDS / "tokens-minilm.txt").write_text("\n".join(lines) + "\n")
    own = [json.dumps([text, tokenizer.encode(text).ids], ensure_ascii=False) for text in OWN]
    (RECORDS / "word-pieces.json").write_text("[\n" + ",\n".join(own) + "\n]\n", encoding="utf-8")


main()
