"""Owns the exercises with tools: calling the one that fits with arguments from the prompt, using
its result, and answering without one where none fits.
"""
import json

import about
import exercises
import words
from exercises import Exercise, assistant, says, user
from split import is_held_out
from tool_catalogue import (ALIKE, ENUMS, NAME_PARTS, NATURAL, NOUNS, PARAMETERS, REQUEST, SPOKEN,
                            VERBS)


def value(draw, kind):
    """A value of a parameter's kind, as JSON would hold it."""
    if kind == "integer":
        return int(draw.digits(1, 2))
    if kind in ENUMS:
        return draw.rng.choice(ENUMS[kind])
    if kind == "clock":
        return f"{draw.rng.randint(0, 23):02}:{draw.rng.randint(0, 59):02}"
    if kind == "code":
        return draw.digits(3, 6) if draw.chance(0.5) else \
            draw.invented()[:3].upper() + "-" + draw.digits(2, 4)
    if kind == "day":
        return draw.rng.choice(draw.of(words.DAYS, words.DAYS_JA))
    if kind == "text":
        return " ".join(draw.words(1, 3))
    return draw.city() if kind == "city" else draw.name()


def _invented_parameter(draw):
    """(name, what PARAMETERS would say of it), for training alone: names are to be copied."""
    name = draw.invented()
    return name, (draw.rng.choice(["text", "integer", "name"]), f"The {name}", f"{name}の値",
                  [f"with {name} {{v}}", f"{name} {{v}}"], [f"{name}は{{v}}"])


def definition(draw, tool, description):
    """An OpenAI-style tool."""
    properties = {}
    for parameter in tool.required + tool.optional:
        kind, english, japanese, _, _ = tool.parameters[parameter]
        shape = {"type": "integer" if kind == "integer" else "string"}
        if draw.chance(0.6):
            shape["description"] = draw.of(english, japanese) if draw.chance(0.7) else english
        if kind in ENUMS:
            shape["enum"] = ENUMS[kind]
        properties[parameter] = shape
    parameters = {"type": "object", "properties": properties}
    if tool.required or draw.chance(0.5):
        parameters["required"] = tool.required
    function = {"name": tool.name, "description": description, "parameters": parameters}
    if draw.chance(0.1):
        parameters["additionalProperties"] = False
    if draw.chance(0.1) and not tool.renamed:
        del function["description"]
    return {"type": "function", "function": function}


NATURAL_SHARE = 0.35
# In training there are more: their wordings are the more varied.
NATURAL_SHARE_TRAINING = 0.5
# Shares, in training, of natural tools and of composed ones' parameters whose names are invented.
RENAMED = 0.85
RENAMED_PARAMETER = 0.3


def _made_up(draw, names):
    """A name for a natural tool: of nothing that is known, or with parts of its own names."""
    def part():
        if draw.chance(0.6):
            return draw.rng.choice(draw.rng.choice(names).split("_"))
        return draw.rng.choice(NAME_PARTS) if draw.chance(0.5) else draw.rng.choice(VERBS)[0]
    if draw.chance(0.35):
        first = draw.invented() if draw.chance(0.5) else draw.rng.choice(VERBS)[0]
        return f"{first}_{draw.invented()}"
    parts = draw.words(1 if draw.chance(0.1) else 2, 3, part)
    if draw.chance(0.1):
        return parts[0] + "".join(each.capitalize() for each in parts[1:])
    return "_".join(parts)


