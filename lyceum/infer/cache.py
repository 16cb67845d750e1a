"""The key-value cache: an Attend that remembers what every running row has read.

Shapes: L layers, R rows of room, S tokens of room, B rows in a pass, T new tokens a row, H query heads, G key heads,
K head width.

Rows stand without gaps: running rows are 0 … n-1, so that a step reads them as one slice. The cache holds no lengths.
Whoever runs it says with `open` where each row goes on, so a step that was interrupted can simply be done again.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lyceum.model.attend import Attend, AttendSpec, Causal, Keys, Packed, Queries, attention
from lyceum.model.config import ModelConfig

BLOCK_TOKENS = 256  # room grows by doubling, in multiples of this
KEYS_STEP = 64  # keys are read in multiples of this: a product of a new shape costs oneDNN 0.4 ms of preparation


class Cache:
    """Keys and values of the running rows, all layers in one tensor each."""

    def __init__(self, config: ModelConfig, *, dtype: torch.dtype, device: torch.device | str = "cpu") -> None:
        shape = (config.num_layers, 0, config.num_kv_heads, 0, config.head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)  # (L, R, G, S, K)
        self.values = torch.zeros_like(self.keys)
        self._rows = slice(0, 0)
        self._at: tuple[Tensor, Tensor] | None = None  # (B, 1) row and (B, T) place of each new token
        self._num_keys = 0
        self._allowed: Bool[Tensor, "B 1 T S"] | None = None

    def open(self, starts: Sequence[int], *, num_tokens: int = 1) -> Int[Tensor, "B T"]:
        """Make ready for a pass in which rows 0 … B-1 read `num_tokens` more, each from its own start; their positions.

        Every token before a row's start must have been read.
        """
        self._num_keys = -(-(max(starts) + num_tokens) // KEYS_STEP) * KEYS_STEP
        self.reserve(len(starts), self._num_keys)
        device = self.keys.device
        positions = torch.tensor(starts, device=device)[:, None] + torch.arange(num_tokens, device=device)  # (B, T)
        self._rows = slice(0, len(starts))
        self._at = torch.arange(len(starts), device=device)[:, None], positions
        self._allowed = (torch.arange(self._num_keys, device=device) <= positions[:, :, None])[:, None]  # (B, 1, T, S)
        return positions

    def __call__(self, layer: int, q: Queries, k: Keys, v: Keys, spec: AttendSpec) -> Queries:
        assert self._at is not None, "open() says which rows a pass reads"
        rows, places = self._at
        keys, values = self.keys[layer], self.values[layer]
        keys[rows, :, places] = k.transpose(1, 2)
        values[rows, :, places] = v.transpose(1, 2)
        return attention(
            q,
            keys[self._rows, :, : self._num_keys],
            values[self._rows, :, : self._num_keys],
            scale=spec.scale,
            allowed=self._allowed,
        )

    def fill(self, first_row: int, num_tokens: Sequence[int]) -> "Fill":
        """An Attend for a pass over one packed row of whole prompts, which become the rows from `first_row` on."""
        self.reserve(first_row + len(num_tokens), max(num_tokens))
        return Fill(self, first_row, num_tokens)

    def move(self, source: int, target: int, *, num_tokens: int) -> None:
        """Copy a row's first tokens over another row, which has left."""
        for tensor in (self.keys, self.values):
            tensor[:, target, :, :num_tokens] = tensor[:, source, :, :num_tokens]

    def reserve(self, num_rows: int, num_tokens: int) -> None:
        """Make room for so many rows and tokens a row, keeping what is there."""
        layers, rows, groups, tokens, width = self.keys.shape
        if num_rows <= rows and num_tokens <= tokens:
            return
        if num_rows > rows:
            rows = max(num_rows, 2 * rows)
        if num_tokens > tokens:
            tokens = -(-max(num_tokens, 2 * tokens) // BLOCK_TOKENS) * BLOCK_TOKENS
        shape = (layers, rows, groups, tokens, width)
        self.keys, self.values = _grown(self.keys, shape), _grown(self.values, shape)


class Fill:
    """The Attend of a packed row of prompts that also writes their keys and values into the cache."""

    def __init__(self, cache: Cache, first_row: int, num_tokens: Sequence[int]) -> None:
        self.cache, self.first_row, self.num_tokens = cache, first_row, list(num_tokens)
        device = cache.keys.device
        self.positions = torch.cat([torch.arange(size, device=device) for size in self.num_tokens])[None]  # (1, T)
        self.inner: Attend = Causal()
        if len(self.num_tokens) > 1:
            documents = torch.arange(1, len(self.num_tokens) + 1, device=device)
            self.inner = Packed(documents.repeat_interleave(torch.tensor(self.num_tokens, device=device))[None])

    def __call__(self, layer: int, q: Queries, k: Keys, v: Keys, spec: AttendSpec) -> Queries:
        start = 0
        for row, size in enumerate(self.num_tokens, start=self.first_row):
            self.cache.keys[layer, row, :, :size] = k[0, :, start : start + size]
            self.cache.values[layer, row, :, :size] = v[0, :, start : start + size]
            start += size
        return self.inner(layer, q, k, v, spec)


def _grown(old: Tensor, shape: tuple[int, ...]) -> Tensor:
    # Zeros, not empty: a key that is not allowed still meets a weight of 0, and 0 x NaN is NaN.
    new = old.new_zeros(shape)
    new[:, : old.shape[1], :, : old.shape[3]] = old
    return new
