"""The Attend contract: how queries meet keys and values is handed to the model, which holds no mask and no cache.

Shapes: B rows, H query heads, G key heads (H is a multiple of G), T queries, S keys, K head width.
Query t of a row is its key S - T + t: the last queries stand at the last keys.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

Queries = Float[Tensor, "B H T K"]  # and what is attended, one for each query
Keys = Float[Tensor, "B G S K"]  # and values
BLOCK = 128  # queries at a time; 64 and 256 measured slower on two Zen 5 cores (benchmarks/attention.py)


@dataclass(frozen=True, kw_only=True)
class AttendSpec:
    """What a layer asks of whatever attends for it."""

    scale: float  # multiplies the products of queries and keys


@runtime_checkable
class Attend(Protocol):
    """How q meets k and v in one layer."""

    def __call__(self, layer: int, q: Queries, k: Keys, v: Keys, spec: AttendSpec) -> Queries:
        """The attended values, one for each query."""


class Causal:
    """Each row is one document: a token sees itself and all before it."""

    def __call__(self, layer: int, q: Queries, k: Keys, v: Keys, spec: AttendSpec) -> Queries:
        return attention(q, k, v, scale=spec.scale)


class Packed:
    """Rows hold several documents: a token sees itself and earlier tokens of its own document."""

    def __init__(self, documents: Int[Tensor, "B T"]) -> None:
        same = documents[:, :, None] == documents[:, None, :]
        self.allowed = same.tril()[:, None]  # (B, 1, T, T)

    def __call__(self, layer: int, q: Queries, k: Keys, v: Keys, spec: AttendSpec) -> Queries:
        return attention(q, k, v, scale=spec.scale, allowed=self.allowed)


def attention(
    q: Queries,
    k: Keys,
    v: Keys,
    *,
    scale: float,
    allowed: Bool[Tensor, "B 1 T S"] | None = None,
) -> Queries:
    """Softmax attention; causal when `allowed` (true where a query may see a key) is not given.

    Every query must be allowed at least one key. Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.1.
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        return _blocked(q, k, v, scale=scale, allowed=allowed)
    is_square = q.shape[2] == k.shape[2]
    if allowed is None and not is_square and q.shape[2] > 1:
        allowed = _causal(q.shape[2], k.shape[2], q.device)[None, None]
    return F.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=allowed,
        scale=scale,
        is_causal=allowed is None and is_square,
        enable_gqa=q.shape[1] != k.shape[1],
    )


def _blocked(q: Tensor, k: Tensor, v: Tensor, *, scale: float, allowed: Tensor | None) -> Tensor:
    """Attention as plain matrix products over blocks of queries, the query heads of a key head folded into rows.

    On CPUs in bfloat16, forward and backward, it is 2.4 times as fast as the library's (benchmarks/attention.py).
    """
    rows, heads, queries, width = q.shape
    groups, keys = k.shape[1], k.shape[2]
    share = heads // groups
    past = keys - queries
    k, v = k.reshape(rows * groups, keys, width), v.reshape(rows * groups, keys, width)
    q = (q * scale).reshape(rows * groups, share, queries, width)
    parts = []
    for start in range(0, queries, BLOCK):
        end = min(start + BLOCK, queries)
        size, seen = end - start, past + end  # later keys are never allowed
        scores = q[:, :, start:end].reshape(rows * groups, share * size, width) @ k[:, :seen].transpose(1, 2)
        own = _causal(size, seen, q.device)[None, None] if allowed is None else allowed[:, :, start:end, :seen]
        hidden = torch.zeros(own.shape, dtype=q.dtype, device=q.device).masked_fill_(~own, -torch.inf)
        scores = scores.view(rows, heads, size, seen) + hidden
        shares = torch.softmax(scores, dim=-1).view(rows * groups, share * size, seen)
        parts.append((shares @ v[:, :seen]).view(rows, heads, size, width))
    return torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]


def _causal(queries: int, keys: int, device: torch.device) -> Bool[Tensor, "T S"]:
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)