class Tool:
    """A tool with the way it is asked for."""

    def __init__(self, draw, taken):
        self.draw = draw
        self.parameters, self.renamed = PARAMETERS, False
        while True:
            natural = NATURAL_SHARE if draw.held_out else NATURAL_SHARE_TRAINING
            self.natural = draw.rng.choice(NATURAL) if draw.chance(natural) else None
            if self.natural:
                self._natural(draw)
            else:
                self._composed(draw)
            if self.subject not in taken and is_held_out(self.name) == draw.held_out:
                break
        taken.add(self.subject)
        described = draw.of(self.english, self.japanese) if draw.chance(0.7) else self.english
        self.definition = definition(draw, self, described)

    def _natural(self, draw):
        names, self.english, self.japanese, required, optional, _ = self.natural
        self.name, self.subject = draw.rng.choice(names), names[0]
        # In training its name is mostly made up: the description tells what it does, and the name
        # is to be copied, however like a known one it looks.
        self.renamed = not draw.held_out and draw.chance(RENAMED)
        if self.renamed:
            self.name = _made_up(draw, names)
        self.required = [draw.rng.choice(required)]
        self.optional = [p for p in optional if draw.chance(0.5)]

    def _composed(self, draw):
        rng = draw.rng
        self.verb = rng.choice(VERBS)
        noun = rng.choice(NOUNS)
        self.noun = [draw.invented()] * 2 if draw.chance(0.25) else noun
        verb, noun = self.verb[0], self.noun[0]
        self.name = f"{verb}{noun.capitalize()}" if draw.chance(0.15) else f"{verb}_{noun}"
        self.subject = f"{verb} {noun}"
        self.english = rng.choice(["{} the {}", "{} a {}", "Use this to {} the {}."]).format(
            verb, noun)
        self.english = self.english[0].upper() + self.english[1:]
        self.japanese = f"{self.noun[1]}を{self.verb[2]}"
        chosen = rng.sample(list(PARAMETERS), rng.randint(1, 4))
        for group in ALIKE:
            if group <= set(chosen):
                chosen.remove(rng.choice(sorted(group)))
        if not draw.held_out and draw.chance(RENAMED_PARAMETER):
            name, described = _invented_parameter(draw)
            self.parameters = {**PARAMETERS, name: described}
            chosen[rng.randrange(len(chosen))] = name
        needed = rng.randint(0 if draw.chance(0.15) else 1, min(3, len(chosen)))
        self.required, self.optional = chosen[:needed], chosen[needed:]

    def request(self):
        """(request without its ending, arguments): what is mentioned is what is given."""
        draw = self.draw
        given = self.required + [p for p in self.optional if draw.chance(0.4)]
        arguments = {p: value(draw, self.parameters[p][0]) for p in given}
        if self.natural:
            return self._natural_request(arguments), arguments
        phrases = [self._phrase(p, v) for p, v in arguments.items()]
        if draw.japanese:
            return "、".join([*phrases, f"{self.noun[1]}を{self.verb[1]}"]), arguments
        return " ".join([self.verb[0], draw.rng.choice(["the", "the", "a"]), self.noun[0],
                         *phrases]), arguments

    def _phrase(self, parameter, given):
        draw = self.draw
        _, _, _, english, japanese = self.parameters[parameter]
        if draw.chance(0.25):
            return draw.of(f"with {parameter} {given}", f"{parameter}は{given}")
        if isinstance(given, str) and draw.chance(0.15):
            given = draw.of(f"'{given}'", f"「{given}」")
        return draw.rng.choice(draw.of(english, japanese)).format(v=given)

    def _natural_request(self, arguments):
        draw = self.draw
        (_, main), *others = arguments.items()
        phrases = [self._phrase(p, v) for p, v in others]
        rest = ("、".join(phrases) if draw.japanese else " " + " ".join(phrases)) if phrases else ""
        template = draw.wording(self.natural[-1])
        if draw.japanese and rest:
            rest += "、" if template.startswith("{o}") else "。"
        return template.format(v=main, o=rest)

    def asked(self):
        """(user's text, arguments)"""
        request, arguments = self.request()
        if not self.natural:
            request = self.draw.wording(REQUEST).format(
                r=request, R=request[0].upper() + request[1:])
        return request, arguments


def call(name, arguments, number):
    return {"id": f"call_{number}", "type": "function", "function": {
        "name": name, "arguments": json.dumps(arguments, ensure_ascii=False)}}


def calls_are(wanted):
    """The check that a message makes these calls, in order."""
    def check(message):
        try:
            made = [(c["function"]["name"], json.loads(c["function"]["arguments"]))
                    for c in message.get("tool_calls") or []]
        except (KeyError, TypeError, ValueError):
            return False
        return made == wanted
    return check


def _tools(draw):
    taken = set()
    return [Tool(draw, taken) for _ in range(draw.rng.choice([1, 2, 2, 3, 3, 4]))]


def _request(draw, tools):
    """(prompt, wanted calls): one call, or two of one tool or of two."""
    first = draw.rng.choice(tools)
    prompt, arguments = first.asked()
    wanted = [(first.name, arguments)]
    if draw.chance(0.2):
        second = first if len(tools) == 1 or draw.chance(0.5) else draw.rng.choice(
            [t for t in tools if t is not first])
        prompt_2, arguments_2 = second.asked()
        if prompt[-1] not in ".?。？":
            prompt += draw.of(".", "。")
        prompt += draw.rng.choice(draw.of([" ", " And ", " Then "], ["", "それから、", "また、"]))
        prompt += prompt_2
        wanted.append((second.name, arguments_2))
    return prompt, wanted


