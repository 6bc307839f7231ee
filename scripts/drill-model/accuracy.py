"""Owns measuring a network in torch on held-out draws."""
import chat
import conversations
import generation
from score import Answer

ANSWER_TOKENS_MAX = 200


def measure(network, tokenizer, seed, draws, kinds=conversations.KINDS, unseen=False):
    """The network's greedy answers to fresh exercises."""
    asked = conversations.fresh(seed, draws, kinds, unseen)
    prompts = [tokenizer.encode(chat.prompt(exercise)).ids for _, exercise in asked]
    end = tokenizer.token_to_id("<|im_end|>")
    written = generation.write(network, prompts, ANSWER_TOKENS_MAX, end)
    answers = []
    for (kind, exercise), ids in zip(asked, written):
        text = tokenizer.decode(ids, skip_special_tokens=False)
        answers.append(Answer(kind, exercise, chat.message(text, exercise.enable_thinking)))
    return answers
