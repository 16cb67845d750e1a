"""What every engine's scores are compared with: the same weights in float32, the whole prefix at once, no cache.

It equals transformers on these weights (tests/parity). Settings: "model" (a reference).
"""

import time
from typing import Any

import numpy as np
import torch
from inference_worker import Logits, Timed, serve

from lyceum.infer.generate import all_logits
from lyceum.infer.runner import PAGE_TOKENS, Span
from lyceum.infer.torch_runner import TorchRunner
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
        return read_by_model(self._model, tokens, path)


@torch.inference_mode()
def read_by_model(model: Transformer, tokens: list[int], path: str) -> Logits:
    """The scores after every token, all at once ("prefill") or one at a time with a cache ("decode")."""
    if path == "prefill":
        return all_logits(model, tuple(tokens)).float().numpy()
    pages = range(-(-len(tokens) // PAGE_TOKENS))
    runner = TorchRunner(model, num_pages=len(pages))
    found = []
    for start, token in enumerate(tokens):
        span = Span(tokens=[token], start=start, pages=pages, num_logits=1)
        found.append(runner.run([span]).logits.numpy())
    return np.concatenate(found)


def open_engine(settings: dict[str, Any]) -> tuple[Reference, float]:
    """The reference, and how long opening took."""
    begun = time.perf_counter()
    return Reference(load(settings["model"], dtype=torch.float32).model), time.perf_counter() - begun


if __name__ == "__main__":
    serve(open_engine)
