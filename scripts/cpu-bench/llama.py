"""Times llama.cpp the way appliance/compute's example `steps` times our executor; same tests, same
lines: llama.py FILE [--threads N] [--clock wall|cpu] [--repack yes|no] TEST ...
"""
import argparse
import ctypes

import llama_cpp as llama

import tests

BATCH = 512


class Llama:
    """A model with a cache for so many positions; what is computed is asked token by token."""

    def __init__(self, given, positions, sequences):
        llama.llama_backend_init()
        llama.llama_log_set(QUIET, ctypes.c_void_p(0))
        model = llama.llama_model_default_params()
        model.use_extra_bufts = given.repack == "yes"
        self.model = llama.llama_model_load_from_file(str(given.file).encode(), model)
        assert self.model, f"llama.cpp cannot load {given.file}"
        context = llama.llama_context_default_params()
        context.n_ctx = (positions + 255) // 256 * 256
        context.n_batch = context.n_ubatch = BATCH
        context.n_seq_max = sequences
        context.kv_unified = True
        context.n_threads = context.n_threads_batch = given.threads
        context.type_k = context.type_v = llama.GGML_TYPE_F16
        self.context = llama.llama_init_from_model(self.model, context)
        assert self.context, "llama.cpp has no memory for the cache"
        self.batch = llama.llama_batch_init(BATCH, 0, 1)
        vocabulary = llama.llama_model_get_vocab(self.model)
        self.vocabulary_len = llama.llama_vocab_n_tokens(vocabulary)

    def forget(self):
        llama.llama_memory_clear(llama.llama_get_memory(self.context), True)

    def compute(self, rows, outputs):
        """Rows are (token, position, sequence); the logits of the outputs among them are read."""
        for first in range(0, len(rows), BATCH):
            part = rows[first:first + BATCH]
            self.batch.n_tokens = len(part)
            for i, (token, position, sequence) in enumerate(part):
                self.batch.token[i] = token
                self.batch.pos[i] = position
                self.batch.n_seq_id[i] = 1
                self.batch.seq_id[i][0] = sequence
                self.batch.logits[i] = first + i in outputs
            assert llama.llama_decode(self.context, self.batch) == 0, "llama.cpp refused a batch"
        for _ in outputs:
            # They lie in memory when the batch is done; the last one proves it.
            assert llama.llama_get_logits_ith(self.context, -1)[self.vocabulary_len - 1] is not None


@llama.llama_log_callback
def QUIET(_level, _text, _data):
    """Nothing that it logs is wanted."""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    tests.add_arguments(parser)
    parser.add_argument("--repack", choices=["yes", "no"], default="yes")
    given = parser.parse_args()
    tests.run(given, lambda positions, sequences: Llama(given, positions, sequences))


if __name__ == "__main__":
    main()
