"""Owns the tokenizer: bytes, the exercises' characters, and whole words of the fixed wordings.

The pre-tokenizer is the one that GGUF names `llama-bpe`: a stretch that is in the vocabulary as a
whole is one token, whatever the merges say. So the wordings' frequent words are tokens, and every
other word falls into single characters, which is what reversing, sorting and changing case need.
Japanese has no spaces, its stretches are half sentences: one that is a token would tell nothing of
one that is not, so all of it is single characters. Merges only join the bytes of one character.
"""
import collections
import itertools

import regex
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

import conversations
import chat
import words

PRE = "llama-bpe"
PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
           r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CONTROL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
USER_DEFINED = ["<think>", "</think>", "<tool_call>", "</tool_call>",
                "<tool_response>", "</tool_response>"]
SAMPLE_COUNT = 12_000
# A stretch must be this frequent in the sample to be a token.
WORD_COUNT_MIN = 12
CHARACTER_COUNT_MIN = 3
SIZE_MAX = 3072


def byte_letters():
    """GPT-2's printable letter for each byte."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {b: chr(b) for b in kept}
    for n, b in enumerate(b for b in range(256) if b not in letters):
        letters[b] = chr(256 + n)
    return letters


LETTERS = byte_letters()


def _letters(text):
    return "".join(LETTERS[b] for b in text.encode())


def sample(seed):
    """Texts of the training side."""
    made = conversations.training_conversations(seed, conversations.shares())
    return [chat.whole(e) for e in itertools.islice(made, SAMPLE_COUNT)]


def stretches(texts):
    """How often each pre-token stands in the texts, between control tokens."""
    special = regex.compile("|".join(regex.escape(t) for t in CONTROL + USER_DEFINED))
    found = collections.Counter()
    for text in texts:
        for part in special.split(text):
            found.update(regex.findall(PATTERN, part))
    return found


def _is_content(stretch, contents):
    core = stretch.strip()
    core = core[1:] if core and not core[0].isalnum() else core
    return not core or core.lower() in contents or any(c.isdigit() for c in core)


def build(texts):
    """(tokens in order of id, merges)"""
    contents = {w.lower() for w in words.ENGLISH + words.JAPANESE + words.NAMES + words.NAMES_JA
                + words.CITIES + words.CITIES_JA}
    found = stretches(texts)
    characters = collections.Counter()
    for stretch, count in found.items():
        for character in stretch:
            characters[character] += count
    kana = [chr(c) for c in [*range(0x3041, 0x3097), *range(0x30A1, 0x30FD)]]
    certain = {*kana, *words.KANJI, *"、。「」『』？！・ー：（）…〜ａ０"}
    wide = {c for c, n in characters.items() if len(c.encode()) > 1 and n >= CHARACTER_COUNT_MIN}
    tokens = CONTROL + USER_DEFINED + [LETTERS[b] for b in range(256)]
    held, merges = set(tokens), []
    for character in sorted(wide | certain):
        letters = _letters(character)
        for cut in range(1, len(letters)):
            pair, joined = (letters[:cut], letters[cut]), letters[:cut + 1]
            if joined not in held:
                held.add(joined)
                tokens.append(joined)
                merges.append(pair)
    for stretch, count in sorted(found.items(), key=lambda item: (-item[1], item[0])):
        letters = _letters(stretch)
        if count < WORD_COUNT_MIN or len(tokens) >= SIZE_MAX:
            break
        if not stretch.isascii() and any(c.isalpha() for c in stretch):
            continue
        if letters not in held and (not stretch.strip(" \n") or not _is_content(stretch, contents)
                                    or not any(c.isalnum() for c in stretch)):
            held.add(letters)
            tokens.append(letters)
    return tokens, merges


def tokenizer(tokens, merges):
    """A `tokenizers` tokenizer that splits as the GGUF file's readers do."""
    made = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)},
                                [tuple(m) for m in merges], ignore_merges=True))
    made.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in CONTROL])
    made.add_tokens([AddedToken(t, special=False, normalized=False) for t in USER_DEFINED])
    return made


def save(path, seed, given=None):
    """Writes the tokenizer: of these (tokens, merges), or built of what training draws."""
    made = tokenizer(*(given or build(sample(seed))))
    made.save(str(path))
    return made
