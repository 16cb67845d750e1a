"""Log-probabilities of given tokens, many requests in one pass.

Requests are packed into one row without padding. Those that share everything before `score_from`, as the choices of a
question do, share it in the row too: one trunk is read once and every choice is a branch of it that sees the trunk and
itself. A choice of one token costs nothing beyond the trunk.

Shapes: T tokens of the row, N scored tokens, V vocabulary, H query heads, G key heads, K head width.
"""

import torch
from jaxtyping import Bool
from torch import Tensor

from lyceum.infer.sampling import logprobs_of
from lyceum.model.attend import Attend, AttendSpec, Causal, Keys, Queries, attention
from lyceum.model.transformer import Transformer

HEAD_ROWS = 256  # hidden states through the head at a time: 50 MB of logits for 49,152 tokens


class ScoringRow:
    """A row being filled with requests, up to `capacity` tokens; the first always fits."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.tokens: list[int] = []
        self.positions: list[int] = []
        self.trunks: list[int] = []  # which trunk a token belongs to
        self.branches: list[int] = []  # which branch, 0 for the trunk itself
        self.spans: list[tuple[list[int], list[int]]] = []  # of each request: places that predict, tokens predicted
        self._places: dict[tuple[int, ...], list[int]] = {}  # trunk -> its places in the row

    def add(self, tokens: tuple[int, ...], score_from: int) -> bool:
        """Take one more request, or say that it has no room."""
        trunk, branch = tokens[:score_from], tokens[score_from:-1]
        is_new = trunk not in self._places
        needed = len(branch) + (len(trunk) if is_new else 0)
        if self.tokens and len(self.tokens) + needed > self.capacity:
            return False
        if is_new:
            self._places[trunk] = self._append(trunk, trunk=len(self._places), branch=0, first_position=0)
        place = self._places[trunk][0]
        places = self._append(branch, trunk=self.trunks[place], branch=len(self.spans) + 1, first_position=score_from)
        scored = list(tokens[score_from:])
        self.spans.append(([self._places[trunk][-1], *places][: len(scored)], scored))
        return True

    def _append(self, tokens: tuple[int, ...], *, trunk: int, branch: int, first_position: int) -> list[int]:
        first = len(self.tokens)
        self.tokens += tokens
        self.positions += range(first_position, first_position + len(tokens))
        self.trunks += [trunk] * len(tokens)
        self.branches += [branch] * len(tokens)
        return list(range(first, first + len(tokens)))


class Branching:
    """A token sees its own branch and the trunk the branch grows from."""

    def __init__(self, trunks: Tensor, branches: Tensor) -> None:
        same_trunk = trunks[:, None] == trunks[None, :]
        same_branch = (branches[None, :] == 0) | (branches[:, None] == branches[None, :])
        self.allowed: Bool[Tensor, "1 1 T T"] = (same_trunk & same_branch).tril()[None, None]

    def __call__(self, layer: int, q: Queries, k: Keys, v: Keys, spec: AttendSpec) -> Queries:
        return attention(q, k, v, scale=spec.scale, allowed=self.allowed)


def score(model: Transformer, row: ScoringRow) -> list[tuple[float, ...]]:
    """The log-probabilities each request of the row asked for; the head sees only the places that predict one."""
    device = model.embedding.weight.device
    trunks, branches = (torch.tensor(ids, device=device) for ids in (row.trunks, row.branches))
    is_plain = len(set(row.trunks)) == 1 and len(set(row.branches) - {0}) <= 1
    attend: Attend = Causal() if is_plain else Branching(trunks, branches)
    hidden = model(
        torch.tensor([row.tokens], device=device),
        positions=torch.tensor([row.positions], device=device),
        attend=attend,
    )[0]  # (T, D)
    places = torch.tensor([place for span, _ in row.spans for place in span], dtype=torch.long, device=device)
    targets = torch.tensor([token for _, scored in row.spans for token in scored], dtype=torch.long, device=device)
    flat: list[float] = []
    for start in range(0, len(targets), HEAD_ROWS):
        some = slice(start, start + HEAD_ROWS)
        flat += logprobs_of(model.logits(hidden[places[some]]), targets[some]).tolist()
    numbers = iter(flat)
    return [tuple(next(numbers) for _ in scored) for _, scored in row.spans]
