"""Owns turning messages into the model's text, by the template beside it.

The environment is the one transformers uses: trim_blocks, lstrip_blocks, and `tojson` without
ASCII escapes. Arguments of calls are objects, as transformers and the server give them.
"""
import json
from pathlib import Path

import jinja2

SOURCE = (Path(__file__).parent / "chat_template.jinja").read_text()


def _template():
    env = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    env.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return env.from_string(SOURCE)


TEMPLATE = _template()


def with_objects(message):
    """A message whose calls' arguments are objects."""
    if not message.get("tool_calls"):
        return message
    calls = [{**c, "function": {**c["function"],
                                "arguments": json.loads(c["function"]["arguments"])}}
             for c in message["tool_calls"]]
    return {**message, "tool_calls": calls}


def render(messages, tools, enable_thinking, add_generation_prompt):
    return TEMPLATE.render(messages=[with_objects(m) for m in messages], tools=tools or None,
                           enable_thinking=enable_thinking,
                           add_generation_prompt=add_generation_prompt)


def prompt(exercise):
    """The text up to where the model begins to write."""
    return render(exercise.messages, exercise.tools, exercise.enable_thinking, True)


def whole(exercise):
    """The prompt with its right answer, as trained on."""
    return render([*exercise.messages, exercise.answer], exercise.tools,
                  exercise.enable_thinking, False)


def message(text, thinking_open):
    """The assistant message that a generated text is, as the API would give it."""
    text = text.removesuffix("<|im_end|>")
    reasoning = None
    if thinking_open and "</think>" in text:
        reasoning, text = text.split("</think>", 1)
    elif thinking_open:
        reasoning, text = text, ""
    content, *bodies = text.split("<tool_call>")
    calls = []
    for body in bodies:
        try:
            made = json.loads(body.split("</tool_call>")[0])
            calls.append({"type": "function", "function": {
                "name": made["name"],
                "arguments": json.dumps(made["arguments"], ensure_ascii=False)}})
        except (ValueError, KeyError, TypeError):
            content += "<tool_call>" + body
    return {"role": "assistant", "content": content.strip(), "tool_calls": calls,
            "reasoning_content": (reasoning or "").strip()}
