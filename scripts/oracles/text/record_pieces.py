"""Trains two small SentencePiece BPE models on strings.py and records what SentencePiece makes of
strings.py with them: one with byte fallback and user-defined runs of white space, one without
bytes, whose unknown characters become one unknown token.
Run: scripts/oracles/text/run record_pieces
"""

import io
import json

import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as model_pb2

from places import RECORDS
from strings import CODE, ENGLISH, SCRIPTS, strings

MODELS = {
    "bytes": dict(
        vocab_size=1500, byte_fallback=True, user_defined_symbols=["▁▁", "▁▁▁▁", "\n\n", "<mark>"], add_dummy_prefix=True
    ),
    "unknown": dict(vocab_size=700, byte_fallback=False, add_dummy_prefix=False),
}


def main():
    texts = strings()
    # Trained on half of them and some characters: the rest brings what the model does not know.
    known = set("".join(ENGLISH + CODE + SCRIPTS[:6]))
    corpus = ["".join(c for c in line if c in known) for text in texts[::2] for line in text.splitlines() if "\x00" not in line and line.strip()]
    for name, options in MODELS.items():
        target = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(corpus), model_writer=target, model_type="bpe", character_coverage=1.0,
            normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
            allow_whitespace_only_pieces=True, num_threads=1, minloglevel=2, **options,
        )
        processor = sentencepiece.SentencePieceProcessor(model_proto=target.getvalue())
        model = model_pb2.ModelProto.FromString(target.getvalue())
        record = {
            "space_prefix": options["add_dummy_prefix"],
            "unknown": processor.unk_id(),
            "tokens": [piece.piece for piece in model.pieces],
            "kinds": [piece.type for piece in model.pieces],
            "scores": [piece.score for piece in model.pieces],
            # "<mark>" is text here, as it is in a request; SentencePiece would make it a token.
            "ids": [" ".join(map(str, processor.encode(text))) for text in texts],
        }
        path = RECORDS / f"pieces-{name}.json"
        path.write_text(json.dumps(record, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
        print(name, len(texts), path.stat().st_size)


main()
