"""Owns making batches: conversations rendered, tokenized, sorted by length into rows.

A row is one conversation from position 0, as at inference; rows of like length share a batch. A
pool of batches depends on the seed, its number and the mix alone, so that training can go on
anywhere.
"""
import itertools
import multiprocessing
import queue
import random

import numpy
from tokenizers import Tokenizer

import chat
import conversations
import vocabulary

POOL_CONVERSATIONS = 800
BATCH_TOKENS_MAX = 4096
ROW_TOKENS_STEP = 16
ROW_TOKENS_MAX = 3072
POOLS_AHEAD = 3
# Shares of words that are spelled, one of these for each conversation.
SPELLED_SHARES = [0, 0, 0.05, 0.2]
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


class Spelling:
    """Whole words as their characters, here and there in what the model reads: so it learns to read
    words that are no tokens of its vocabulary. What it writes stays as it is."""

    def __init__(self, tokenizer):
        self.pieces = {}
        self.start = tokenizer.token_to_id("<|im_start|>")
        ids = tokenizer.get_vocab()
        for token, id_ in ids.items():
            word = token.removeprefix("Ġ")
            named = token in vocabulary.CONTROL + vocabulary.USER_DEFINED
            if len(token) > 1 and word.isascii() and any(map(str.isalpha, word)) and not named:
                self.pieces[id_] = [ids[letter] for letter in token]

    def spelled(self, ids, written, rng):
        share = rng.choice(SPELLED_SHARES)
        if share == 0:
            return ids
        found = []
        for id_, target, before in zip(ids, written, [None, *ids]):
            pieces = self.pieces.get(id_)
            # A role is the template's word, and always a token.
            if pieces and not target and before != self.start and rng.random() < share:
                found += pieces
            else:
                found.append(id_)
        return found


def pool(tokenizer, marks, seed, number, shares):
    """Batches of (tokens, targets): (rows, tokens) int64 and, moved by one, int64 or -1."""
    made = conversations.training_conversations(f"{seed}/{number}", shares)
    texts = [chat.whole(e).removesuffix("\n") for e in itertools.islice(made, POOL_CONVERSATIONS)]
    spelling = Spelling(tokenizer)
    rng = random.Random(f"{seed}/{number}/spelled")
    rows = [numpy.array(spelling.spelled(e.ids, marks.targets(e.ids), rng))
            for e in tokenizer.encode_batch(texts)]
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
    shares = conversations.shares()
    for number in itertools.count(first):
        ready = pool(tokenizer, marks, seed, number, shares)
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
    worker = context.Process(target=_work, args=(str(path), seed, first, made), daemon=True)
    worker.start()
    while True:
        try:
            yield made.get(timeout=PARENT_LOOK_S)
        except queue.Empty:
            if not worker.is_alive():
                raise RuntimeError("what makes batches has ended, see above") from None
