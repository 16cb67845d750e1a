"""One engine in a process of its own, which does the jobs it is told on its standard input: what all engines share.

A job is a line of JSON, an answer is one too. Whatever a library prints goes to standard error. The process ends with
its input, so it never outlives the bench.

jobs     open                                   -> {"seconds"}: weights in memory, ready to read
         prefill {"tokens"}                     -> {"seconds"} until the next token is known
         decode {"prompt", "num_tokens"}        -> {"seconds", "tokens"} after the first token
         batch {"prompts", "num_tokens"}        -> {"seconds", "tokens"} after the last prompt's first token
         logits {"tokens", "path", "file"}      -> {}: the scores after every token are in the .npy file
Every answer holds "peak_bytes", the most memory the process had so far; one that failed is {"error"}.
"""

import json
import os
import re
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]  # (T, V)


@dataclass(frozen=True, kw_only=True)
class Timed:
    """So many tokens in so many seconds."""

    seconds: float
    tokens: int


class Measured(Protocol):
    """An open engine. Every answer is greedy and has all its `num_tokens` tokens."""

    def prefill(self, tokens: list[int]) -> float:
        """Read a prompt and choose the next token; seconds."""

    def decode(self, prompt: list[int], num_tokens: int) -> Timed:
        """Answer one prompt; the time after its first token."""

    def batch(self, prompts: list[list[int]], num_tokens: int) -> Timed:
        """Answer all prompts together; the time after the first token of the last one, and the tokens made in it."""

    def logits(self, tokens: list[int], path: str) -> Logits:
        """The scores after every token, read as a prompt ("prefill") or one at a time as an answer ("decode")."""


class EndedEarly(Exception):
    """An answer met its end token, so its time means little: take another prompt."""


def serve(open_engine: Callable[[dict[str, Any]], tuple[Measured, float]]) -> None:
    """Do jobs until the input ends. `open_engine` takes the settings of the command line; the engine, and how long."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    settings = json.loads(sys.argv[1])
    engine: Measured | None = None
    print(json.dumps({"is_ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        try:
            if job["job"] == "open":
                engine, seconds = open_engine(settings)
                answer: dict[str, Any] = {"seconds": seconds}
            else:
                assert engine is not None, "open comes first"
                answer = _do(engine, job)
        except EndedEarly as ended:
            answer = {"ended_early": str(ended)}
        except Exception as error:  # noqa: BLE001  whatever it is, the bench tells it beside the other engines' figures
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer | {"peak_bytes": peak_bytes()}), file=answers, flush=True)


def _do(engine: Measured, job: dict[str, Any]) -> dict[str, Any]:
    match job["job"]:
        case "prefill":
            return {"seconds": engine.prefill(job["tokens"])}
        case "decode":
            return vars(engine.decode(job["prompt"], job["num_tokens"]))
        case "batch":
            return vars(engine.batch(job["prompts"], job["num_tokens"]))
        case "logits":
            np.save(job["file"], engine.logits(job["tokens"], job["path"]))
            return {}
        case unknown:
            raise ValueError(f"no job {unknown!r}")


def peak_bytes() -> int:
    """The most memory this process had at once; 0 where the system does not say.

    Not getrusage: its ru_maxrss begins with the parent's.
    """
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8")) if status.exists() else None
    return 1024 * int(found[1]) if found else 0
