"""Checks the exercises: right answers pass and wrong ones fail, draws are seeded, the two sides
share no content, wording or tool name, and what the held-out side is written in occurs in training.
"""
import copy
import json
import string
import unittest

import about
import conversations
import extract_exercises
import recall_exercises
import system_exercises
import tool_catalogue
import wordings
from split import (COMPOSED, EVERYDAY, FOR_TRAINING, UNSEEN, Draw, bare, is_held_out, within,
                   wordings_of)
from words import KANJI, TOPICS

DRAWS = 60
SIDES = (False, True)
# Tables whose wordings need not all hold the same contents.
VARIED = {"about.FREE", "extract_exercises.SENTENCES"}


def tables():
    """(name, table of wordings) of all that exercises are asked with."""
    for module in (about, conversations, extract_exercises, recall_exercises, system_exercises,
                   tool_catalogue, wordings):
        for name, found in vars(module).items():
            if isinstance(found, dict) and isinstance(found.get("en"), list):
                yield f"{module.__name__}.{name}", found
    for language, table in system_exercises.LANGUAGE.items():
        yield f"system_exercises.LANGUAGE {language}", table
    for names, *_, table in tool_catalogue.NATURAL:
        yield f"tool_catalogue.NATURAL {names[0]}", table


def overlap(some, others):
    """Wordings of the one that are others', but for what stands before and after."""
    either = [(some, set(map(bare, others))), (others, set(map(bare, some)))]
    return [wording for ours, theirs in either for wording in ours if within(wording) & theirs]


def fields(wording):
    return {field for _, field, _, _ in string.Formatter().parse(wording) if field}


def ideographs(texts):
    return {c for text in texts for c in text if "一" <= c <= "鿿"}


class Recorded(Draw):
    """A draw that remembers its contents."""

    def __init__(self, *given):
        super().__init__(*given)
        self.contents = set()

    def from_side(self, make):
        value = super().from_side(make)
        self.contents.add(str(value))
        return value


def drawn(seed, side, language, kind, count=DRAWS):
    draw = Recorded(seed, side, language)
    return [conversations.KINDS[kind](draw) for _ in range(count)], draw


def every(count=DRAWS):
    for kind in conversations.KINDS:
        for language in conversations.LANGUAGES:
            for side in SIDES:
                yield kind, drawn(7, side, language, kind, count)[0]


class Exercises(unittest.TestCase):
    def test_right_answers_pass(self):
        for kind, batch in every():
            for e in batch:
                self.assertTrue(e.check(e.answer), (kind, e.messages, e.answer))

    def test_wrong_answers_fail(self):
        for kind, batch in every():
            for e in batch:
                for wrong in self.spoilt(e.answer, str(e.messages[-1]["content"])):
                    self.assertFalse(e.check(wrong), (kind, e.messages, wrong))

    @staticmethod
    def spoilt(answer, prompt):
        yield {"role": "assistant", "content": "?"}
        yield {"role": "assistant", "content": None}
        if answer.get("reasoning_content"):
            yield {**answer, "reasoning_content": ""}
            yield {**answer, "reasoning_content": answer["reasoning_content"] * 99}
        content = answer.get("content") or ""
        if content:
            # The right words among others, again, and less than all of them.
            yield {**answer, "content": f"{content} " * 9}
            yield {**answer, "content": f"{prompt} {content}"}
            yield {**answer, "content": content[:-1]}
        calls = answer.get("tool_calls")
        if not calls:
            call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            yield {**answer, "content": "?", "tool_calls": [call]}
            return
        yield {**answer, "tool_calls": calls + calls[:1]}
        for changes in ({"name": "other"}, {"arguments": '{"other": 1}'}, {"arguments": "{"}):
            wrong = copy.deepcopy(answer)
            wrong["tool_calls"][-1]["function"].update(changes)
            yield wrong

    def test_languages(self):
        for kind, batch in every(5):
            self.assertEqual(len({e.language for e in batch}), 1, kind)

    def test_draws_are_seeded(self):
        def shape(e):
            return json.dumps([e.messages, e.tools, e.answer, e.enable_thinking])
        for kind in conversations.KINDS:
            first, again, other = (drawn(seed, True, "ja", kind, 10)[0] for seed in (3, 3, 4))
            self.assertEqual([*map(shape, first)], [*map(shape, again)], kind)
            self.assertNotEqual([*map(shape, first)], [*map(shape, other)], kind)

    def test_every_kind_has_a_share(self):
        self.assertEqual(set(conversations.shares()), set(conversations.KINDS))


