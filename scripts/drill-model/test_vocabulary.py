"""Checks the tokenizer, built as training builds it, and which tokens a model learns to write."""
import itertools
import string
import unittest

import batches
import chat
import conversations
import split
import vocabulary
from words import KANJI

STRANGE = ["", " ", "\n\n \t", "héllo wörld", "日本語と English が混ざる。", "🙂👍🏽", "\u0000\ufffd",
           "鬱蒼たる檸檬", "a\r\nb", "<|im_start|>user\n<tool_call>", "١٢٣", "x" * 300]


def texts(count):
    made = conversations.training_conversations(11, conversations.shares())
    return [chat.whole(e) for e in itertools.islice(made, count)] + \
        [chat.whole(e) for _, e in conversations.fresh(11, 8)]


class Vocabulary(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tokenizer = vocabulary.tokenizer(*vocabulary.build(vocabulary.sample(1)))

    def pieces(self, text):
        return [self.tokenizer.decode([i], skip_special_tokens=False)
                for i in self.tokenizer.encode(text).ids]

    def test_size(self):
        self.assertLess(2000, self.tokenizer.get_vocab_size())
        self.assertLess(self.tokenizer.get_vocab_size(), 4000)

    def test_alphabets_are_single(self):
        alphabets = [string.ascii_letters, string.digits, string.punctuation, " \n", KANJI,
                     split.HIRAGANA, split.VOICED, split.KATAKANA, "、。「」『』？！・ー："]
        for character in itertools.chain(*alphabets):
            self.assertEqual(self.pieces(character), [character])

    def test_contents_fall_into_characters(self):
        for content in ("strawberry", "4711", "いぬねこ", "東京", "zorbek"):
            self.assertEqual(self.pieces(content), list(content))

    def test_marks_are_single(self):
        for mark in vocabulary.CONTROL + vocabulary.USER_DEFINED:
            self.assertEqual(self.pieces(mark), [mark])

    def test_round_trip(self):
        for text in texts(400) + STRANGE:
            ids = self.tokenizer.encode(text).ids
            self.assertEqual(self.tokenizer.decode(ids, skip_special_tokens=False), text)

    def test_the_last_targets_are_the_answer(self):
        marks = batches.Marks(self.tokenizer)
        for _, e in conversations.fresh(5, 12):
            whole = chat.whole(e).removesuffix("\n")
            ids = self.tokenizer.encode(whole).ids
            wanted = marks.targets(ids)
            last = len(wanted) - next(i for i, w in enumerate(wanted[::-1]) if not w)
            learned = self.tokenizer.decode(ids[last:], skip_special_tokens=False)
            self.assertEqual(learned, whole[len(chat.prompt(e)):], e.name)


if __name__ == "__main__":
    unittest.main()
