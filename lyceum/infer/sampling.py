"""How the next token is chosen: small pure functions on a batch of logits, and a random stream of its own a request.

The order is Hugging Face's: repetition penalty, temperature, top-k, top-p, then the draw.

Shapes: B rows, V vocabulary. Every row has its own setting, so one call serves requests that differ.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lyceum.core.request import Sampling

HEAD = 256  # top-p looks among so many tokens first; a full sort of 49,152 costs five times as much
WORD = (1 << 64) - 1


def choose(
    logits: Float[Tensor, "B V"],
    samplings: Sequence[Sampling],
    histories: Sequence[Sequence[int]],
    positions: Sequence[int],
) -> list[int]:
    """The next token of each row; `histories` are prompt and answer so far, `positions` count from 0 in the answer.

    The draw depends on a row's logits, seed and position only, never on what else is in the batch.
    """
    scores = logits.float()
    if any(sampling.repetition_penalty != 1 for sampling in samplings):
        penalties = _column([sampling.repetition_penalty for sampling in samplings], scores)
        scores = penalise(scores, seen_tokens(histories, scores), penalties)
    drawn = [row for row, sampling in enumerate(samplings) if sampling.temperature > 0]
    tokens: list[int] = scores.argmax(dim=-1).tolist()
    if not drawn:
        return tokens
    chosen = [samplings[row] for row in drawn]
    scores = warm(scores[drawn], _column([sampling.temperature for sampling in chosen], scores))
    if any(sampling.top_k for sampling in chosen):
        scores = keep_top_k(scores, [sampling.top_k for sampling in chosen])
    if any(sampling.top_p < 1 for sampling in chosen):
        scores = keep_top_p(scores, _column([sampling.top_p for sampling in chosen], scores))
    uniforms = [uniform(samplings[row].seed, positions[row]) for row in drawn]
    for row, token in zip(drawn, draw(scores, uniforms), strict=True):
        tokens[row] = token
    return tokens


def penalise(
    logits: Float[Tensor, "B V"], seen: Bool[Tensor, "B V"], penalties: Float[Tensor, "B 1"]
) -> Float[Tensor, "B V"]:
    """Make tokens already seen less likely: positive logits divided by the penalty, negative ones multiplied.

    Source: CTRL, Keskar et al. 2019, arXiv:1909.05858, section 4.1, with the sign rule of its implementations.
    """
    return torch.where(seen, torch.where(logits > 0, logits / penalties, logits * penalties), logits)


def warm(logits: Float[Tensor, "B V"], temperatures: Float[Tensor, "B 1"]) -> Float[Tensor, "B V"]:
    """Logits over the temperature, the largest moved to 0 first so that no temperature above 0 overflows."""
    smallest = torch.finfo(torch.float32).tiny
    return (logits - logits.amax(dim=-1, keepdim=True)) / temperatures.clamp(min=smallest)


def keep_top_k(logits: Float[Tensor, "B V"], counts: Sequence[int]) -> Float[Tensor, "B V"]:
    """Only the k highest logits of each row, the others -inf; 0 keeps all. Ties with the last kept are kept."""
    vocab_size = logits.shape[-1]
    wanted = [min(count, vocab_size) or vocab_size for count in counts]
    largest = max((count for count in wanted if count < vocab_size), default=0)
    if not largest:
        return logits
    best = logits.topk(largest, dim=-1).values
    last = torch.tensor([min(count, largest) - 1 for count in wanted], device=logits.device)
    threshold = best.gather(1, last[:, None])  # (B, 1)
    threshold[[row for row, count in enumerate(wanted) if count == vocab_size]] = -torch.inf
    return logits.masked_fill(logits < threshold, -torch.inf)


def keep_top_p(logits: Float[Tensor, "B V"], masses: Float[Tensor, "B 1"]) -> Float[Tensor, "B V"]:
    """Only the most likely tokens that together reach the mass, the others -inf; 1 keeps all, ties with the last too.

    The most likely token always stays. Source: Holtzman et al. 2019, arXiv:1904.09751, section 3.1.
    """
    probabilities = torch.softmax(logits, dim=-1)
    best = probabilities.topk(min(HEAD, logits.shape[-1]), dim=-1).values
    if bool((best.sum(dim=-1, keepdim=True) < masses).any()):
        best = probabilities.sort(dim=-1, descending=True).values
    is_kept = best.cumsum(dim=-1) - best < masses  # the mass before a token is still short
    is_kept[:, 0] = True
    threshold = best.masked_fill(~is_kept, torch.inf).amin(dim=-1, keepdim=True)
    return logits.masked_fill((probabilities < threshold) & (masses < 1), -torch.inf)


def draw(logits: Float[Tensor, "B V"], uniforms: Sequence[float]) -> list[int]:
    """The token of each row at which the cumulated probability passes the uniform number, in float64."""
    cumulated = torch.softmax(logits.double(), dim=-1).cumsum(dim=-1)
    points = torch.tensor(uniforms, dtype=torch.float64, device=logits.device)[:, None] * cumulated[:, -1:]
    tokens = torch.searchsorted(cumulated, points, right=True)[:, 0]
    last_possible = logits.shape[-1] - 1 - (logits > -torch.inf).flip(-1).int().argmax(dim=-1)
    drawn: list[int] = torch.minimum(tokens, last_possible).tolist()
    return drawn


def uniform(seed: int, position: int) -> float:
    """A number in [0, 1) that only the seed and the position decide: SplitMix64 of both, its upper 53 bits.

    Source: Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators", figure 17.
    """
    return (_mix(_mix(seed & WORD) + position * 0x9E3779B97F4A7C15) >> 11) * 2.0**-53


def seen_tokens(histories: Sequence[Sequence[int]], logits: Float[Tensor, "B V"]) -> Bool[Tensor, "B V"]:
    """Which tokens each history holds."""
    seen = torch.zeros(logits.shape, dtype=torch.bool, device=logits.device)
    for row, history in enumerate(histories):
        seen[row, torch.tensor(list(set(history)), dtype=torch.long, device=logits.device)] = True
    return seen


def logprobs_of(logits: Float[Tensor, "N V"], tokens: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    """The log-probability of one token a row, softmax in float32."""
    scores = logits.float()
    return scores.gather(-1, tokens[:, None])[:, 0] - scores.logsumexp(dim=-1)


def _mix(number: int) -> int:
    number = (number + 0x9E3779B97F4A7C15) & WORD
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & WORD
    return number ^ (number >> 31)


def _column(numbers: Sequence[float], like: Tensor) -> Float[Tensor, "B 1"]:
    return torch.tensor(numbers, dtype=torch.float32, device=like.device)[:, None]
