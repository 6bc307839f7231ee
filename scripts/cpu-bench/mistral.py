"""Times mistral.rs on a GGUF file by its own account of requests, one at a time: mistral.py FILE
[--threads N] TEST ...; of the tests, `prefill-N` and `decode-N`. Its Python package takes text, not
tokens, so prompts are words of which the file's vocabulary makes about as many tokens.
"""
import argparse
import os
import random

import tests


def prompt(length, seed):
    """So many letters and spaces: about as many tokens in a vocabulary of threes of letters."""
    rng = random.Random(seed)
    return "".join(rng.choice("0123456789") + "\n" for _ in range(length // 2))


def answer(runner, length, decoded, seed):
    import mistralrs
    return runner.send_completion_request(mistralrs.CompletionRequest(
        model="default", prompt=prompt(length, seed), max_tokens=decoded, temperature=0.0)).usage


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    tests.add_arguments(parser)
    given = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = str(given.threads)
    # It reads the number of threads as it is loaded.
    import mistralrs
    runner = mistralrs.Runner(which=mistralrs.Which.GGUF(
        quantized_model_id=str(given.file.parent), quantized_filename=given.file.name),
        prefix_cache_n=0)
    answer(runner, tests.BEGUN, 1, 0)
    for seed, test in enumerate(given.tests, 1):
        kind, number = tests.parsed(test)
        if kind == "prefill":
            usage = answer(runner, number, 1, seed)
            print(f"{test} {usage.avg_prompt_tok_per_sec:.2f}", flush=True)
        elif kind == "decode":
            usage = answer(runner, max(number, tests.BEGUN), tests.DECODED, seed)
            print(f"{test} {usage.avg_compl_tok_per_sec:.2f}", flush=True)


if __name__ == "__main__":
    main()
