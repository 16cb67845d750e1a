"""The words every engine speaks: Sampling and Request in, Pieces and a Reply out.

Chat, API, evaluation, agents and rollouts use only these, so any of them runs on any engine.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable

from lyceum.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen. The defaults are greedy decoding."""

    max_tokens: int = 256
    temperature: float = 0.0  # 0 is greedy
    top_k: int = 0  # 0 keeps all
    top_p: float = 1.0  # 1 keeps all
    repetition_penalty: float = 1.0  # 1 is none; CTRL (Keskar et al. 2019, arXiv:1909.05858, section 4.1)
    stop: tuple[str, ...] = ()  # the text ends before the first of these
    seed: int = 0  # with the token's position it fixes the draw, whatever else is in the batch

    def __post_init__(self) -> None:
        for name, allowed, is_right in (
            ("max_tokens", "0 or more", self.max_tokens >= 0),
            ("temperature", "0 (greedy) or more", self.temperature >= 0),
            ("top_k", "0 (all) or more", self.top_k >= 0),
            ("top_p", "above 0 and at most 1", 0 < self.top_p <= 1),
            ("repetition_penalty", "above 0 (1 is none)", self.repetition_penalty > 0),
        ):
            if not is_right:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be {allowed}")
        if any(not text for text in self.stop):
            raise ConfigError("stop holds an empty string, which would end every answer at once; leave it out")


class Finish(StrEnum):
    """Why an answer ended."""

    STOP = "stop"  # the model's end token or a stop string
    LENGTH = "length"  # max_tokens
    CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True)
class Request:
    """One prompt and how to go on from it."""

    tokens: tuple[int, ...]
    sampling: Sampling = Sampling()
    score_from: int | None = None  # give log p(token t | tokens < t) of prompt tokens t >= score_from (at least 1)


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Some new text of an answer, never a part of a character. `text` may be empty while a character is incomplete."""

    text: str
    tokens: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The whole answer and what it took."""

    text: str  # without the end token or stop string
    tokens: tuple[int, ...]  # with them
    finish: Finish
    prompt_tokens: int
    logprobs: tuple[float, ...] = ()  # of each answer token, the model's own: temperature 1, no other sampling rule
    prompt_logprobs: tuple[float, ...] = ()  # of prompt tokens from `score_from` on
    first_token_s: float = 0.0  # from submit on, waiting included
    seconds: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """The speed after the first token; 0 for answers of fewer than two."""
        elapsed_s = self.seconds - self.first_token_s
        return (len(self.tokens) - 1) / elapsed_s if len(self.tokens) > 1 and elapsed_s > 0 else 0.0


@runtime_checkable
class Stream(Protocol):
    """A running answer: iterate for its Pieces, then ask for the Reply."""

    def __iter__(self) -> Iterator[Piece]:
        """Give the Pieces as they come, stepping the engine while there are none."""

    def cancel(self) -> None:
        """Stop generating; the Reply then ends with Finish.CANCELLED."""

    def reply(self) -> Reply:
        """Run to the end and give the whole answer."""


@runtime_checkable
class Engine(Protocol):
    """Something that answers Requests: the fast engine, the plain one, a baseline."""

    def submit(self, request: Request) -> Stream:
        """Queue a request. ConfigError when prompt plus max_tokens exceed the context."""

    def step(self) -> bool:
        """Advance every running request by one token; False when there is nothing to do."""

    def load(self, weights: Mapping[str, Any]) -> None:
        """Replace the model's weights by name, between requests."""
