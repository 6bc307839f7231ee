// The unmodified OpenAI client for Node against a running server; server.rs starts it.

import assert from "node:assert/strict";
import test from "node:test";
import OpenAI from "openai";

const { REDOUBT_URL: baseURL, REDOUBT_KEY: apiKey, REDOUBT_MODEL: model } = process.env;
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "Tell me the capital of France." }];
const request = { model, messages, temperature: 0, max_tokens: 32 };

test("an answer", async () => {
  const answer = await client.chat.completions.create(request);
  assert.match(answer.choices[0].message.content, /Paris/);
  assert.equal(answer.choices[0].finish_reason, "stop");
  const { prompt_tokens, completion_tokens, total_tokens } = answer.usage;
  assert.equal(total_tokens, prompt_tokens + completion_tokens);
});

test("embeddings", async () => {
  // The client asks for base64 unless it is told otherwise, and decodes it.
  const input = ["The capital of France is Paris.", "0 1 2 3"];
  const answer = await client.embeddings.create({ model, input });
  assert.deepEqual(answer.data.map((entry) => entry.index), [0, 1]);
  const plain = await client.embeddings.create({ model, input, encoding_format: "float" });
  for (const [index, entry] of plain.data.entries()) {
    assert.equal(entry.embedding.length, 576);
    entry.embedding.forEach((x, i) => assert.ok(Math.abs(x - answer.data[index].embedding[i]) < 1e-6));
  }
});

test("a stream with usage", async () => {
  const stream = await client.chat.completions.create({
    ...request, stream: true, stream_options: { include_usage: true },
  });
  let text = "", usage = null;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? "";
    usage = chunk.usage ?? usage;
  }
  const whole = await client.chat.completions.create(request);
  assert.equal(text, whole.choices[0].message.content);
  assert.deepEqual(usage, whole.usage);
});

test("the stream helper", async () => {
  const stream = client.chat.completions.stream(request);
  let text = "";
  stream.on("content", (part) => { text += part; });
  const final = await stream.finalChatCompletion();
  assert.equal(final.choices[0].message.content, text);
});

test("a stream that is cancelled half-way", async () => {
  const stream = await client.chat.completions.create({
    ...request, stream: true, max_tokens: 2000, logit_bias: { 2: -100 },
  });
  let seen = 0;
  for await (const _ of stream) {
    seen += 1;
    if (seen === 5) stream.controller.abort();
  }
  assert.ok(seen >= 5 && seen < 2000);
  const answer = await client.chat.completions.create(request);
  assert.match(answer.choices[0].message.content, /Paris/);
});

test("sixty-four at once", async () => {
  const short = { ...request, max_tokens: 8 };
  const expected = (await client.chat.completions.create(short)).choices[0].message.content;
  const answers = await Promise.all(
    Array.from({ length: 64 }, () => client.chat.completions.create(short)),
  );
  for (const answer of answers) assert.equal(answer.choices[0].message.content, expected);
});

test("completions, models, log-probabilities, seeds", async () => {
  const completion = await client.completions.create({
    model, prompt: "The capital of France is", max_tokens: 8, temperature: 0,
  });
  assert.match(completion.choices[0].text, /Paris/);
  const models = [];
  for await (const entry of client.models.list()) models.push(entry.id);
  assert.deepEqual(models, [model]);
  const { logprobs } = (await client.chat.completions.create({
    ...request, logprobs: true, top_logprobs: 2,
  })).choices[0];
  assert.ok(logprobs.content.every((step) => step.logprob <= 0 && step.top_logprobs.length === 2));
  const drawn = { ...request, temperature: 1, seed: 11, max_tokens: 16 };
  const [one, two] = [
    await client.chat.completions.create(drawn), await client.chat.completions.create(drawn),
  ];
  assert.equal(one.choices[0].message.content, two.choices[0].message.content);
});

test("refusals have OpenAI's shape", async () => {
  await assert.rejects(client.chat.completions.create({ ...request, temperature: 9 }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.equal(error.param, "temperature");
    return true;
  });
  await assert.rejects(
    client.chat.completions.create({ ...request, surprise: 1 }),
    (error) => error instanceof OpenAI.BadRequestError && error.param === "surprise",
  );
  await assert.rejects(
    client.chat.completions.create({ ...request, model: "gpt-none" }), OpenAI.NotFoundError,
  );
  const stranger = new OpenAI({ baseURL, apiKey: "sk-wrong", maxRetries: 0 });
  await assert.rejects(stranger.chat.completions.create(request), OpenAI.AuthenticationError);
});
