import random

import pytest
import torch

from lyceum.core.errors import CheckpointError
from lyceum.infer.generate import all_logits
from lyceum.infer.runner import PAGE_TOKENS, Runner, Span, default_pages
from lyceum.infer.torch_runner import TorchRunner, plain_engine
from lyceum.model.config import Learned, Rope
from tests.infer.tiny import byte_tokenizer, tiny_model


def rows_of(source, sizes):
    return [tuple(source.randrange(256) for _ in range(size)) for size in sizes]


def poisoned(model, num_pages=24):
    """A runner whose pages all hold NaN, as freed ones may."""
    runner = TorchRunner(model, num_pages=num_pages)
    for page in range(num_pages):
        runner.poison(page)
    return runner


def scattered(source, num_rows, num_pages=24):
    """Pages of each row, none in order."""
    pages = list(range(num_pages))
    source.shuffle(pages)
    return [pages[row::num_rows] for row in range(num_rows)]


def span(row, start, size, pages, **wishes):
    wishes.setdefault("num_logits", 0 if "targets" in wishes else size)
    return Span(tokens=row[start : start + size], start=start, pages=pages, **wishes)


@pytest.mark.parametrize("positions", [Rope(), Learned()])
def test_reading_in_any_parts_and_company_equals_the_full_pass(positions):
    """Rows of different lengths, in parts of one token and of many, beside each other, in scattered poisoned pages."""
    source = random.Random(0)
    model = tiny_model(positions=positions)
    rows = rows_of(source, [40, 61, 17, 96])
    full = [all_logits(model, row) for row in rows]
    runner, pages = poisoned(model), scattered(source, 4)
    starts = [0] * 4
    while any(start < len(row) for start, row in zip(starts, rows, strict=True)):
        picked = [at for at in range(4) if starts[at] < len(rows[at]) and source.random() < 0.7]
        sizes = [min(source.choice([1, 1, 1, 2, 9, 30]), len(rows[at]) - starts[at]) for at in picked]
        if not picked:
            continue
        outcome = runner.run(
            [span(rows[at], starts[at], size, pages[at]) for at, size in zip(picked, sizes, strict=True)]
        )
        expected = torch.cat([full[at][starts[at] : starts[at] + size] for at, size in zip(picked, sizes, strict=True)])
        torch.testing.assert_close(outcome.logits, expected, atol=1e-5, rtol=0)
        assert outcome.best.tolist() == expected.argmax(-1).tolist()
        torch.testing.assert_close(torch.from_numpy(outcome.logsumexp), expected.logsumexp(-1), atol=1e-5, rtol=0)
        for at, size in zip(picked, sizes, strict=True):
            starts[at] += size


def test_going_back_writes_over_what_was_read():
    source = random.Random(1)
    model = tiny_model()
    first, second = rows_of(source, [30, 30])
    second = first[:11] + second[11:]
    runner, pages = poisoned(model), scattered(source, 1)[0]
    runner.run([span(first, 0, 30, pages)])
    outcome = runner.run([span(second, 11, 19, pages)])
    torch.testing.assert_close(outcome.logits, all_logits(model, second)[11:], atol=1e-5, rtol=0)


def test_a_copied_page_is_read_like_its_source():
    source = random.Random(2)
    model = tiny_model()
    row = rows_of(source, [25])[0]
    runner = poisoned(model)
    runner.run([span(row, 0, 20, [3, 7])])
    runner.copy_page(7, 11)
    runner.poison(7)
    outcome = runner.run([span(row, 20, 5, [3, 11])])
    torch.testing.assert_close(outcome.logits, all_logits(model, row)[20:], atol=1e-5, rtol=0)


def test_a_poisoned_page_that_is_read_is_noticed():
    row = rows_of(random.Random(3), [25])[0]
    runner = poisoned(tiny_model())
    runner.run([span(row, 0, 20, [3, 7])])
    runner.poison(3)
    for size in (1, 2):
        assert runner.run([span(row, 20, size, [3, 7])]).logits.isnan().any()


@torch.inference_mode()
def test_only_what_was_asked_for_is_given_spans_in_order():
    source = random.Random(4)
    model = tiny_model()
    rows = rows_of(source, [30, 20, 10, 5])
    runner, pages = poisoned(model), scattered(source, 4)
    full = [all_logits(model, row) for row in rows]
    outcome = runner.run(
        [
            span(rows[0], 0, 29, pages[0], targets=rows[0][10:]),
            span(rows[1], 0, 20, pages[1], num_logits=2, wants_hidden=True),
            span(rows[2], 0, 10, pages[2], num_logits=0),
            span(rows[3], 0, 1, pages[3], targets=(9,), wants_hidden=True),
        ]
    )
    torch.testing.assert_close(outcome.logits, full[1][18:], atol=1e-5, rtol=0)
    expected = full[0].log_softmax(-1)[9:29].gather(1, torch.tensor(rows[0][10:])[:, None])[:, 0]
    torch.testing.assert_close(torch.from_numpy(outcome.target_logprobs[0]), expected, atol=1e-5, rtol=0)
    assert outcome.target_logprobs[1] == pytest.approx([float(full[3].log_softmax(-1)[0, 9])], abs=1e-5)
    assert [hidden.shape for hidden in outcome.hidden] == [(20, 32), (1, 32)]
    told = model.logits(torch.from_numpy(outcome.hidden[0]))
    torch.testing.assert_close(told, full[1], atol=1e-5, rtol=0)


def test_the_best_token_is_one_the_tokenizer_has():
    model = tiny_model()
    runner = TorchRunner(model, num_pages=4, known_tokens=20)
    outcome = runner.run([span((1, 2, 3), 0, 3, [0])])
    assert outcome.best.tolist() == outcome.logits[:, :20].argmax(-1).tolist()
    assert outcome.logits.shape[1] == 257 and int(outcome.logits.argmax(-1).max()) >= 20


@torch.inference_mode()
def test_bfloat16_decodes_like_its_own_full_pass():
    source = random.Random(5)
    model = tiny_model().bfloat16()
    rows = rows_of(source, [40, 40])
    runner, pages = poisoned(model), scattered(source, 2)
    runner.run([span(row, 0, 15, own) for row, own in zip(rows, pages, strict=True)])
    for at in range(15, 40):
        logits = runner.run([span(row, at, 1, own) for row, own in zip(rows, pages, strict=True)]).logits
    full = torch.stack([all_logits(model, row)[-1] for row in rows])
    assert float((logits - full).abs().max()) < 0.25


def test_it_is_a_runner_and_takes_weights_of_its_own_model_only():
    runner = TorchRunner(tiny_model(), num_pages=2)
    assert isinstance(runner, Runner)
    with pytest.raises(CheckpointError, match=r"no weight 'head\.wait'; did you mean"):
        runner.load({"head.wait": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=r"head.weight is \(1,\)"):
        runner.load({"head.weight": torch.zeros(1)})
    runner.load({"head.weight": torch.zeros(257, 32)})
    assert not runner.run([span((1,), 0, 1, [0])]).logits.any()


def test_pages_are_enough_for_a_context_and_not_more_than_memory_allows():
    config = tiny_model(context_tokens=96).config
    assert default_pages(config, 4) == 16 * 6
    assert default_pages(config, 10**9) == 6
    assert plain_engine(tiny_model(), byte_tokenizer()).stats.pages_free * PAGE_TOKENS == 16 * 96
