"""Owns the plain exercises: what is asked, the right answer, its check.

An exercise yields OpenAI-style messages, tools, enable_thinking, the answer to learn, and
`check(message)`, true for a right assistant message as the API gives it. The same checks serve
training, evaluation and the evaluation through the served API.
"""
from dataclasses import dataclass, field
from typing import Callable

import wordings
import words
from split import AFTER, AFTER_JA, BEFORE, BEFORE_JA, Draw


@dataclass
class Exercise:
    """One drawn exercise. `reasoning` is what a thinking block may say before the answer."""
    name: str
    language: str
    messages: list
    answer: dict
    check: Callable[[dict], bool]
    reasoning: str = ""
    tools: list = field(default_factory=list)
    enable_thinking: bool = False


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def says(expected):
    """The check that a message is this text and calls nothing."""
    return lambda message: (message.get("content") or "").strip() == expected \
        and not message.get("tool_calls")


def plain(name, draw, prompt, expected, reasoning):
    """One question, one exact answer."""
    return Exercise(name, draw.language, [user(prompt)], assistant(expected), says(expected),
                    reasoning)


QUOTES = ["{}", "{}", "{}", "'{}'", '"{}"']
QUOTES_JA = ["{}", "{}", "「{}」", "「{}」", "『{}』", '"{}"']


def quoted(draw, text):
    return draw.rng.choice(draw.of(QUOTES, QUOTES_JA)).format(text)


LOOSE_ONE_IN = 12
# In training more loosely: what is around a wording must not matter.
LOOSE_ONE_IN_TRAINING = 3


def ask(draw, table, **contents):
    """A wording with its contents, now and then polite or typed carelessly."""
    wording = draw.wording(table)
    loose = LOOSE_ONE_IN if draw.held_out else LOOSE_ONE_IN_TRAINING
    if draw.chance(1 / loose) and (not draw.japanese or not draw.held_out):
        before = BEFORE[:4] if draw.held_out else draw.of(BEFORE, BEFORE_JA)
        wording = draw.rng.choice(before) + wording
    elif draw.chance(1 / loose) and wording[-1] in ".?。？":
        wording = wording[:-1]
    if not draw.held_out and draw.chance(1 / loose) and wording[-1] != "}":
        wording += draw.rng.choice(draw.of(AFTER, AFTER_JA))
    return wording.format(**contents)


def phrase(draw, least, most):
    """Words in a row, at times a number after them; or joined by others, as in a sentence."""
    found = draw.words(least, most)
    if draw.chance(0.2):
        found.append(draw.digits(1, 4))
    if draw.chance(0.35 if draw.held_out else 0.5):
        return _sentence(draw, found)
    return " ".join(found)


def _sentence(draw, found):
    if draw.japanese:
        return "".join(word + draw.rng.choice(words.GLUE_JA) for word in found)
    return " ".join(_with_everyday(draw, found))


def _with_everyday(draw, found):
    """Words with everyday English ones between them."""
    for _ in range(draw.rng.randint(1, 4)):
        found.insert(draw.rng.randint(0, len(found)), draw.everyday())
    return found


def repeat(draw):
    x = phrase(draw, 1, 6)
    if draw.chance(0.3):
        x = x.capitalize() + draw.of(draw.rng.choice(".!?"), draw.rng.choice("。！"))
    return plain("repeat", draw, ask(draw, wordings.REPEAT, x=quoted(draw, x)), x,
                 draw.of(f"The text is {x}", f"文は {x}"))


# Share, in training, of everyday words where a word's letters count.
EVERYDAY_SHARE = 0.15


def _letters(draw):
    """A word of this language whose letters count. Everyday words are for training alone here."""
    if not draw.held_out and not draw.japanese and draw.chance(EVERYDAY_SHARE):
        return draw.everyday()
    return draw.word()


def reverse(draw):
    x = _letters(draw) if draw.chance(0.9) else draw.digits(3, 6)
    return plain("reverse", draw, ask(draw, wordings.REVERSE, x=quoted(draw, x)), x[::-1],
                 " ".join(x) + " -> " + " ".join(x[::-1]))


