"""PreferencePairs: two answers to a prompt, one preferred, with what the reference model gives each.

In a Batch, row 2i is a pair's chosen answer and row 2i + 1 the rejected one; `extra["reference"]` holds their
log-probabilities under the reference, (B,).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lyceum.data.batch import Batch, stack
from lyceum.data.rows import Example, check_examples, pack


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two tokenized conversations that differ in the last reply; only reply tokens carry weight."""

    chosen: Example
    rejected: Example


def pair_batch(pairs: Sequence[Pair], references: Sequence[tuple[float, float]] | None = None) -> Batch:
    """Pairs as interleaved rows, with the reference's log-probabilities (chosen, rejected) of each if known."""
    batch = stack([pack([example]) for pair in pairs for example in (pair.chosen, pair.rejected)])
    if references is None:
        return batch
    flat = torch.tensor([value for pair in references for value in pair], dtype=torch.float32)
    return Batch(
        tokens=batch.tokens, loss_weights=batch.loss_weights, documents=batch.documents, extra={"reference": flat}
    )


class PreferencePairs:
    """An endless Source: every pair once an epoch, in a new order; an epoch's last batch may be smaller."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        references: Sequence[tuple[float, float]],
        *,
        pairs_per_batch: int,
        context_tokens: int,
        seed: int,
    ) -> None:
        check_examples([e for pair in pairs for e in (pair.chosen, pair.rejected)], context_tokens=context_tokens)
        self.pairs, self.references, self.pairs_per_batch, self.seed = pairs, references, pairs_per_batch, seed
        self.epoch, self.taken = 0, 0

    def __next__(self) -> Batch:
        """The next micro-batch."""
        if self.taken >= len(self.pairs):
            self.epoch, self.taken = self.epoch + 1, 0
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.pairs))
        picked = order[self.taken : self.taken + self.pairs_per_batch]
        self.taken += len(picked)
        return pair_batch([self.pairs[i] for i in picked], [self.references[i] for i in picked])

    def state(self) -> dict[str, Any]:
        """The epoch and how many of its pairs are gone."""
        return {"epoch": self.epoch, "taken": self.taken}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to where `state` was taken."""
        self.epoch, self.taken = state["epoch"], state["taken"]
