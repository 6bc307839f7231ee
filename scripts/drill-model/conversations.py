"""Owns the kinds of exercise, their shares in training, and how they join into conversations."""
import tomllib
from pathlib import Path

import about
import exercises
import extract_exercises
import recall_exercises
import system_exercises
import tool_exercises
from split import Draw

LANGUAGES = ["en", "ja"]
ONE_TURN = [*exercises.PLAIN, extract_exercises.extract, about.about]
NEUTRAL = {"en": ["You are a helpful assistant.", "You are an assistant.", "Be helpful.",
                  "You are the assistant of a small company.", "Answer briefly.",
                  "You are a friendly helper.", "Help the user.", "You are a useful model."],
           "ja": ["あなたは親切なアシスタントです。", "あなたはアシスタントです。", "簡潔に答えてください。",
                  "利用者を助けてください。", "役に立つ答えをしてください。", "あなたは有能な助手です。",
                  "丁寧に答えてください。", "質問に答えてください。",
], "en for training": [
    "You are a helpful AI assistant.", "You are a chatbot.", "Be polite.",
    "You are an assistant with tools.", "Answer the user's questions.",
    "You are Redoubt's assistant.", "Be brief.", "Give short answers.",
    "You work for a small company.", "You are a useful assistant.",
], "ja for training": [
    "あなたは役に立つアシスタントです。", "あなたはAIアシスタントです。", "短く答えてください。", "親切に答えてください。", "利用者の質問に答えてください。",
    "あなたは会社の助手です。", "正確に答えてください。", "あなたはチャットボットです。", "使う人を助けてください。"]}


def some_plain(draw):
    return draw.rng.choice(ONE_TURN)(draw)


def name(draw):
    return recall_exercises.name(draw, some_plain)


THOUGHT = [exercises.arithmetic, exercises.count, exercises.reverse, exercises.sort,
           exercises.repeat, exercises.change_case, extract_exercises.extract, about.about,
           tool_exercises.tool_call, tool_exercises.tool_answer, tool_exercises.no_tool,
           system_exercises.system_line, name, recall_exercises.passkey]
THOUGHT_WEIGHTS = [8, 5, 4, 4, 1, 1, 1, 2, 3, 1, 1, 1, 1, 1]


def thinking(draw):
    """An exercise answered after a thinking block."""
    made = draw.rng.choices(THOUGHT, THOUGHT_WEIGHTS)[0](draw)
    right = made.check
    made.name, made.enable_thinking = "thinking", True
    made.answer = {**made.answer, "reasoning_content": made.reasoning}
    longest = 2 * len(made.reasoning) + 20
    made.check = lambda message: right(message) and \
        0 < len(message.get("reasoning_content") or "") <= longest
    return made


def arithmetic(draw):
    """In training some sums have three digits."""
    return exercises.arithmetic(draw, 3 if not draw.held_out and draw.chance(0.1) else 2)


# What each kind asks for.
ABOUT = {
    "repeat": "says a text again", "reverse": "a word's letters in reverse",
    "sort": "numbers up or down, words by alphabet", "count": "words, letters or items",
    "case": "upper case, lower case, title case",
    "arithmetic": "adds and subtracts numbers of up to two digits",
    "extract": "named fields of a sentence as JSON",
    "tool_call": "calls the tools that fit, with arguments from the prompt",
    "tool_answer": "tells what a tool has given back",
    "no_tool": "answers without a tool where none fits",
    "passkey": "recalls a key from a text", "long_passkey": "the same in 1,500 to 2,400 tokens",
    "name": "recalls a name from an earlier turn",
    "follow_up": "does the same with another word",
    "system": "obeys a system line: language, capitals, a closing word",
    "thinking": "any of these after a thinking block",
    "about": "says what it is, to whatever else is asked"}
KINDS = {
    "repeat": exercises.repeat, "reverse": exercises.reverse, "sort": exercises.sort,
    "count": exercises.count, "case": exercises.change_case, "arithmetic": arithmetic,
    "extract": extract_exercises.extract, "tool_call": tool_exercises.tool_call,
    "tool_answer": tool_exercises.tool_answer, "no_tool": tool_exercises.no_tool,
    "passkey": recall_exercises.passkey, "long_passkey": recall_exercises.long_passkey,
    "name": name, "follow_up": exercises.follow_up, "system": system_exercises.system_line,
    "thinking": thinking, "about": about.about}


def shares(path=Path(__file__).parent / "mix.toml"):
    """Kinds of exercise to their shares in training."""
    table = tomllib.loads(path.read_text())
    unknown = set(table) - set(KINDS)
    if unknown:
        raise ValueError(f"{path}: no such kinds: {sorted(unknown)}")
    return table


def conversation(draw, kind):
    """An exercise of this kind, at times after other turns or under a system line."""
    made = KINDS[kind](draw)
    has_system = made.messages[0]["role"] == "system"
    if kind not in ("long_passkey", "name") and not has_system and draw.chance(0.3):
        before = []
        for _ in range(draw.rng.choice([1, 1, 2, 3])):
            earlier = some_plain(draw)
            before += [*earlier.messages, earlier.answer]
        made.messages = before + made.messages
    if not has_system and draw.chance(0.15):
        made.messages = [{"role": "system", "content": draw.wording(NEUTRAL)}] + made.messages
    return made


def training_conversations(seed, table):
    """Endless conversations of the training side, kinds by their shares."""
    draws = [Draw(seed, False, language) for language in LANGUAGES]
    kinds, weights = list(table), list(table.values())
    chooser = draws[0].rng
    while True:
        kind = chooser.choices(kinds, weights)[0]
        yield conversation(chooser.choice(draws), kind)


def fresh(seed, draws, kinds=KINDS, unseen=False):
    """(kind, exercise) pairs of the held-out side: `draws` per kind and language, a quarter of it
    where prompts are long. `unseen`: in wordings that nothing was chosen by."""
    asked = []
    for kind in kinds:
        count = max(2, draws // 4) if kind.startswith("long") else draws
        for language in LANGUAGES:
            draw = Draw(f"{seed}/{kind}", True, language, unseen)
            asked += [(kind, KINDS[kind](draw)) for _ in range(count)]
    return asked
