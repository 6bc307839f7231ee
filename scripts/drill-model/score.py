"""Owns counting right answers to exercises and the tables of them.

Knows nothing of who answered: a network in torch or a server.
"""
import json
from dataclasses import dataclass

import conversations
from exercises import Exercise


@dataclass
class Answer:
    """What was said to an exercise of a kind: an assistant's message as the API gives it."""
    kind: str
    exercise: Exercise
    message: dict

    @property
    def right(self):
        return self.exercise.check(self.message)


def counts(answers):
    """{(kind, language): (right, drawn)}"""
    found = {}
    for answer in answers:
        key = answer.kind, answer.exercise.language
        right, drawn = found.get(key, (0, 0))
        found[key] = right + answer.right, drawn + 1
    return found


def below(found, share):
    """The (kind, language) whose accuracy is less than `share`."""
    return [key for key, (right, drawn) in found.items() if right < share * drawn]


def table(found):
    """Accuracies per kind, a column per language."""
    lines = [f"{'exercise':<14}" + "".join(f"{name:>16}" for name in conversations.LANGUAGES)]
    for kind in dict.fromkeys(kind for kind, _ in found):
        cells = []
        for language in conversations.LANGUAGES:
            right, drawn = found.get((kind, language), (0, 0))
            cells.append(f"{right:>5}/{drawn:<4}{right / drawn:>6.1%}" if drawn else "-")
        lines.append(f"{kind:<14}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


def line(found):
    """The same in one line, for a log: percent, all languages."""
    parts = []
    for kind in dict.fromkeys(kind for kind, _ in found):
        parts.append(f"{kind} " + "/".join(
            f"{100 * right // drawn}" for (k, _), (right, drawn) in found.items() if k == kind))
    return ", ".join(parts)


SHOWN_CHARACTERS_MAX = 2000


def shown(answer):
    """An exercise, its right answer and what was said, for a person to read."""
    def text(message):
        kept = {key: value for key, value in message.items() if value and key != "role"}
        return json.dumps(kept, ensure_ascii=False)
    exercise = answer.exercise
    lines = [f"--- {answer.kind} {exercise.language}"]
    for message in exercise.messages:
        said = text(message)
        if len(said) > SHOWN_CHARACTERS_MAX:
            said = f"{said[:SHOWN_CHARACTERS_MAX]}… ({len(said):,} characters)"
        lines.append(f"{message['role']}: {said}")
    if exercise.tools:
        lines.append("tools: " + ", ".join(t["function"]["name"] for t in exercise.tools))
    return "\n".join([*lines, f"right: {text(exercise.answer)}", f"said:  {text(answer.message)}"])
