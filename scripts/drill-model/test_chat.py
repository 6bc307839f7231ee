"""Checks the model's text: a prompt begins its whole text, calls are JSON, and a right answer as
the model would write it is read back as the message that its exercise wants.
"""
import itertools
import json
import unittest

import chat
import conversations

DRAWS = 40


def everything():
    """Fresh exercises of all kinds and conversations as trained on."""
    yield from (e for _, e in conversations.fresh(3, DRAWS))
    yield from itertools.islice(
        conversations.training_conversations(3, conversations.shares()), 1000)


class Text(unittest.TestCase):
    def test_prompt_begins_the_whole(self):
        for e in everything():
            prompt, whole = chat.prompt(e), chat.whole(e)
            self.assertTrue(whole.startswith(prompt), e.name)
            self.assertTrue(whole.endswith("<|im_end|>\n"), e.name)
            self.assertEqual(prompt.endswith("<think>\n"), e.enable_thinking)
            self.assertEqual(whole.count("<|im_start|>"), whole.count("<|im_end|>"))

    def test_answers_read_back(self):
        for e in everything():
            written = chat.whole(e)[len(chat.prompt(e)):].removesuffix("\n")
            message = chat.message(written, e.enable_thinking)
            self.assertTrue(e.check(message), (e.name, written))

    def test_calls_are_json(self):
        seen = 0
        for e in everything():
            answered = chat.whole(e)[len(chat.prompt(e)):]
            bodies = [b.split("\n</tool_call>")[0] for b in answered.split("<tool_call>\n")[1:]]
            calls = [c["function"] for c in e.answer.get("tool_calls") or []]
            self.assertEqual(len(bodies), len(calls))
            for body, call in zip(bodies, calls):
                read = json.loads(body)
                self.assertEqual(read["name"], call["name"])
                self.assertEqual(read["arguments"], json.loads(call["arguments"]))
                seen += 1
        self.assertGreater(seen, DRAWS)

    def test_broken_calls_stay_text(self):
        for text in ('<tool_call>\n{"name": ', '<tool_call>\n{"name": "f"}\n</tool_call>',
                     "<tool_call>\n[]\n</tool_call>"):
            message = chat.message(text + "<|im_end|>", False)
            self.assertFalse(message["tool_calls"], text)
            self.assertIn("<tool_call>", message["content"])


if __name__ == "__main__":
    unittest.main()