def sort(draw):
    style = draw.rng.random()
    if style < 0.55:
        numbers = draw.words(3, 6, lambda: draw.digits(1, draw.rng.choice([1, 2, 2, 2, 3])))
        table = wordings.SORT_NUMBERS if style < 0.4 else wordings.SORT_DOWN
        found, key = numbers, lambda n: int(n)
    else:
        table, found, key = wordings.SORT_WORDS, draw.words(3, 5, _sortable(draw)), None
    in_order = sorted(found, key=key, reverse=table is wordings.SORT_DOWN)
    glue = draw.rng.choice([", ", ", ", " "]) if not draw.japanese \
        else draw.rng.choice(["、", "、", ", ", " "])
    return plain("sort", draw, ask(draw, table, x=glue.join(found)), glue.join(in_order),
                 draw.of("In order: ", "順番：") + " < ".join(sorted(found, key=key)))


def _sortable(draw):
    """English words sort by alphabet, Japanese ones by plain kana."""
    if not draw.japanese:
        return lambda: _letters(draw)

    def kana():
        while True:
            word = draw.word()
            if all("ぁ" <= c <= "ん" for c in word):
                return word
    return kana


def count(draw):
    style = draw.rng.random()
    if style < 0.35:
        found = draw.words(1, 10)
        if not draw.japanese and len(found) < 8 and draw.chance(0.3):
            found = _with_everyday(draw, found)
        x, table = " ".join(found), wordings.COUNT_WORDS
    elif style < 0.7:
        x, table = _letters(draw), wordings.COUNT_LETTERS
        found, x = list(x), quoted(draw, x)
    else:
        found = draw.words(2, 10, draw.word if draw.chance(0.5) else lambda: draw.digits(1, 2))
        x, table = draw.of(", ", "、").join(found), wordings.COUNT_ITEMS
    numbered = ", ".join(f"{i}: {item}" for i, item in enumerate(found, 1))
    return plain("count", draw, ask(draw, table, x=x), str(len(found)), numbered)


def change_case(draw):
    found = draw.words(1, 4, draw.latin)
    if draw.chance(0.35 if draw.held_out else 0.5):
        found = _with_everyday(draw, found)
    cases = [(wordings.UPPER, str.upper), (wordings.LOWER, str.lower), (wordings.TITLE, str.title)]
    table, change = draw.rng.choices(cases, [5, 2, 2])[0]
    start = str.upper if table is wordings.LOWER and draw.chance(0.7) else \
        draw.rng.choice([str.lower, str.lower, str.title])
    x = start(" ".join(found))
    return plain("case", draw, ask(draw, table, x=quoted(draw, x)), change(x),
                 draw.of(f"The text is {x}", f"文は {x}"))


def arithmetic(draw, digits_max=2):
    rng = draw.rng

    def make():
        a, b = (rng.randint(0, 10 ** rng.randint(1, digits_max) - 1) for _ in range(2))
        return a, b, rng.random() < 0.5
    a, b, adds = draw.from_side(make)
    result = a + b if adds else a - b
    table = wordings.ADD if adds else wordings.SUBTRACT
    prompt = ask(draw, table, a=a, b=b)
    # The whole equation: it says how the question was understood.
    equation = f"{a} {'+' if adds else '-'} {b} = {result}"
    return Exercise("arithmetic", draw.language, [user(prompt)], assistant(equation),
                    says(equation), _steps(a, b, adds))


def _steps(a, b, adds):
    """Tens, then ones: `24 + 38: 24 + 30 = 54, 54 + 8 = 62`."""
    sign, unit = ("+", 1) if adds else ("-", -1)
    tens, ones = b - b % 10, b % 10
    middle = a + unit * tens
    return f"{a} {sign} {tens} = {middle}, {middle} {sign} {ones} = {middle + unit * ones}"


def _lower(draw):
    return draw.latin().lower()


# What may be asked again of another word: wordings, words, the right answer.
AGAIN = [(wordings.REVERSE, _letters, lambda x: x[::-1]), (wordings.UPPER, _lower, str.upper),
         (wordings.COUNT_LETTERS, _letters, lambda x: str(len(x))),
         (wordings.REPEAT, Draw.word, str)]


def follow_up(draw):
    """A question answered, then the same of another word: `And the word lamp?`"""
    table, make, right = draw.rng.choice(AGAIN)
    first, *later = draw.words(2, 3, lambda: make(draw))
    turns = [(ask(draw, table, x=quoted(draw, first)), first)]
    turns += [(ask(draw, wordings.FOLLOW_UP, x=quoted(draw, x)), x) for x in later]
    messages = []
    for prompt, x in turns:
        messages += [user(prompt), assistant(right(x))]
    *asked, answer = messages
    return Exercise("follow_up", draw.language, asked, answer, says(answer["content"]),
                    f"{turns[0][0]} -> {later[-1]}")


# One question without tools, one short answer.
PLAIN = [repeat, reverse, sort, count, change_case, arithmetic]
