"""The unmodified OpenAI client for Python against a running server; server.rs starts it.

Every test speaks through the client library alone, so that it sees what users see.
"""

import asyncio
import os
import unittest

import openai
from openai import AsyncOpenAI, OpenAI

URL, KEY, MODEL = (os.environ[f"REDOUBT_{name}"] for name in ("URL", "KEY", "MODEL"))
CLIENT = OpenAI(base_url=URL, api_key=KEY, max_retries=0)
QUESTION = [{"role": "user", "content": "Tell me the capital of France."}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather at a place.",
        "parameters": {
            "type": "object",
            "properties": {"place": {"type": "string"}},
            "required": ["place"],
        },
    },
}


def chat(messages=None, **parameters):
    parameters = {"temperature": 0, "max_tokens": 32} | parameters
    return CLIENT.chat.completions.create(model=MODEL, messages=messages or QUESTION, **parameters)


class Embeddings(unittest.TestCase):
    def test_vectors(self):
        # The client asks for base64 unless it is told otherwise.
        texts = ["The capital of France is Paris.", "Paris is in France.", "0 1 2 3 4 5 6 7 8"]
        answer = CLIENT.embeddings.create(model=MODEL, input=texts)
        vectors = [entry.embedding for entry in answer.data]
        self.assertEqual([entry.index for entry in answer.data], [0, 1, 2])
        self.assertEqual({len(vector) for vector in vectors}, {576})
        plain = CLIENT.embeddings.create(model=MODEL, input=texts[0], encoding_format="float")
        for a, b in zip(plain.data[0].embedding, vectors[0], strict=True):
            self.assertAlmostEqual(a, b, places=6)
        self.assertEqual(plain.usage.prompt_tokens, plain.usage.total_tokens)
        near, far = (sum(a * b for a, b in zip(vectors[0], v)) for v in vectors[1:])
        self.assertGreater(near, far)
        short = CLIENT.embeddings.create(model=MODEL, input=texts[0], dimensions=64)
        self.assertEqual(len(short.data[0].embedding), 64)


class Answers(unittest.TestCase):
    def test_the_first_question(self):
        answer = chat([{"role": "user", "content": "What is the capital of France?"}])
        self.assertIn("Paris", answer.choices[0].message.content)
        self.assertEqual(answer.usage.prompt_tokens, 37)

    def test_answer(self):
        answer = chat()
        choice = answer.choices[0]
        self.assertIn("Paris", choice.message.content)
        self.assertEqual(choice.message.role, "assistant")
        self.assertEqual(choice.finish_reason, "stop")
        self.assertEqual(answer.object, "chat.completion")
        self.assertEqual(answer.model, MODEL)
        self.assertTrue(answer.system_fingerprint)
        usage = answer.usage
        self.assertEqual(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)

    def test_stream(self):
        chunks = list(chat(stream=True, stream_options={"include_usage": True}))
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        self.assertEqual(text, chat().choices[0].message.content)
        reasons = [c.choices[0].finish_reason for c in chunks if c.choices]
        self.assertEqual(reasons[-1], "stop")
        self.assertEqual(set(reasons[:-1]), {None})
        self.assertEqual(chunks[0].choices[0].delta.role, "assistant")
        self.assertEqual(chunks[-1].choices, [])
        self.assertEqual(chunks[-1].usage, chat().usage)
        self.assertEqual(len({chunk.id for chunk in chunks}), 1)

    def test_stream_without_usage(self):
        self.assertTrue(all(chunk.usage is None for chunk in chat(stream=True)))

    def test_stream_helper(self):
        with CLIENT.chat.completions.stream(
            model=MODEL, messages=QUESTION, temperature=0, max_tokens=32
        ) as stream:
            text = "".join(event.delta for event in stream if event.type == "content.delta")
            final = stream.get_final_completion()
        self.assertIn("Paris", text)
        self.assertEqual(final.choices[0].message.content, text)

    def test_unicode_stream(self):
        request = {"model": MODEL, "prompt": "東京の天気は晴れ。今日は", "max_tokens": 40, "temperature": 0}
        chunks = CLIENT.completions.create(stream=True, **request)
        text = "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
        self.assertEqual(text, CLIENT.completions.create(**request).choices[0].text)
        self.assertTrue(any(ord(character) > 0x3000 for character in text), text)
        # A character that the bound cut in two may stand at the very end alone.
        self.assertNotIn("\ufffd", text[:-1])

    def test_completion(self):
        answer = CLIENT.completions.create(
            model=MODEL, prompt="The capital of France is", max_tokens=8, temperature=0
        )
        self.assertIn("Paris", answer.choices[0].text)
        self.assertEqual(answer.object, "text_completion")
        self.assertEqual(answer.usage.prompt_tokens, 5)
        chunks = CLIENT.completions.create(
            model=MODEL, prompt="The capital of France is", max_tokens=8, temperature=0, stream=True
        )
        text = "".join(chunk.choices[0].text for chunk in chunks if chunk.choices)
        self.assertEqual(text, answer.choices[0].text)

    def test_models(self):
        self.assertEqual([model.id for model in CLIENT.models.list()], [MODEL])
        self.assertEqual(CLIENT.models.retrieve(MODEL).id, MODEL)
        with self.assertRaises(openai.NotFoundError):
            CLIENT.models.retrieve("gpt-none")


