"""What a grammar costs: milliseconds to read the vocabulary, to compile a tool's schema, and to mask one token.

Over the schemas of tests/data/schemas.jsonl with SmolLM2's 49,152 tokens; each answer is random under its mask.
"""

import json
import time
from pathlib import Path

import numpy as np

from lyceum.core.request import Grammar
from lyceum.infer.grammar import Grammars, allowed
from lyceum.recipes.locate import locate
from lyceum.tokenizer.tokenizer import Tokenizer

SCHEMAS = Path(__file__).parent.parent / "tests" / "data" / "schemas.jsonl"
TOKENS = 64  # of each answer


def main() -> None:
    """Print the table."""
    tokenizer = Tokenizer.from_gguf(locate("smollm2-135m-instruct").path)
    grammars, rng = Grammars(tokenizer), np.random.default_rng(0)
    started = time.perf_counter()
    grammars.matcher(Grammar(regex="a"))
    print(f"vocabulary of {tokenizer.vocab_size} tokens, once: {1000 * (time.perf_counter() - started):.0f} ms")
    milliseconds: dict[str, list[float]] = {"compile": [], "mask": [], "accept": [], "fork": []}

    def timed(name: str, started: float) -> None:
        milliseconds[name].append(1000 * (time.perf_counter() - started))

    for line in SCHEMAS.read_text(encoding="utf-8").splitlines():
        wish = Grammar(json_schema=json.dumps(json.loads(line)["schema"]))
        started = time.perf_counter()
        matcher = grammars.matcher(wish)
        timed("compile", started)
        for _ in range(TOKENS):
            started = time.perf_counter()
            mask = matcher.mask()
            timed("mask", started)
            options = np.flatnonzero(allowed(mask, tokenizer.vocab_size))
            if matcher.is_done:
                break
            started = time.perf_counter()
            matcher.fork()
            timed("fork", started)
            token = int(rng.choice(options))
            if token in tokenizer.eos_ids:
                break
            started = time.perf_counter()
            matcher.accept(token)
            timed("accept", started)
    print("milliseconds    p50     p99     most   times")
    for name, values in milliseconds.items():
        p50, p99, most = np.percentile(values, [50, 99, 100])
        print(f"{name:<10} {p50:8.3f}{p99:8.3f}{most:9.3f}{len(values):8d}")


if __name__ == "__main__":
    main()
