"""Our engine, whatever `engine()` gives: the peers' jobs through the contract every caller uses, Request and Reply.

Settings: "model" (a reference). The number of threads is the environment's, which the bench sets for all engines.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from inference_worker import EndedEarly, Logits, Timed, serve

from lyceum.core.request import Engine, Reply, Request, Sampling
from lyceum.infer.runner import PAGE_TOKENS, Runner, Span
from lyceum.recipes.load import Loaded, load

Reader = Callable[[list[int], str], Logits]  # tokens and path -> the scores after every token


class Ours:
    """An open engine."""

    def __init__(self, loaded: Loaded) -> None:
        self._loaded = loaded
        self._engine: Engine = loaded.engine()
        self._read: Reader | None = None

    def prefill(self, tokens: list[int]) -> float:
        """Read a prompt and choose the next token."""
        return self._answer([tokens], 1)[0][1].first_token_s

    def decode(self, prompt: list[int], num_tokens: int) -> Timed:
        """Answer one prompt."""
        reply = self._answer([prompt], num_tokens)[0][1]
        return Timed(seconds=reply.seconds - reply.first_token_s, tokens=num_tokens - 1)

    def batch(self, prompts: list[list[int]], num_tokens: int) -> Timed:
        """Answer all prompts together. Of an answer that began before the last one, only its later part counts."""
        spans = [
            (at + reply.first_token_s, at + reply.seconds) for at, reply in self._answer(prompts, num_tokens)
        ]  # (first token, end) of each
        begun, ended = max(first for first, _ in spans), max(end for _, end in spans)
        tokens = sum((num_tokens - 1) * (end - begun) / (end - first) for first, end in spans)
        return Timed(seconds=ended - begun, tokens=round(tokens))

    def logits(self, tokens: list[int], path: str) -> Logits:
        """The scores after every token. What the engine keeps in its pages is lost: speed comes first."""
        if self._read is None:
            self._read = reader(self._loaded, self._engine)
        return self._read(tokens, path)

    def _answer(self, prompts: list[list[int]], num_tokens: int) -> list[tuple[float, Reply]]:
        """When each prompt was submitted, and its reply."""
        sampling = Sampling(max_tokens=num_tokens)
        streams = [
            (time.monotonic(), self._engine.submit(Request(tokens=tuple(tokens), sampling=sampling)))
            for tokens in prompts
        ]
        while self._engine.step():
            pass
        replies = [(at, stream.reply()) for at, stream in streams]
        for _, reply in replies:
            if reply.cached_tokens:
                raise RuntimeError(f"{reply.cached_tokens} prompt tokens were in the cache; take a fresh prompt")
            if len(reply.tokens) < num_tokens:
                raise EndedEarly(f"after {len(reply.tokens)} tokens")
        return replies


def reader(loaded: Loaded, engine: Engine) -> Reader:
    """How this engine's scores are read: by its Runner, or where it has none by its model."""
    match engine:
        case object(runner=Runner() as runner):
            return lambda tokens, path: read_by_runner(runner, tokens, path)
        case _:  # imported here: it brings torch along, whose memory is not the engine's
            from inference_reference import read_by_model

            return lambda tokens, path: read_by_model(loaded.model, tokens, path)


def read_by_runner(runner: Runner, tokens: list[int], path: str) -> Logits:
    """The scores after every token of a text at the runner's last pages, as its prompt or as its answer."""
    num_pages = -(-len(tokens) // PAGE_TOKENS)
    pages = range(runner.num_pages - num_pages, runner.num_pages)
    size = len(tokens) if path == "prefill" else 1
    found = []
    for start in range(0, len(tokens), size):
        some = tokens[start : start + size]
        span = Span(tokens=some, start=start, pages=pages, num_logits=len(some))
        found.append(np.asarray(runner.run([span]).logits).astype(np.float32))  # a copy: valid until the next pass
    return np.concatenate(found)


def open_engine(settings: dict[str, Any]) -> tuple[Ours, float]:
    """The engine, and how long opening took."""
    begun = time.perf_counter()
    return Ours(load(settings["model"])), time.perf_counter() - begun


if __name__ == "__main__":
    serve(open_engine)
