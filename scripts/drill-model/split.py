"""Owns the border between training and held-out draws.

Contents are drawn at random and belong to a side by their hash; wordings by their place in a list
(every fourth is held out) or in a list for training alone; tool names by hash. What is no content
is on both sides: single digits, everyday words among others, days, jobs, items, units, colours and
formats, the names of parameters and how they are given. A sum belongs to a side with its order:
3 + 14 may be held out while 14 + 3 is learnt.

The held-out wordings have been looked at while training wordings were added. A third list, unseen,
has not: nothing in training was chosen by answers to it.
Knows nothing of exercises or models.
"""
import functools
import hashlib
import random
import string
import unicodedata

import words

SYLLABLES = [c + v for c in "bcdfghjklmnpqrstvwxyz" for v in "aeiou"]
ENDINGS = ["", "", "n", "r", "s", "t", "l", "m", "k", "d", "sh", "ck", "ng", "x", "p"]
HIRAGANA = "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわをん"
VOICED = "がぎぐげござじずぜぞだぢづでどばびぶべぼぱぴぷぺぽっゃゅょ"
VOICED_KATAKANA = "ガギグゲゴザジズゼゾダヂヅデドバビブベボパピプペポッャュョー"
KATAKANA = "アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモヤユヨラリルレロワヲン"
HELD_OUT_ONE_IN = 4
# A table's lists of more wordings, none of which is held out: "en for training".
FOR_TRAINING = " for training"
# And those that only the card's last table is asked in: "en unseen".
UNSEEN = " unseen"
# And rows of parts that training puts wordings together from: "en composed".
COMPOSED = " composed"
COMPOSED_SHARE = 0.4
TRIES_MAX = 10_000
EVERYDAY = frozenset(words.GLUE + words.EVERYDAY)


def is_held_out(text):
    """Whether a content or name belongs to the held-out side."""
    return hashlib.sha256(text.encode()).digest()[0] % HELD_OUT_ONE_IN == 0


def wordings_of(table, language, held_out):
    """A side's wordings of a table; its list holds at least four."""
    last = HELD_OUT_ONE_IN - 1
    lines = [w for i, w in enumerate(table[language]) if (i % HELD_OUT_ONE_IN == last) == held_out]
    return lines if held_out else lines + table.get(language + FOR_TRAINING, [])


def bare(wording, named=True):
    """A wording without case, spaces and punctuation; without its fields' names, too, if not
    `named`. What stands for optional parts, {o}, is nothing."""
    text = "".join(f"{words}{{{field if named else ''}}}" if field not in (None, "o") else words
                   for words, field, _, _ in string.Formatter().parse(wording))
    text = unicodedata.normalize("NFKC", text).lower()
    return "".join(c for c in text if c.isalnum() or c in "{}+-")


BEFORE = ["Please ", "please ", "Hi! ", "Now ", "Hey, ", "Next: ", "Task: ", "OK. ", "Quick: ",
          "One more: ", "Then ", "Hello. ", "For my homework: ", "A question: ", "So, ", "Again: "]
AFTER = [" Thanks!", " thanks", " Thank you.", " Please.", " Just the answer.", " Be quick.",
         " Only the result, please.", " No explanation.", " That is all.", " ok?", " :)"]
BEFORE_JA = ["すみません、", "では、", "次：", "お願いします。", "質問です。", "ねえ、", "あの、", "もう一つ、", "こんにちは。",
             "急いで、", "それでは、"]
AFTER_JA = ["お願いします。", "ありがとう。", "答えだけ。", "説明はいりません。", "早く。", "よろしく。", "頼みます。", "以上です。"]
BARE_BEFORE, BARE_AFTER = ([bare(each) for each in both]
                           for both in (BEFORE + BEFORE_JA, AFTER + AFTER_JA))


def within(wording):
    """A bare wording, and what is left of it without what may stand before and after one."""
    found = {bare(wording)}
    for each in BARE_BEFORE:
        found |= {text.removeprefix(each) for text in found}
    for each in BARE_AFTER:
        found |= {text.removesuffix(each) for text in found}
    return found


@functools.cache
def _never_learnt(wordings):
    return set().union(*map(within, wordings)) | set(map(bare, wordings))


