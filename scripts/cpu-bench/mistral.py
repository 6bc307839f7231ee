"""Times mistral.rs on a GGUF file, one request at a time: mistral.py FILE --threads N [--clock
wall|cpu] TEST ...; of the tests, `prefill-N` and `decode-N`. Its Python package takes text, not
tokens, so prompts are digits and line ends, each of which is a token.
"""
import argparse
import os
import random

import tests


class Requests:
    """A model, and what requests to it take."""

    def __init__(self, file, clock):
        # It reads the number of threads as it is loaded.
        import mistralrs
        self.package, self.clock, self.seed = mistralrs, clock, 0
        self.runner = mistralrs.Runner(which=mistralrs.Which.GGUF(
            quantized_model_id=str(file.parent), quantized_filename=file.name), prefix_cache_n=0)

    def took(self, length, decoded):
        """(seconds, tokens of the prompt) of a fresh prompt of about so many tokens."""
        self.seed += 1
        rng = random.Random(self.seed)
        prompt = "".join(rng.choice("0123456789") + "\n" for _ in range(length // 2))
        request = self.package.CompletionRequest(
            model="default", prompt=prompt, max_tokens=decoded, temperature=0.0)
        began = self.clock()
        usage = self.runner.send_completion_request(request).usage
        seconds = self.clock() - began
        assert usage.completion_tokens == decoded, "it wrote less than was asked for"
        return seconds, usage.prompt_tokens

    def rate(self, test):
        """Tokens per second."""
        kind, number = tests.parsed(test)
        length = max(number, tests.BEGUN)
        seconds, tokens = self.took(length, 1)
        if kind == "prefill":
            return tokens / seconds
        # What both have in common is the prompt.
        longer, _ = self.took(length, 1 + tests.DECODED)
        return tests.DECODED / (longer - seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    tests.add_arguments(parser)
    given = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = str(given.threads)
    requests = Requests(given.file, tests.clock_of(given))
    requests.took(tests.BEGUN, 1)
    for test in given.tests:
        print(f"{test} {requests.rate(test):.2f}", flush=True)


if __name__ == "__main__":
    main()
