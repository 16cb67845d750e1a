"""What every engine's scores are compared with: the same weights in float32, the whole prefix at once, no cache.

It equals transformers on these weights (tests/parity). Settings: "model" (a reference).
"""

import time
from typing import Any

import torch
from inference_worker import Logits, Timed, serve

from lyceum.infer.generate import all_logits
from lyceum.model.transformer import Transformer
from lyceum.recipes.load import load


class Reference:
    """The model in float32, which only gives scores."""

    def __init__(self, model: Transformer) -> None:
        self._model = model

    def prefill(self, tokens: list[int]) -> float:
        """Not measured."""
        raise NotImplementedError("the reference gives scores only")

    def decode(self, prompt: list[int], num_tokens: int) -> Timed:
        """Not measured."""
        raise NotImplementedError("the reference gives scores only")

    def batch(self, prompts: list[list[int]], num_tokens: int) -> Timed:
        """Not measured."""
        raise NotImplementedError("the reference gives scores only")

    def logits(self, tokens: list[int], path: str) -> Logits:
        """The scores after every token."""
        with torch.inference_mode():
            return all_logits(self._model, tuple(tokens)).numpy()


def open_engine(settings: dict[str, Any]) -> tuple[Reference, float]:
    """The reference, and how long opening took."""
    begun = time.perf_counter()
    return Reference(load(settings["model"], dtype=torch.float32).model), time.perf_counter() - begun


if __name__ == "__main__":
    serve(open_engine)
