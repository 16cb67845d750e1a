import random

import pytest
import torch

from lyceum.infer.cache import BLOCK_TOKENS, Cache
from lyceum.infer.generate import all_logits
from lyceum.model.config import Learned, Rope
from tests.infer.tiny import tiny_model


def rows_of(source, sizes):
    return [tuple(source.randrange(256) for _ in range(size)) for size in sizes]


def new_cache(model):
    return Cache(model.config, dtype=model.embedding.weight.dtype)


def read(model, cache, rows, starts, num_tokens):
    """The logits of the next `num_tokens` of each row, from its start on."""
    tokens = torch.tensor([row[start : start + num_tokens] for row, start in zip(rows, starts, strict=True)])
    positions = cache.open(starts, num_tokens=num_tokens)
    return model.logits(model(tokens, positions=positions, attend=cache))


@pytest.mark.parametrize("positions", [Rope(), Learned()])
@torch.inference_mode()
def test_cached_decoding_equals_the_full_pass_at_every_step(positions):
    model = tiny_model(positions=positions)
    rows = rows_of(random.Random(0), [40, 40, 40])
    full = torch.stack([all_logits(model, row) for row in rows])
    for starts in ([3, 3, 3], [0, 7, 19]):
        cache = new_cache(model)
        cache.reserve(3, 40)
        for row, start in enumerate(starts):
            if start:
                one = cache.fill(row, [start])
                model(torch.tensor([rows[row][:start]]), positions=one.positions, attend=one)
        for more in range(20):
            at = [start + more for start in starts]
            logits = read(model, cache, rows, at, 1)[:, 0]
            torch.testing.assert_close(logits, full[torch.arange(3), at], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_reading_several_tokens_at_once_equals_reading_them_one_by_one():
    model = tiny_model()
    rows = rows_of(random.Random(1), [30, 30])
    full = torch.stack([all_logits(model, row) for row in rows])
    cache, at = new_cache(model), [0, 0]
    for num_tokens in (5, 1, 9, 3):
        logits = read(model, cache, rows, at, num_tokens)
        torch.testing.assert_close(logits, full[:, at[0] : at[0] + num_tokens], atol=1e-5, rtol=0)
        at = [start + num_tokens for start in at]
    again = read(model, cache, rows, [4, 11], 6)  # going back: what was read after it is written over
    for row, start in enumerate((4, 11)):
        torch.testing.assert_close(again[row], full[row, start : start + 6], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_packed_prompts_become_rows_and_a_row_can_move():
    model = tiny_model()
    rows = rows_of(random.Random(2), [9, 17, 4])
    cache = new_cache(model)
    fill = cache.fill(0, [8, 16, 3])
    packed = torch.tensor([[token for row in rows for token in row[:-1]]])
    logits = model.logits(model(packed, positions=fill.positions, attend=fill))[0]
    expected = torch.cat([all_logits(model, row[:-1]) for row in rows])
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)
    cache.move(2, 0, num_tokens=3)
    logits = read(model, cache, [rows[2], rows[1]], [3, 16], 1)
    for row, whole in enumerate((rows[2], rows[1])):
        torch.testing.assert_close(logits[row, 0], all_logits(model, whole)[-1], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_growing_keeps_what_was_read():
    model = tiny_model(context_tokens=2 * BLOCK_TOKENS)
    row = rows_of(random.Random(3), [BLOCK_TOKENS + 2])[0]
    cache = new_cache(model)
    read(model, cache, [row], [0], BLOCK_TOKENS)
    assert cache.keys.shape[3] == BLOCK_TOKENS
    cache.reserve(5, 1)
    logits = read(model, cache, [row], [BLOCK_TOKENS], 2)
    assert cache.keys.shape[1] >= 5 and cache.keys.shape[3] > BLOCK_TOKENS
    torch.testing.assert_close(logits[0], all_logits(model, row)[-2:], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_bfloat16_decodes_like_its_own_full_pass():
    model = tiny_model().bfloat16()
    rows = rows_of(random.Random(4), [20, 20])
    cache = new_cache(model)
    for at in range(20):
        logits = read(model, cache, rows, [at, at], 1)[:, 0]
    full = torch.stack([all_logits(model, row)[-1] for row in rows])
    assert float((logits - full).abs().max()) < 0.25
