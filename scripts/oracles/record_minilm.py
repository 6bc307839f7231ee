"""Records what sentence-transformers computes in F32 for all-MiniLM-L6-v2: tests/oracles/minilm.json.

Per text its token ids, cut to the model's longest text, and its embedding.
Run: scripts/get-model minilm, then scripts/oracles/run record_minilm
"""

import json

import torch
from sentence_transformers import SentenceTransformer

import corpus

OUT = corpus.HERE.parent.parent / "tests" / "oracles" / "minilm.json"
MODEL = corpus.CACHE / "models" / "all-MiniLM-L6-v2"
TEXTS = [
    "",
    "a",
    "The ferry leaves at nine.",
    "A boat departs in the morning.",
    "The compiler rejects the program because a borrow outlives its owner.",
    "Wie komme ich mit dem Zug von Köln nach München, ohne in Frankfurt umzusteigen?",
    "Größe und Gewicht stehen auf dem Etikett; die Äpfel kosten 3,49 €.",
    "港の朝は早い。四時を過ぎると、小さな船が沖へ出ていく。",
    "今天天气很好，我们去公园散步吧。",
    "naïve café — crème brûlée, Ångström & São Tomé",
    "😀 👩‍👩‍👧‍👦 🎉 done!",
    "tab\tand\nlines\r\nand \u200bnothing\x00 at all",
    "x" * 150 + " is no word, 'counterrevolutionaries' is one",
    (corpus.HERE / "passages" / "soil.txt").read_text(encoding="utf-8").strip()[:700],
    (corpus.HERE / "passages" / "lighthouse.txt").read_text(encoding="utf-8").strip(),
]


def main():
    torch.manual_seed(0)
    model = SentenceTransformer(str(MODEL), device="cpu", local_files_only=True).float()
    lines = []
    for text in TEXTS:
        ids = model.preprocess([text])["input_ids"][0].tolist()
        embedding = model.encode([text], convert_to_numpy=True)[0]
        record = {"text": text, "ids": ids, "embedding": [float(f"{x:.8g}") for x in embedding]}
        lines.append(json.dumps(record, ensure_ascii=False))
        print(len(ids), "tokens,", repr(text[:40]))
    OUT.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
