import random

import pytest
import torch

from lyceum.core.request import Request, Sampling
from lyceum.infer.engine import Engine
from lyceum.infer.generate import all_logits
from lyceum.infer.scoring import ScoringRow, score
from tests.infer.tiny import byte_tokenizer, tiny_model

NOTHING = Sampling(max_tokens=0)


def full_pass(model, tokens, score_from):
    logprobs = all_logits(model, tokens).log_softmax(-1)
    return [float(logprobs[at - 1, tokens[at]]) for at in range(score_from, len(tokens))]


@pytest.mark.parametrize("seed", range(4))
@torch.inference_mode()
def test_prompt_logprobs_equal_the_log_softmax_of_the_full_pass(seed):
    """Choices that share their beginning, single texts and whole rows, in any order."""
    source = random.Random(seed)
    model = tiny_model(seed)
    asked = []
    for _ in range(12):
        trunk = tuple(source.randrange(256) for _ in range(source.randint(1, 40)))
        for _ in range(source.randint(1, 5)):
            branch = tuple(source.randrange(3) for _ in range(source.randint(0, 12)))
            asked.append((trunk + branch, len(trunk)))
    asked.append((tuple(source.randrange(256) for _ in range(model.config.context_tokens)), 1))
    engine = Engine(model, byte_tokenizer())
    streams = [engine.submit(Request(tokens=t, sampling=NOTHING, score_from=at)) for t, at in asked]
    for stream, (tokens, score_from) in zip(streams, asked, strict=True):
        assert stream.reply().prompt_logprobs == pytest.approx(full_pass(model, tokens, score_from), abs=1e-4)


def test_choices_share_their_question():
    row = ScoringRow(100)
    question = tuple(range(50))
    assert all(row.add((*question, 60 + choice, 7, 8), 50) for choice in range(4))
    assert len(row.tokens) == 50 + 4 * 2  # the last token of a choice is predicted, never read
    row = ScoringRow(50)
    assert all(row.add((*question, choice), 50) for choice in range(50))
    assert len(row.tokens) == 50


def test_a_full_row_takes_no_more_and_an_empty_one_takes_any():
    row = ScoringRow(10)
    assert row.add(tuple(range(30)), 1)
    assert not row.add((1, 2), 1)


@torch.inference_mode()
def test_a_branch_never_sees_another():
    model = tiny_model()
    trunk = (1, 2, 3, 4)
    alone, together = ScoringRow(50), ScoringRow(50)
    alone.add((*trunk, 9, 9, 9), 4)
    for branch in ((5, 6, 7), (9, 9, 9), (8, 8, 8)):
        together.add((*trunk, *branch), 4)
    assert score(model, together)[1] == pytest.approx(score(model, alone)[0], abs=1e-5)
