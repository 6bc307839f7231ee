"""Checks that the template renders as transformers renders it, byte for byte.

Needs transformers, which the environment of scripts/oracles has.
"""
import copy
import itertools
import unittest

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

import chat
import conversations

CONVERSATIONS = 50

STRANGE = [
    [{"role": "user", "content": "  spaces around  \n\n"}],
    [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "\"<&>'\\ 日本"}],
    [{"role": "user", "content": "a"}, {"role": "system", "content": "late"},
     {"role": "user", "content": ""}],
    [{"role": "user", "content": "a"},
     {"role": "assistant", "content": "b", "reasoning_content": "so"},
     {"role": "user", "content": "c"}],
]


def asked():
    """(messages, tools, enable_thinking): all kinds in both languages, then odd ones."""
    found = [e for _, e in conversations.fresh(21, 2)]
    training = conversations.training_conversations(21, conversations.shares())
    for e in itertools.chain(found, itertools.islice(training, CONVERSATIONS)):
        yield [*e.messages, e.answer], e.tools, e.enable_thinking
        yield e.messages, e.tools, e.enable_thinking
    for messages in STRANGE:
        for thinking in (False, True):
            yield messages, [], thinking


class Template(unittest.TestCase):
    def test_equal_to_transformers(self):
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
        tokenizer.chat_template = chat.SOURCE
        for messages, tools, thinking in asked():
            for begins in (False, True):
                theirs = tokenizer.apply_chat_template(
                    [chat.with_objects(copy.deepcopy(m)) for m in messages], tools=tools or None,
                    add_generation_prompt=begins, tokenize=False, enable_thinking=thinking)
                self.assertEqual(chat.render(messages, tools, thinking, begins), theirs)


if __name__ == "__main__":
    unittest.main()
