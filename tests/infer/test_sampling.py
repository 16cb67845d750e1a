import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from lyceum.core.request import Sampling
from lyceum.infer.sampling import choose, draw, keep_top_k, keep_top_p, logprobs_of, penalise, uniform, warm

numbers = st.lists(st.floats(-8, 8, width=32), min_size=6, max_size=6)


def column(value):
    return torch.tensor([[value]])


def slow_top_k(logits, count):
    threshold = sorted(logits, reverse=True)[min(count, len(logits)) - 1] if count else -math.inf
    return [logit if logit >= threshold else -math.inf for logit in logits]


def slow_top_p(logits, mass):
    total = math.fsum(math.exp(logit) for logit in logits)
    shares = [math.exp(logit) / total for logit in logits]
    kept, reached = set(), 0.0
    for token in sorted(range(len(logits)), key=lambda token: -shares[token]):
        if kept and reached >= mass:
            break
        kept.add(token)
        reached += shares[token]
    last = min(shares[token] for token in kept)
    return [logit if share >= last else -math.inf for logit, share in zip(logits, shares, strict=True)]


@given(numbers, st.integers(0, 8))
def test_top_k_keeps_the_k_highest(logits, count):
    assert keep_top_k(torch.tensor([logits]), [count])[0].tolist() == slow_top_k(logits, count)


@given(st.lists(st.integers(-8, 8), min_size=6, max_size=6, unique=True), st.sampled_from([0.1, 0.5, 0.83, 0.97, 1.0]))
def test_top_p_keeps_the_fewest_that_reach_the_mass(logits, mass):
    assert keep_top_p(torch.tensor([logits]).float(), column(mass))[0].tolist() == slow_top_p(logits, mass)


def test_top_p_beyond_its_head_of_candidates_equals_a_full_sort():
    torch.manual_seed(0)
    logits = torch.randn(3, 2000) * torch.tensor([[0.1], [1.0], [4.0]])
    for row, mass in enumerate((0.97, 0.9, 0.5)):
        kept = keep_top_p(logits, torch.full((3, 1), mass))[row]
        assert kept.tolist() == slow_top_p(logits[row].tolist(), mass)


def test_rows_with_different_settings_do_not_touch_each_other():
    torch.manual_seed(0)
    logits = torch.randn(4, 50)
    counts, masses = [0, 3, 50, 1], torch.tensor([[1.0], [0.5], [0.9], [0.01]])
    for row in range(4):
        alone = slice(row, row + 1)
        assert keep_top_k(logits, counts)[row].equal(keep_top_k(logits[alone], counts[alone])[0])
        assert keep_top_p(logits, masses)[row].equal(keep_top_p(logits[alone], masses[alone])[0])


@given(numbers, st.floats(0.5, 2.0), st.sets(st.integers(0, 5)))
def test_the_penalty_makes_seen_tokens_less_likely_and_leaves_the_others(logits, penalty, history):
    seen = torch.tensor([[token in history for token in range(6)]])
    after = penalise(torch.tensor([logits]), seen, column(penalty))[0].tolist()
    for token, logit in enumerate(logits):
        expected = (logit / penalty if logit > 0 else logit * penalty) if token in history else logit
        assert after[token] == pytest.approx(expected, rel=1e-5)


def test_no_temperature_above_zero_overflows_and_its_limit_is_greedy():
    logits = torch.tensor([[1.0, 3.0, 2.0]])
    for temperature in (1e-45, 1e-30, 1e-3):
        assert warm(logits, column(temperature)).softmax(-1).tolist() == [[0.0, 1.0, 0.0]]
        cold = Sampling(temperature=temperature)
        assert all(choose(logits, [cold], [()], [position]) == [1] for position in range(50))
    assert choose(logits, [Sampling()], [()], [0]) == [1]


def test_keeping_everything_changes_nothing():
    torch.manual_seed(0)
    logits = torch.randn(2, 300)
    assert keep_top_k(logits, [0, 300]).equal(logits)
    assert keep_top_p(logits, torch.ones(2, 1)).equal(logits)
    assert keep_top_k(logits, [1, 1]).isfinite().sum() == 2
    assert keep_top_p(logits, torch.full((2, 1), 1e-9)).isfinite().sum() == 2


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1.0),
        Sampling(temperature=0.5),
        Sampling(temperature=1.0, top_k=4),
        Sampling(temperature=1.3, top_p=0.8),
        Sampling(temperature=1.0, repetition_penalty=1.5),
    ],
)
def test_drawn_tokens_follow_the_probabilities(sampling):
    """Chi-square over 4,000 draws; 25 is beyond the 0.1 % point for up to 7 degrees of freedom."""
    logits = torch.tensor([[2.0, 1.0, 0.5, 0.0, -0.5, -1.0, 1.5, -3.0]])
    scores = logits[0].tolist()
    if sampling.repetition_penalty != 1:
        scores[0], scores[5] = scores[0] / 1.5, scores[5] * 1.5
    scores = slow_top_k([score / sampling.temperature for score in scores], sampling.top_k)
    scores = slow_top_p(scores, sampling.top_p) if sampling.top_p < 1 else scores
    expected = torch.tensor(scores).softmax(-1) * 4000
    rows = logits.expand(4000, -1)
    drawn = choose(rows, [sampling] * 4000, [(0, 5)] * 4000, range(4000))
    counts = torch.bincount(torch.tensor(drawn), minlength=8)
    assert counts[expected == 0].sum() == 0
    possible = expected > 0
    assert float(((counts - expected)[possible] ** 2 / expected[possible]).sum()) < 25


def test_the_uniform_numbers_are_uniform_and_independent_of_neighbours():
    for numbers in (
        torch.tensor([uniform(7, position) for position in range(4000)]),
        torch.tensor([uniform(seed, 3) for seed in range(4000)]),
    ):
        assert 0 <= float(numbers.min()) < float(numbers.max()) < 1
        expected = 4000 / 20
        assert float(((numbers.histc(20, 0, 1) - expected) ** 2 / expected).sum()) < 44  # 0.1 % point, 19 degrees
        assert abs(float(torch.corrcoef(torch.stack([numbers[1:], numbers[:-1]]))[0, 1])) < 0.05
    assert uniform(-1, 0) == uniform(2**64 - 1, 0) != uniform(1, 0)


@settings(max_examples=30)
@given(st.integers(0, 2**40), st.integers(0, 10000), st.integers(0, 5))
def test_a_draw_depends_on_seed_and_position_only(seed, position, row):
    torch.manual_seed(1)
    logits = torch.randn(6, 20)
    sampling = Sampling(temperature=1.0, top_k=9, seed=seed)
    others = [Sampling(temperature=0.3 * i, top_p=0.8, repetition_penalty=1.1, seed=i) for i in range(6)]
    mixed = [sampling if i == row else other for i, other in enumerate(others)]
    histories = [(i,) for i in range(6)]
    alone = choose(logits[row : row + 1], [sampling], [()], [position])
    assert choose(logits, mixed, histories, [position] * 6)[row] == alone[0]


def test_a_draw_never_gives_an_impossible_token():
    logits = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]])
    assert draw(logits, [0.0]) == [1]
    assert draw(logits, [1 - 2.0**-53]) == [2]


def test_logprobs_are_the_log_softmax_in_float32():
    torch.manual_seed(0)
    logits = torch.randn(5, 11).bfloat16()
    expected = logits.float().log_softmax(-1)[torch.arange(5), torch.arange(5)]
    torch.testing.assert_close(logprobs_of(logits, torch.arange(5)), expected)
