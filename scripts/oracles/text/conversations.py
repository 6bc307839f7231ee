"""The conversations that templates are rendered with: own text, OpenAI's shape."""

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather at a place, in <b>Celsius</b> & \"more\"; it's today's. 天気",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "City, e.g. \"Kyōto\" or 'Nara'"},
                "days": {"type": "integer", "minimum": 1, "default": 3},
                "detail": {"type": "string", "enum": ["short", "long <html>"]},
                "limit": {"type": "number", "maximum": 1e-07, "minimum": -2.50},
            },
            "required": ["city"],
        },
    },
}
CLOCK = {
    "type": "function",
    "function": {"name": "clock", "description": "Time now.", "parameters": {"type": "object", "properties": {}}},
}


def call(name, arguments, call_id="call00001"):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


SYSTEM = {"role": "system", "content": "You are terse.\nAnswer in Japanese if asked in Japanese."}
QUESTION = {"role": "user", "content": "What is the capital of France?"}
ANSWER = {"role": "assistant", "content": "Paris."}
CALLS = {"role": "assistant", "content": "", "tool_calls": [call("get_weather", '{"city": "京都", "days": 2}')]}
CALLS_NO_CONTENT = {"role": "assistant", "content": None, "tool_calls": [call("clock", "{}")]}
PARALLEL = {
    "role": "assistant",
    "content": "Let me look.",
    "tool_calls": [call("get_weather", '{"city": "A & <B>"}'), call("clock", "{}", "call00002")],
}


def result(content, call_id="call00001", name="get_weather"):
    return {"role": "tool", "tool_call_id": call_id, "name": name, "content": content}


CONVERSATIONS = {
    "one": dict(messages=[QUESTION]),
    "system": dict(messages=[SYSTEM, QUESTION]),
    "turns": dict(messages=[QUESTION, ANSWER, {"role": "user", "content": "And of Japan?"}]),
    "system-turns": dict(
        messages=[SYSTEM, QUESTION, ANSWER, {"role": "user", "content": "日本は？"}, {"role": "assistant", "content": "東京🗼"},
                  {"role": "user", "content": "Thanks."}]
    ),
    "white": dict(messages=[{"role": "user", "content": "\n  spaces \t around\n\n"}]),
    "signs": dict(messages=[{"role": "system", "content": "<x> & {y} {{ z }} {% if %}"},
                            {"role": "user", "content": "a\\nb \"q\" 'p' <div>&amp;</div> \u2028 \x7f é 👩‍💻"}]),
    "empty": dict(messages=[{"role": "user", "content": ""}]),
    "thought": dict(messages=[QUESTION, {"role": "assistant", "content": "<think>\nEasy.\n</think>\n\nParis."},
                              {"role": "user", "content": "Sure?"}]),
    "reasoned": dict(messages=[QUESTION, {"role": "assistant", "content": "Paris.", "reasoning_content": "It is known."},
                               {"role": "user", "content": "Sure?"}]),
    "thinking-on": dict(messages=[SYSTEM, QUESTION], enable_thinking=True),
    "thinking-off": dict(messages=[SYSTEM, QUESTION], enable_thinking=False),
    "tools": dict(messages=[QUESTION], tools=[WEATHER, CLOCK]),
    "tools-system": dict(messages=[SYSTEM, QUESTION], tools=[WEATHER]),
    "tools-called": dict(messages=[QUESTION, CALLS, result('{"sky": "晴れ", "t": 21.5}')], tools=[WEATHER, CLOCK]),
    "tools-null-content": dict(
        messages=[SYSTEM, {"role": "user", "content": "Time?"}, CALLS_NO_CONTENT, result("10:45", name="clock")],
        tools=[CLOCK]
    ),
    "tools-parallel": dict(
        messages=[SYSTEM, QUESTION, PARALLEL, result("rain <heavy>"), result("10:45", "call00002", "clock"),
                  {"role": "assistant", "content": "It rains at 10:45."}, {"role": "user", "content": "Thanks & bye"}],
        tools=[WEATHER, CLOCK], enable_thinking=True
    ),
    "tools-not-offered": dict(messages=[QUESTION, CALLS, result("ok"), {"role": "assistant", "content": "Done."},
                                        {"role": "user", "content": "More?"}]),
    "two-users": dict(messages=[QUESTION, {"role": "user", "content": "Hello?"}]),
    "assistant-first": dict(messages=[ANSWER, QUESTION]),
    "odd-role": dict(messages=[{"role": "critic", "content": "No."}, QUESTION]),
    "late-system": dict(messages=[QUESTION, SYSTEM, {"role": "user", "content": "Go on."}]),
}