class Parameters(unittest.TestCase):
    def test_max_tokens(self):
        for name in ("max_tokens", "max_completion_tokens"):
            answer = CLIENT.chat.completions.create(
                model=MODEL, messages=QUESTION, **{name: 3, "temperature": 0}
            )
            self.assertEqual(answer.choices[0].finish_reason, "length")
            self.assertEqual(answer.usage.completion_tokens, 3)

    def test_stop(self):
        whole = chat().choices[0].message.content
        self.assertIn(" Paris", whole)
        cut = chat(stop=["s Par"])
        self.assertEqual(cut.choices[0].message.content, whole[: whole.index("s Par")])
        self.assertEqual(cut.choices[0].finish_reason, "stop")
        chunks = chat(stop="s Par", stream=True)
        text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        self.assertEqual(text, cut.choices[0].message.content)

    def test_seed(self):
        story = [{"role": "user", "content": "Invent a name for a ship and explain it."}]
        drawn = {"temperature": 1.0, "max_tokens": 24}
        texts = [chat(story, seed=7, **drawn).choices[0].message.content for _ in range(3)]
        self.assertEqual(len(set(texts)), 1)
        others = {chat(story, seed=s, **drawn).choices[0].message.content for s in range(8)}
        self.assertGreater(len(others), 4)

    def test_choices(self):
        story = [{"role": "user", "content": "Invent a name for a ship."}]
        answer = chat(story, n=4, temperature=1.0, seed=3, max_tokens=16)
        self.assertEqual([choice.index for choice in answer.choices], [0, 1, 2, 3])
        self.assertGreater(len({choice.message.content for choice in answer.choices}), 1)
        chunks = chat(story, n=4, temperature=1.0, seed=3, max_tokens=16, stream=True)
        texts = ["", "", "", ""]
        for chunk in chunks:
            for choice in chunk.choices:
                texts[choice.index] += choice.delta.content or ""
        self.assertEqual(texts, [choice.message.content for choice in answer.choices])

    def test_logprobs(self):
        content = chat(logprobs=True, top_logprobs=5).choices[0].logprobs.content
        text = b"".join(bytes(step.bytes) for step in content).decode()
        self.assertIn("Paris", text)
        for step in content:
            self.assertLessEqual(step.logprob, 0.0)
            self.assertEqual(len(step.top_logprobs), 5)
            values = [other.logprob for other in step.top_logprobs]
            self.assertEqual(values, sorted(values, reverse=True))
            self.assertEqual(step.top_logprobs[0].token, step.token)

    def test_completion_logprobs(self):
        answer = CLIENT.completions.create(
            model=MODEL, prompt="One, two, three,", max_tokens=4, temperature=0, logprobs=3
        )
        logprobs = answer.choices[0].logprobs
        self.assertEqual("".join(logprobs.tokens), answer.choices[0].text)
        self.assertEqual(len(logprobs.token_logprobs), len(logprobs.tokens))

    def test_logit_bias(self):
        # Token 2 ends a turn.
        answer = chat(logit_bias={"2": 100})
        self.assertEqual(answer.choices[0].message.content, "")
        self.assertEqual(answer.choices[0].finish_reason, "stop")

    def test_tools_that_the_template_does_not_know(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            chat(tools=[TOOL], tool_choice="auto")
        self.assertEqual(caught.exception.param, "tools")
        # With none there is nothing that the template would have to know.
        answer = chat(tools=[TOOL], tool_choice="none", max_tokens=4)
        self.assertIsNone(answer.choices[0].message.tool_calls)


class Refusals(unittest.TestCase):
    def refused(self, name, **parameters):
        with self.assertRaises(openai.BadRequestError) as caught:
            chat(**parameters)
        self.assertEqual(caught.exception.param, name)
        self.assertIn(name.split("[")[0], str(caught.exception))

    def test_bad_parameters_are_named(self):
        self.refused("temperature", temperature=3)
        self.refused("top_p", top_p=-0.1)
        self.refused("n", n=0)
        self.refused("n", n=10_000)
        self.refused("max_tokens", max_tokens=-1)
        self.refused("top_logprobs", top_logprobs=3)
        self.refused("presence_penalty", presence_penalty=9)
        self.refused("seed", seed="seven")

    def test_unsupported_parameters_are_named(self):
        self.refused("response_format", response_format={"type": "json_object"})
        self.refused("reasoning_effort", reasoning_effort="low")
        self.refused("tool_choice", tools=[TOOL], tool_choice="required")
        self.refused("parallel_tool_calls", tools=[TOOL], parallel_tool_calls=False)
        self.refused("surprise", extra_body={"surprise": 1})

    def test_wrong_key(self):
        for key in ("sk-wrong", KEY[:-1], KEY + "x"):
            client = OpenAI(base_url=URL, api_key=key, max_retries=0)
            with self.assertRaises(openai.AuthenticationError) as caught:
                client.chat.completions.create(model=MODEL, messages=QUESTION)
            self.assertNotIn(key, str(caught.exception))

    def test_unknown_model(self):
        with self.assertRaises(openai.NotFoundError) as caught:
            CLIENT.chat.completions.create(model="gpt-none", messages=QUESTION)
        self.assertEqual(caught.exception.code, "model_not_found")

    def test_too_long_a_prompt(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            chat([{"role": "user", "content": "word " * 9000}])
        self.assertEqual(caught.exception.code, "context_length_exceeded")


class Together(unittest.TestCase):
    def test_cancelled_half_way(self):
        stream = chat(stream=True, max_tokens=2000, logit_bias={"2": -100})
        for _, _ in zip(range(5), stream):
            pass
        stream.close()
        self.assertIn("Paris", chat().choices[0].message.content)

    def test_sixty_four_at_once(self):
        expected = chat(max_tokens=8).choices[0].message.content

        async def ask(client, index):
            stream = index % 2 == 0
            answer = await client.chat.completions.create(
                model=MODEL, messages=QUESTION, max_tokens=8, temperature=0, stream=stream
            )
            if not stream:
                return answer.choices[0].message.content
            return "".join(
                [c.choices[0].delta.content or "" async for c in answer if c.choices]
            )

        async def all_of_them():
            async with AsyncOpenAI(base_url=URL, api_key=KEY, max_retries=0) as client:
                return await asyncio.gather(*(ask(client, index) for index in range(64)))

        answers = asyncio.run(all_of_them())
        self.assertEqual(answers, [expected] * 64)


if __name__ == "__main__":
    unittest.main(verbosity=2)
