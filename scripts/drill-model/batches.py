"""Owns making batches: conversations rendered, tokenized, sorted by length into rows.

A row is one conversation from position 0, as at inference; rows of like length share a batch. A
pool of batches depends on the seed and its number alone, so that training can go on anywhere.
"""
import itertools
import multiprocessing
import queue

import numpy
from tokenizers import Tokenizer

import chat
import conversations

POOL_CONVERSATIONS = 800
BATCH_TOKENS_MAX = 4096
ROW_TOKENS_STEP = 16
ROW_TOKENS_MAX = 3072
POOLS_AHEAD = 3
PARENT_LOOK_S = 5


class Marks:
    """Which tokens of a rendered text the model writes: assistants' turns, up to their end."""

    def __init__(self, tokenizer):
        one = tokenizer.token_to_id
        self.start, self.end, self.think = one("<|im_start|>"), one("<|im_end|>"), one("<think>")
        self.header = tokenizer.encode("<|im_start|>assistant\n").ids
        if len(self.header) != 3:
            raise ValueError("the header of an assistant's turn is not three tokens")

    def targets(self, ids):
        """For each token, whether the model is to learn to write it."""
        found, i = numpy.zeros(len(ids), bool), 0
        while i < len(ids):
            if ids[i] != self.start or list(ids[i:i + 3]) != self.header:
                i += 1
                continue
            i += 3
            if ids[i] == self.think:
                i += 2  # The prompt opens a thinking block, the model does not.
            while ids[i] != self.end:
                found[i] = True
                i += 1
            found[i] = True
        return found


def pool(tokenizer, marks, seed, number):
    """Batches of (tokens, targets): (rows, tokens) int64 and, moved by one, int64 or -1."""
    made = conversations.training_conversations(f"{seed}/{number}", conversations.shares())
    texts = [chat.whole(e).removesuffix("\n") for e in itertools.islice(made, POOL_CONVERSATIONS)]
    rows = [numpy.array(e.ids) for e in tokenizer.encode_batch(texts)]
    rows = sorted((r for r in rows if len(r) <= ROW_TOKENS_MAX), key=len)
    batches = []
    while rows:
        width = -(-len(rows[-1]) // ROW_TOKENS_STEP) * ROW_TOKENS_STEP
        count = max(1, BATCH_TOKENS_MAX // width)
        taken, rows = rows[-count:], rows[:-count]
        tokens = numpy.zeros((len(taken), width), numpy.int64)
        targets = numpy.full((len(taken), width), -1, numpy.int64)
        for i, row in enumerate(taken):
            tokens[i, :len(row)] = row
            wanted = numpy.where(marks.targets(row), row, -1)
            targets[i, :len(row) - 1] = wanted[1:]
        batches.append((tokens, targets))
    numpy.random.default_rng([number, len(batches)]).shuffle(batches)
    return batches


def _work(path, seed, first, made):
    tokenizer = Tokenizer.from_file(path)
    marks = Marks(tokenizer)
    parent = multiprocessing.parent_process()
    for number in itertools.count(first):
        ready = pool(tokenizer, marks, seed, number)
        while True:
            try:
                made.put(ready, timeout=PARENT_LOOK_S)
                break
            except queue.Full:
                # A parent that was killed takes no more.
                if not parent.is_alive():
                    return


def pools(path, seed, first):
    """Endless pools from `first` on, made ahead by another process."""
    context = multiprocessing.get_context("spawn")
    made = context.Queue(POOLS_AHEAD)
    context.Process(target=_work, args=(str(path), seed, first, made), daemon=True).start()
    while True:
        yield made.get()
