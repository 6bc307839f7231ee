"""Owns asking a served model: chat completions in OpenAI's format, over HTTP, a few at once.

Needs the standard library alone. Knows nothing of tables or bounds.
"""
import concurrent.futures
import http.client
import json
import urllib.error
import urllib.request

from score import Answer

# The longest right answers have 130 tokens.
ANSWER_TOKENS_MAX = 256
RESPONSE_BYTES_MAX = 4 << 20
ERROR_CHARACTERS_MAX = 500


class ServerError(Exception):
    """The server could not be reached, or its answer is an error or none that can be read."""


class Server:
    """A server of OpenAI's API. `url` ends in /v1."""

    def __init__(self, url, key, timeout_s):
        if not url.startswith(("http://", "https://")):
            raise ServerError(f"{url}: the address must begin with http:// or https://")
        self.url, self.key, self.timeout_s = url.rstrip("/"), key, timeout_s

    def request(self, path, body=None):
        """The answer's JSON; a GET where there is no body."""
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_s) as response:
                raw = response.read(RESPONSE_BYTES_MAX + 1)
        except urllib.error.HTTPError as error:
            raise ServerError(f"{self.url}{path}: {error.code} {_words_of(error)}") from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error or type(error).__name__
            raise ServerError(f"{self.url}{path}: no answer: {reason}") from None
        if len(raw) > RESPONSE_BYTES_MAX:
            raise ServerError(f"{self.url}{path}: more than {RESPONSE_BYTES_MAX:,} bytes")
        try:
            return json.loads(raw)
        except ValueError:
            raise ServerError(f"{self.url}{path}: the answer is not JSON") from None

    def model(self):
        """The name of the first model served."""
        listed = self.request("/models")
        try:
            return listed["data"][0]["id"]
        except (KeyError, IndexError, TypeError):
            raise ServerError(f"{self.url}/models: no model is listed") from None

    def answer(self, model, exercise):
        """The assistant's message to an exercise, greedy."""
        body = {"model": model, "messages": exercise.messages, "temperature": 0,
                "max_tokens": ANSWER_TOKENS_MAX, "enable_thinking": exercise.enable_thinking}
        if exercise.tools:
            body["tools"] = exercise.tools
        answered = self.request("/chat/completions", body)
        try:
            message = answered["choices"][0]["message"]
        except (KeyError, IndexError, TypeError):
            message = None
        if not isinstance(message, dict):
            raise ServerError(f"{self.url}/chat/completions: no message in the answer")
        return message


def _words_of(error):
    """The message of an error in OpenAI's shape, or the start of what came instead."""
    try:
        raw = error.read(RESPONSE_BYTES_MAX)
    except (OSError, http.client.HTTPException):
        return error.reason
    try:
        return json.loads(raw)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return raw.decode(errors="replace")[:ERROR_CHARACTERS_MAX] or error.reason


def answers(server, model, asked, at_once):
    """Answers to (kind, exercise) pairs, in their order. The first error ends it."""
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(server.answer, model, exercise) for _, exercise in asked]
        try:
            return [Answer(kind, exercise, future.result())
                    for (kind, exercise), future in zip(asked, futures)]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
