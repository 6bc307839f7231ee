"""Checks the evaluation through the API against a small server that knows the right answers: the
requests it sends, the tables and the exit codes. It runs without any package installed.
"""
import http.server
import json
import subprocess
import sys
import threading
import unittest
from pathlib import Path

import conversations

HERE = Path(__file__).parent
SEED, DRAWS, KEY = 5, 3, "the-key"
FIELDS = {"model", "messages", "temperature", "max_tokens", "enable_thinking", "tools"}


def asked_with(messages, tools, thinking):
    return json.dumps([messages, tools, thinking], sort_keys=True)


RIGHT = {asked_with(e.messages, e.tools, e.enable_thinking): (kind, e.answer)
         for kind, e in conversations.fresh(SEED, DRAWS)}


class Answering(http.server.BaseHTTPRequestHandler):
    """Right answers, but none to `server.unknown` kinds; or `server.failure` to everything."""

    def log_message(self, *_):
        pass

    def reply(self, status, body):
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def do_GET(self):
        if self.path != "/v1/models":
            return self.reply(404, {"error": {"message": "no such path"}})
        return self.reply(200, {"object": "list", "data": [{"id": "drill", "object": "model"}]})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        if self.server.failure:
            return self.reply(*self.server.failure)
        if self.headers["Authorization"] != f"Bearer {KEY}":
            return self.reply(401, {"error": {"message": "Incorrect API key provided."}})
        kind, message = RIGHT[asked_with(body["messages"], body.get("tools", []),
                                         body["enable_thinking"])]
        if kind in self.server.unknown:
            message = {"role": "assistant", "content": "I do not know.", "refusal": None}
        return self.reply(200, {"choices": [{"index": 0, "message": message}]})


class Api(unittest.TestCase):
    def setUp(self):
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        self.server.bodies, self.server.unknown, self.server.failure = [], set(), None
        thread = threading.Thread(target=self.server.serve_forever)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)

    def run_api(self, *more, key=KEY, port=None):
        url = f"http://127.0.0.1:{port or self.server.server_port}/v1"
        # -S leaves installed packages out.
        return subprocess.run(
            [sys.executable, "-S", "-B", HERE / "evaluate.py", "api", "--url", url, "--key", key,
             "--draws", str(DRAWS), "--seed", str(SEED), *more],
            capture_output=True, text=True, timeout=120)

    def test_all_right(self):
        done = self.run_api()
        self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
        self.assertIn(f"seed {SEED}", done.stdout)
        self.assertIn("model drill", done.stdout)
        for kind in conversations.KINDS:
            self.assertRegex(done.stdout, rf"(?m)^{kind} +\d/\d +100\.0% +\d/\d +100\.0%$")
        self.assertEqual(len(self.server.bodies), len(RIGHT))
        for body in self.server.bodies:
            self.assertLessEqual(set(body), FIELDS)
            self.assertEqual((body["model"], body["temperature"]), ("drill", 0))
            self.assertLessEqual(body["max_tokens"], 256)
            self.assertNotEqual(body.get("tools"), [])

    def test_below_the_bound(self):
        self.server.unknown = {"reverse"}
        done = self.run_api("--only", "repeat,reverse", "--show", "1")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("below 90%: reverse en, reverse ja", done.stdout)
        self.assertRegex(done.stdout, r"(?m)^reverse +0/3 +0\.0% +0/3 +0\.0%$")
        self.assertEqual(done.stdout.count("--- reverse"), 1)
        self.assertIn("I do not know.", done.stdout)
        self.assertEqual(self.run_api("--only", "reverse", "--at-least", "0").returncode, 0)

    def check_error(self, done, words):
        self.assertEqual(done.returncode, 2, done.stdout)
        self.assertIn(words, done.stderr)
        self.assertNotIn("Traceback", done.stderr)

    def test_errors_are_told(self):
        self.check_error(self.run_api(key="wrong"), "401 Incorrect API key provided.")
        for failure, words in (
                ((400, {"error": {"message": "Unrecognized request argument"}}),
                 "400 Unrecognized request argument"),
                ((500, b"<html>oh</html>"), "500 <html>oh</html>"), ((200, b"oh"), "not JSON"),
                ((200, {"choices": []}), "no message"), ((200, {"error": None}), "no message")):
            self.server.failure = failure
            self.check_error(self.run_api(), words)

    def test_no_server(self):
        with http.server.HTTPServer(("127.0.0.1", 0), Answering) as unused:
            port = unused.server_port
        self.check_error(self.run_api(port=port), "no answer")

    def test_unknown_exercise(self):
        self.check_error(self.run_api("--only", "repeat,dance"), "no exercise is named dance")


if __name__ == "__main__":
    unittest.main()
