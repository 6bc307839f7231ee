"""The texts that records are made of, as token ids, and the model they are for.

Owns which passages and prompts there are and how they become ids; knows nothing of any result.
"""

import os
from pathlib import Path

HERE = Path(__file__).parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "redoubt"
MODEL = CACHE / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
SEQUENCE_LEN_MAX = 512

CONVERSATIONS = [
    [
        {"role": "user", "content": "Can you help me plan a small vegetable garden?"},
        {"role": "assistant", "content": "Gladly! How much space do you have, and how much sun?"},
        {"role": "user", "content": "About ten square metres, sunny until two in the afternoon."},
        {
            "role": "assistant",
            "content": "Then start with three beds: tomatoes and basil in the sunniest one, beans "
            "and courgettes in the second, and lettuce, radishes and spinach in the third, which "
            "may get a little shade. Leave a path of forty centimetres between the beds.",
        },
        {"role": "user", "content": "What should I plant first, and when?"},
    ],
    [
        {"role": "system", "content": "You are a terse assistant who answers with code only."},
        {"role": "user", "content": "Sum the even numbers below n in Python."},
        {
            "role": "assistant",
            "content": "```python\ndef sum_even(n):\n    return sum(range(0, n, 2))\n```",
        },
        {"role": "user", "content": "Now the odd ones, and add a docstring."},
    ],
]


def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(MODEL.parent), gguf_file=MODEL.name)


def model():
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        str(MODEL.parent), gguf_file=MODEL.name, dtype=torch.float32
    ).eval()


def sequences(tokenizer):
    """Token ids of every passage and conversation, each at most SEQUENCE_LEN_MAX long."""
    texts = [path.read_text(encoding="utf-8") for path in sorted((HERE / "passages").glob("*.txt"))]
    texts += [
        tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=True)
        for talk in CONVERSATIONS
    ]
    return [tokenizer(text)["input_ids"][:SEQUENCE_LEN_MAX] for text in texts]


def prompts(tokenizer):
    """Pairs of a question and the ids of its rendered chat prompt."""
    lines = (HERE / "prompts.txt").read_text(encoding="utf-8").splitlines()
    for line in lines:
        messages = [{"role": "user", "content": line}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        yield line, tokenizer(text)["input_ids"]