class Sides(unittest.TestCase):
    def test_contents_are_disjoint(self):
        for kind in conversations.KINDS:
            for language in conversations.LANGUAGES:
                contents = [drawn(5, side, language, kind)[1].contents for side in SIDES]
                self.assertFalse(contents[0] & contents[1], (kind, language))
                # Training asks for their letters; a topic's are never asked for.
                self.assertFalse(contents[1] & EVERYDAY - set(TOPICS), (kind, language))

    def test_tool_names_are_disjoint(self):
        for kind in ("tool_call", "tool_answer", "no_tool"):
            for language in conversations.LANGUAGES:
                for side in SIDES:
                    for e in drawn(5, side, language, kind)[0]:
                        for tool in e.tools:
                            name = tool["function"]["name"]
                            self.assertEqual(is_held_out(name), side, name)

    def test_every_natural_tool_is_on_both_sides(self):
        for names, *_ in tool_catalogue.NATURAL:
            self.assertEqual({is_held_out(name) for name in names}, set(SIDES), names[0])

    def test_wordings_are_disjoint(self):
        for name, table in tables():
            for language in conversations.LANGUAGES:
                training, held_out = (wordings_of(table, language, side) for side in SIDES)
                self.assertTrue(training and held_out, name)
                self.assertEqual(len(set(training)), len(training), name)
                unseen = table.get(language + UNSEEN, [])
                for known, asked in ((training, held_out), (training + held_out, unseen)):
                    self.assertEqual(overlap(known, asked), [], name)

    def test_composed_wordings_are_none_of_the_others(self):
        for language in conversations.LANGUAGES:
            draw = Draw(3, False, language)
            for name, table in tables():
                if language + COMPOSED not in table:
                    continue
                made = {draw.composed(table, table[language + COMPOSED]) for _ in range(1000)}
                self.assertGreater(len(made), 90, name)
                others = wordings_of(table, language, True) + table.get(language + UNSEEN, [])
                self.assertEqual(overlap(made, others), [], name)
                found = [(text, other) for text in made for other in others
                         if bare(other) in bare(text)]
                self.assertEqual(found, [], name)
                known = {"r"} if name == "tool_catalogue.REQUEST" else fields("".join(table["en"]))
                self.assertTrue(all(fields(wording) == known for wording in made), name)

    def test_no_wording_is_learnt_for_something_else(self):
        learnt, others = {}, []
        for name, table in tables():
            for language in conversations.LANGUAGES:
                for wording in wordings_of(table, language, False):
                    learnt.setdefault(bare(wording, False), name)
                for wording in wordings_of(table, language, True) + table.get(language + UNSEEN, []):
                    others.append((bare(wording, False), name))
        self.assertEqual([(w, name, learnt[w]) for w, name in others
                          if learnt.get(w, name) != name], [])

    def test_wordings_hold_their_contents(self):
        for name, table in tables():
            known = fields("".join(table["en"]))
            for key, lines in table.items():
                if key.endswith(COMPOSED):
                    continue
                language = key.removesuffix(FOR_TRAINING).removesuffix(UNSEEN)
                self.assertIn(language, conversations.LANGUAGES)
                for wording in lines:
                    if name in VARIED or name == "tool_catalogue.REQUEST":
                        self.assertLessEqual(fields(wording), known, wording)
                    else:
                        self.assertEqual(fields(wording), known, wording)

    def test_held_out_characters_occur_in_training(self):
        training, held_out = (
            ideographs(w for _, table in tables() for w in wordings_of(table, "ja", side))
            for side in SIDES)
        unseen = ideographs(w for _, table in tables() for w in table.get("ja" + UNSEEN, []))
        self.assertFalse((held_out | unseen) - training - set(KANJI))


if __name__ == "__main__":
    unittest.main()
