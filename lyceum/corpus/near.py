"""Which documents are copies, and of which: documents that share a key in any column, and those these lead to, are one.

Columns are taken one at a time, so 10⁷ documents of 14 columns need the shards' files (8 bytes a key, memory-mapped if
the caller likes) and under 1 GB of memory. Shapes: N documents of a shard, D of all shards, K columns (bands), E pairs.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lyceum.corpus.ngrams import Hashes, Places


def first_copies(shards: Sequence[Hashes]) -> Places:
    """(D,): for each document, counted through all shards of (N, K) keys, the first one of its cluster.

    A document is kept when it is its own first: `first_copies([…]) == arange(D)`. Where the corpus is cut into shards
    does not matter. Keys [[1, 5], [2, 6]] and [[1, 7], [8, 6]] -> [0, 1, 0, 1].
    """
    total = sum(len(keys) for keys in shards)
    parent = np.arange(total)
    for column in range(shards[0].shape[1] if shards else 0):
        first, other = _pairs(np.concatenate([keys[:, column] for keys in shards]))
        _join(parent, first, other)
    return parent


def _pairs(keys: NDArray[np.uint64]) -> tuple[Places, Places]:
    """(E,) and (E,): each document whose key an earlier one has, with the first that has it."""
    order = np.argsort(keys, kind="stable")  # equal keys stay in corpus order
    ordered = keys[order]
    is_new = np.ones(len(keys), dtype=bool)
    is_new[1:] = ordered[1:] != ordered[:-1]
    starts = np.flatnonzero(is_new)
    copies = np.flatnonzero(~is_new)
    return order[starts[np.searchsorted(starts, copies) - 1]], order[copies]


def _join(parent: Places, first: Places, other: Places) -> None:
    """Join the trees of each pair under the lower root, until none is left to join; then `parent` holds roots only.

    Every round each root with a lower neighbour is hung under the lowest and all paths are cut short, which takes
    O(log D) rounds (Shiloach & Vishkin 1982, "An O(log n) parallel connectivity algorithm").
    """
    while len(first):
        left, right = parent[first], parent[other]
        is_apart = left != right
        first, other, left, right = first[is_apart], other[is_apart], left[is_apart], right[is_apart]
        np.minimum.at(parent, np.maximum(left, right), np.minimum(left, right))
        while not np.array_equal(parent, above := parent[parent]):
            parent[:] = above
