"""How far an engine's scores are from float32 on the same weights: perplexity, KL divergence, top-1, logit error.

The text is a fixed part of WikiText-2's test split, in windows that each begin afresh, without a first token of the
model's own. Shapes: T tokens of a window, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from inference_peers import Running
from jaxtyping import Float
from torch import Tensor

PATHS = ("prefill", "decode")
WINDOW_TOKENS = 512
ROWS = 64  # compared at a time: 64 x 49,152 scores are 13 MB, which a processor's cache holds


@dataclass(frozen=True, kw_only=True)
class Exactness:
    """An engine's scores beside float32's, over all windows."""

    perplexity: float  # of tokens 1 … T - 1 of each window
    kl: float  # mean over positions of KL(float32 || engine), in nats
    top1: float  # share of positions where both have the same likeliest token
    rms: float  # of the differences of raw scores
    tokens: int


@dataclass(kw_only=True)
class Sums:
    """What is added up, window by window."""

    surprise: float = 0.0
    kl: float = 0.0
    agreed: int = 0
    squares: float = 0.0
    tokens: int = 0
    scored: int = 0
    vocab_size: int = 0

    def add(self, scores: Float[Tensor, "T V"], exact: Float[Tensor, "T V"], tokens: list[int]) -> None:
        """Compare one window.

        With p = softmax(exact), d = exact - scores and d' = d - E_p[d], KL = log E_p[exp(-d')]: float32 is enough for
        it, where the difference of two log-softmaxes would drown a good engine's divergence in rounding.
        """
        following = torch.tensor(tokens[1:])
        for start in range(0, len(tokens), ROWS):
            a, b = exact[start : start + ROWS], scores[start : start + ROWS]
            p, off = a.softmax(-1), a - b  # (ROWS, V)
            self.squares += float(torch.linalg.vector_norm(off, dim=-1).double().square().sum())
            off -= off.mean(-1, keepdim=True)  # first, because p adds up to 1 only nearly
            off -= (p * off).sum(-1, keepdim=True)
            self.kl += float(off.neg_().expm1_().mul_(p).sum(-1).log1p().double().sum())
            self.agreed += int((a.argmax(-1) == b.argmax(-1)).sum())
            targets = following[start : start + ROWS]
            chosen = b[: len(targets)].gather(1, targets[:, None])[:, 0]
            self.surprise += float((b[: len(targets)].logsumexp(-1) - chosen).double().sum())
        self.tokens += len(tokens)
        self.scored += len(following)
        self.vocab_size = exact.shape[1]

    def exactness(self) -> Exactness:
        """The means."""
        return Exactness(
            perplexity=float(np.exp(self.surprise / self.scored)),
            kl=self.kl / self.tokens,
            top1=self.agreed / self.tokens,
            rms=(self.squares / self.tokens / self.vocab_size) ** 0.5,
            tokens=self.tokens,
        )


@dataclass(frozen=True, kw_only=True)
class Exact:
    """Windows of tokens and the files with their float32 scores."""

    windows: list[list[int]]
    files: list[Path]


def read_exact(reference: Running, windows: list[list[int]], folder: Path) -> Exact:
    """Let the reference score every window."""
    files = [folder / f"exact-{number}.npy" for number in range(len(windows))]
    for window, file in zip(windows, files, strict=True):
        reference.ask("logits", tokens=window, path="prefill", file=str(file))
    return Exact(windows=windows, files=files)


def compare(
    running: Running, path: str, exact: Exact, folder: Path, *, is_over: Callable[[], bool] = lambda: False
) -> Exactness | None:
    """One engine's scores by one path, beside float32's; None when the time is over before all windows are read."""
    sums, file = Sums(), folder / "scores.npy"
    for window, reference in zip(exact.windows, exact.files, strict=True):
        if is_over():
            return None
        running.ask("logits", tokens=window, path=path, file=str(file))
        sums.add(_scores(file), _scores(reference), window)
    return sums.exactness()


def _scores(file: Path) -> Float[Tensor, "T V"]:
    return torch.from_numpy(np.load(file, mmap_mode="c"))