def _calls(wanted):
    made = [call(name, arguments, i) for i, (name, arguments) in enumerate(wanted, 1)]
    return {"role": "assistant", "content": "", "tool_calls": made}


FIELDS = """temperature sky price status total result name count date place answer distance wind
level code message time score owner color""".split()


def _result(draw):
    """(a tool's output, its values)"""
    if draw.chance(0.3):
        text = " ".join(draw.words(1, 4))
        return text, [text]
    keys = draw.rng.sample(FIELDS, draw.rng.randint(1, 3))
    found = {k: draw.word() if draw.chance(0.5) else int(draw.digits(1, 4)) for k in keys}
    return json.dumps(found, ensure_ascii=False), [f"{k} {v}" for k, v in found.items()]


def _answered(draw, prompt, wanted):
    """(messages up to the tools' results, the answer's text)"""
    asking = _calls(wanted)
    messages, told = [user(prompt), asking], []
    for each in asking["tool_calls"]:
        output, values = _result(draw)
        messages.append({"role": "tool", "tool_call_id": each["id"], "content": output})
        told += values
    return messages, draw.of("The result: ", "結果：") + draw.of(", ", "、").join(told)


ROUNDS_EARLIER = [0, 0, 0, 1, 2]
# In training there are more: the tools' definitions cost most of the tokens, turns teach.
ROUNDS_EARLIER_TRAINING = [0, 1, 2, 3, 4]


def _earlier(draw, tools):
    """Rounds under the same tools before the one that counts, some without a call."""
    messages = []
    for _ in range(draw.rng.choice(ROUNDS_EARLIER if draw.held_out else ROUNDS_EARLIER_TRAINING)):
        if draw.chance(0.3):
            plain = _without_tool(draw, tools)
            messages += [*plain.messages, plain.answer]
            continue
        earlier, answer = _answered(draw, *_request(draw, tools))
        messages += [*earlier, assistant(answer)]
    return messages


def tool_call(draw):
    tools = _tools(draw)
    messages = _earlier(draw, tools)
    prompt, wanted = _request(draw, tools)
    names = ", ".join(name for name, _ in wanted)
    return Exercise("tool_call", draw.language, [*messages, user(prompt)], _calls(wanted),
                    calls_are(wanted),
                    draw.of(f"The tool that fits is {names}.", f"合うツールは {names} です。"),
                    [t.definition for t in tools])


def tool_answer(draw):
    """The tool has been called; its result is to be told."""
    tools = _tools(draw)
    messages, answer = _answered(draw, *_request(draw, tools))
    return Exercise("tool_answer", draw.language, messages, assistant(answer), says(answer),
                    draw.of("The tool has answered.", "ツールの結果が届きました。"),
                    [t.definition for t in tools])


def no_tool(draw):
    """Tools are there and none fits: a plain exercise, a free question, or a stranger's request."""
    taken = set()
    tools = [Tool(draw, taken) for _ in range(draw.rng.choice([1, 1, 2, 3, 4]))]
    earlier = _earlier(draw, tools)
    made = _without_tool(draw, tools)
    made.messages, made.name = earlier + made.messages, "no_tool"
    made.tools = [t.definition for t in tools]
    return made


def _without_tool(draw, tools):
    """An exercise that none of the tools fits."""
    while True:
        style = draw.rng.random()
        made = draw.rng.choice(exercises.PLAIN)(draw) if style < 0.6 else about.about(draw)
        if style > 0.8:
            stranger = Tool(draw, {t.subject for t in tools})
            made.messages = [user(stranger.asked()[0])]
        text = made.messages[0]["content"].lower()
        if not any(_touches(t, text) for t in tools):
            return made


def _touches(tool, text):
    """Whether a question may seem to be one for this tool."""
    keys = {tool.subject} if tool.natural else {tool.noun[0]}
    spoken = [word for tools, marks in SPOKEN if tools & keys for word in marks]
    if not tool.natural:
        spoken += [*tool.noun, tool.verb[0], tool.verb[1][:2]]
    return any(word in text for word in spoken)