class Draw:
    """A seeded source of contents, wordings and names of one side and language. `unseen`: in
    unseen wordings, where there are any."""

    def __init__(self, seed, held_out, language, unseen=False):
        self.rng = random.Random(f"{seed}/{held_out}/{language}")
        self.held_out = held_out
        self.language = language
        self.unseen = unseen

    @property
    def japanese(self):
        return self.language == "ja"

    def chance(self, share):
        return self.rng.random() < share

    def of(self, english, japanese):
        """What fits the language."""
        return japanese if self.japanese else english

    def from_side(self, make):
        """The first of `make()`'s values whose text belongs to this side."""
        for _ in range(TRIES_MAX):
            value = make()
            if is_held_out(str(value)) == self.held_out:
                return value
        raise RuntimeError("no content of this side found")

    def pick(self, entries):
        """An entry of this side out of a plain list."""
        return self.from_side(lambda: self.rng.choice(entries))

    def invented(self):
        """A word of syllables or of letters that no list holds."""
        rng = self.rng

        def any_word():
            if rng.random() < 0.25:
                return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(3, 9)))
            return "".join(rng.choices(SYLLABLES, k=rng.randint(1, 3))) + rng.choice(ENDINGS)

        def make():
            # Everyday words stand alone in training.
            return next(word for word in iter(any_word, None) if word not in EVERYDAY)
        return self.from_side(make)

    def latin(self):
        """A word in Latin letters: real or invented."""
        return self.pick(words.ENGLISH) if self.chance(0.4) else self.invented()

    def characters(self):
        """A run of two to six kana or of one to four ideographs."""
        rng = self.rng
        if rng.random() < 0.3:
            alphabet, least, most = words.KANJI, 1, 4
        else:
            alphabets = [HIRAGANA, HIRAGANA + VOICED, KATAKANA, KATAKANA + VOICED_KATAKANA]
            alphabet = rng.choices(alphabets, [4, 3, 2, 2])[0]
            least, most = 2, 6
        return self.from_side(lambda: "".join(rng.choices(alphabet, k=rng.randint(least, most))))

    def word(self):
        """A word of this language; one in five in Japanese is in Latin letters."""
        if not self.japanese or self.chance(0.2):
            return self.latin()
        return self.pick(words.JAPANESE) if self.chance(0.4) else self.characters()

    def everyday(self):
        """A word that stands among others on both sides: a small one or one that people type."""
        return self.rng.choice(words.GLUE if self.chance(0.5) else words.EVERYDAY)

    def words(self, least, most, make=None):
        """Different words, between `least` and `most` of them."""
        count = self.rng.randint(least, most)
        found = []
        while len(found) < count:
            word = (make or self.word)()
            if word not in found:
                found.append(word)
        return found

    def digits(self, least, most):
        """A number of `least` to `most` digits, as text. Single digits belong to both sides."""
        rng = self.rng
        count = rng.randint(least, most)
        if count == 1:
            return str(rng.randint(1, 9))
        return self.from_side(lambda: str(rng.randint(1, 9)) + "".join(
            rng.choices(string.digits, k=count - 1)))

    def name(self):
        """A person's name."""
        if self.japanese:
            return self.pick(words.NAMES_JA) if self.chance(0.6) else self.characters()
        return self.pick(words.NAMES) if self.chance(0.5) else self.invented().capitalize()

    def city(self):
        """A city's name."""
        if self.japanese:
            return self.pick(words.CITIES_JA) if self.chance(0.6) else self.characters()
        return self.pick(words.CITIES) if self.chance(0.5) else self.invented().capitalize()

    def wording(self, table):
        """One of this side's wordings in this language."""
        if self.unseen and self.language + UNSEEN in table:
            return self.rng.choice(table[self.language + UNSEEN])
        rows = table.get(self.language + COMPOSED)
        if rows and not self.held_out and self.chance(COMPOSED_SHARE):
            return self.composed(table, rows)
        return self.rng.choice(wordings_of(table, self.language, self.held_out))

    def composed(self, table, rows):
        """A wording of parts that has no held-out and no unseen one in it, and is no part of one,
        whatever stands before and after."""
        others = wordings_of(table, self.language, True) + table.get(self.language + UNSEEN, [])
        never = _never_learnt(tuple(others))
        whole = [bare(other) for other in others]
        for _ in range(TRIES_MAX):
            text = "".join(self.rng.choice(column) for column in self.rng.choice(rows))
            found = bare(text)
            if not (within(text) & never or any(other in found for other in whole)):
                return text[0].upper() + text[1:] if self.chance(0.8) else text
        raise RuntimeError("no wording of this side found")
