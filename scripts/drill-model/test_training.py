"""Checks that training goes on from a checkpoint as if it had not stopped, that its optimizer steps
as torch's does, that writing with a past equals writing without one, and that the exported file
holds what the checkpoint holds.
"""
import itertools
import random
import tempfile
import unittest
from dataclasses import replace
from pathlib import Path

import gguf
import numpy
import torch
from tokenizers import Tokenizer

import batches
import chat
import conversations
import export
import exported
import generation
import model
import muon
import training

ROWS, STEPS, TOKENS = 2, 3, 48


def steps(run, first, count):
    """Trains on the batches of these numbers; the losses."""
    tokens_of = numpy.random.default_rng(1).integers(300, size=(first + count, ROWS, TOKENS))
    return [run.step(torch.from_numpy(tokens), torch.from_numpy(numpy.roll(tokens, -1, 1)), 1e-3)
            for tokens in tokens_of[first:]]


class Training(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        torch.set_num_threads(1)
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.whole = training.Run(cls.folder, 1)
        steps(cls.whole, 0, STEPS)
        cls.whole.save()
        (cls.folder / training.BEGUN).write_text('{"seed": 1, "from": null}')

    def test_goes_on_from_a_checkpoint(self):
        resumed = training.Run(self.folder, 1)
        resumed.load()
        self.assertEqual((resumed.steps, resumed.tokens), (STEPS, STEPS * ROWS * TOKENS))
        straight = training.Run(self.folder, 1)
        steps(straight, 0, STEPS)
        self.assertEqual(steps(straight, STEPS, 2), steps(resumed, STEPS, 2))

    def test_matrices_step_as_torch_has_it(self):
        shapes = [(64, 128), (128, 64), (64, 64), (64, 128)]

        def stepped(optimizer_of):
            generator = torch.Generator().manual_seed(1)
            matrices = [torch.nn.Parameter(torch.randn(s, generator=generator)) for s in shapes]
            optimizer = optimizer_of(matrices)
            for _ in range(STEPS):
                for matrix in matrices:
                    matrix.grad = torch.randn(matrix.shape, generator=generator)
                optimizer.step()
            return matrices
        ours = stepped(lambda m: muon.Muon(m, lr=3e-3, weight_decay=0.05))
        theirs = stepped(lambda m: torch.optim.Muon(m, lr=3e-3, weight_decay=0.05,
                                                    adjust_lr_fn="match_rms_adamw"))
        for a, b in zip(ours, theirs):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-4)

    def test_the_tokenizer_is_the_same_every_time(self):
        with tempfile.TemporaryDirectory() as folder:
            training.Run(Path(folder), 1)
            first, second = ((Path(where) / "tokenizer.json").read_bytes()
                             for where in (folder, self.folder))
        self.assertEqual(first, second)

    def test_words_are_spelled_in_what_is_read_alone(self):
        tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        spelling, marks = batches.Spelling(tokenizer), batches.Marks(tokenizer)
        asked = next(conversations.training_conversations("spelled", {"tool_call": 1}))
        ids = tokenizer.encode(chat.whole(asked)).ids
        lengths = set()
        for seed in range(20):
            spelled = spelling.spelled(ids, marks.targets(ids), random.Random(seed))
            lengths.add(len(spelled))
            self.assertEqual(tokenizer.decode(spelled, skip_special_tokens=False),
                             tokenizer.decode(ids, skip_special_tokens=False))
            self.assertEqual(marks.targets(spelled).sum(), marks.targets(ids).sum())
        self.assertGreater(len(lengths), 1)

    def test_pools_depend_on_their_number_alone(self):
        tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        marks = batches.Marks(tokenizer)
        shares = conversations.shares()
        first, again, other = (batches.pool(tokenizer, marks, 1, n, shares) for n in (4, 4, 5))
        self.assertTrue(all(numpy.array_equal(a[0], b[0]) and numpy.array_equal(a[1], b[1])
                            for a, b in itertools.zip_longest(first, again)))
        self.assertFalse(numpy.array_equal(first[0][0], other[0][0]))

    def test_writing_many_at_once_equals_one_without_a_past(self):
        network, tokenizer = training.load_network(self.folder)
        prompts = [tokenizer.encode(chat.prompt(e)).ids
                   for _, e in conversations.fresh(1, 1, ["repeat", "extract"])]
        written = generation.write(network, prompts, 5, -1)
        for prompt, ids in zip(prompts, written):
            with torch.no_grad():
                hidden = network(torch.tensor([prompt + ids[:-1]]))
                logits = network.logits(hidden[0, len(prompt) - 1:])
            chosen = logits.gather(1, torch.tensor(ids)[:, None])[:, 0]
            # In bf16 near choices may change places.
            self.assertLess((logits.max(1).values - chosen).max().item(), 0.1)

    def test_the_file_holds_the_checkpoint(self):
        path = self.folder / "drill.gguf"
        export.export(self.folder, path)
        first = path.read_bytes()
        export.export(self.folder, path)
        self.assertEqual(first, path.read_bytes())
        self.assertLess(len(first), 12_000_000)
        reader = gguf.GGUFReader(path)
        tensors = {t.name: t for t in reader.tensors}
        network, tokenizer = training.load_network(self.folder)
        held = dict(network.named_parameters())
        self.assertEqual(set(tensors), {export.tensor_name(name) for name in held})
        for name, parameter in held.items():
            tensor = tensors[export.tensor_name(name)]
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            wanted = parameter.detach().numpy()
            self.assertEqual(values.shape, wanted.shape)
            self.assertLess(numpy.abs(values - wanted).max(), numpy.abs(wanted).max() / 100)
        tokens = reader.fields["tokenizer.ggml.tokens"].contents()
        self.assertEqual(tokens, [tokenizer.id_to_token(i) for i in range(len(tokens))])
        self.assertEqual(reader.fields["tokenizer.chat_template"].contents(), chat.SOURCE)

    def test_a_run_that_begins_with_a_file_begins_with_its_weights(self):
        path = self.folder / "begun.gguf"
        export.export(self.folder, path)
        network, tokenizer = training.load_network(self.folder)
        other = model.Drill(network.shape)
        self.assertEqual(exported.begin_from(path, other, tokenizer), network.shape.vocabulary)
        for ours, theirs in zip(other.parameters(), network.parameters()):
            self.assertLess((ours - theirs).abs().max(), theirs.abs().max() / 100)
        with self.assertRaises(ValueError):
            exported.begin_from(path, model.Drill(replace(network.shape, feed_forward=256)),
                                tokenizer)

    def test_a_run_that_begins_with_a_file_keeps_its_tokens(self):
        path = self.folder / "tokens.gguf"
        export.export(self.folder, path)
        with tempfile.TemporaryDirectory() as folder:
            run = training.Run(Path(folder), 7, torch.float32, path)
        kept = run.tokenizer
        _, tokenizer = training.load_network(self.folder)
        self.assertEqual(kept.get_vocab(), tokenizer.get_vocab())
        for text in ("Reverse the word lantern.", "「さくら」を逆にして。<|im_end|>", "4711 ünö"):
            self.assertEqual(kept.encode(text).ids, tokenizer.encode(text).ids)


if __name__ == "__main__":
    unittest.main()
