"""A scaling law of small pretrain Runs, and one of twice the largest size held against it: `scaling.py --corpus TEXT`.

15 Runs of 0.4M to 5M parameters, then one of 10M. The corpus is a catalog name, a file or a folder (see
`lyceum pretrain`) and should hold 20 MB or more: read more than four times, it gives less than the law says. `--quick`
trains models of 0.1M to 0.5M on WikiText-2 and predicts one of 1.3M, to see the machinery work. The Runs stay where
LYCEUM_RUNS points; a bench that was stopped goes on with the Run it was at.
"""

import argparse
import time
from dataclasses import dataclass

from lyceum.cli.tables import table
from lyceum.core.run import Run
from lyceum.plan.scaling import LawName, fit
from lyceum.recipes import pretrain
from lyceum.recipes.ladder import Counted, read_ladder
from lyceum.recipes.texts import read_corpus
from lyceum.tokenizer.kinds import BytePair
from lyceum.train.loop import FitConfig
from lyceum.train.optim import AdamW
from lyceum.train.schedule import WarmupStableDecay

VOCAB = 1024
HEAD = 32  # width
ROWS, CONTEXT = 16, 256


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """Sizes (dim, layers) times numbers of tokens, and the Run that is predicted."""

    sizes: tuple[tuple[int, int], ...]
    tokens: tuple[float, ...]
    target: tuple[int, int]
    target_tokens: float
    held_out_bytes: int


FULL = Ladder(
    sizes=((96, 3), (128, 4), (192, 4), (224, 5), (256, 6)), tokens=(1e6, 2e6, 4e6),
    target=(320, 8), target_tokens=6e6, held_out_bytes=300_000,
)  # fmt: skip
QUICK = Ladder(
    sizes=((64, 1), (64, 3), (96, 4)), tokens=(65e3, 131e3, 262e3),
    target=(160, 4), target_tokens=393e3, held_out_bytes=60_000,
)  # fmt: skip


def train(corpus: str, held_out: float, size: tuple[int, int], tokens: float) -> Run:
    """A Run of that size; wider models learn at a lower rate."""
    dim, layers = size
    steps = round(tokens / (ROWS * CONTEXT))
    config = pretrain.Config(
        corpus=corpus,
        held_out=held_out,
        tokenizer=BytePair(vocab_size=VOCAB),
        shape=pretrain.Shape(
            dim=dim,
            num_layers=layers,
            num_heads=dim // HEAD,
            num_kv_heads=dim // HEAD,
            ffn_dim=8 * dim // 3 // HEAD * HEAD,
        ),
        context_tokens=CONTEXT,
        rows=ROWS,
        fit=FitConfig(
            steps=steps,
            optimizer=AdamW(rate=3e-3 * (256 / dim) ** 0.5),
            schedule=WarmupStableDecay(warmup=max(2, steps // 20), decay=0.4),
        ),
        evaluate_every_steps=0,
        sample_tokens=8,
    )
    begun = time.perf_counter()
    run = pretrain.run(config)
    loss, seconds = run.manifest.summary["bits_per_byte"], time.perf_counter() - begun
    print(
        f"{run.id}: {dim} wide, {layers} layers, {tokens:.3g} tokens, {loss:.4f} bits/byte, {seconds:.0f} s", flush=True
    )
    return run


def main() -> None:
    """Train, fit, predict, train the predicted Run, and print how far off it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", default="wikitext-2")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    ladder = QUICK if options.quick else FULL
    held_out = min(0.2, ladder.held_out_bytes / read_corpus(options.corpus).num_bytes)
    runs = [train(options.corpus, held_out, size, tokens).id for size in ladder.sizes for tokens in ladder.tokens]
    target = train(options.corpus, held_out, ladder.target, ladder.target_tokens)
    rows = []
    for law in (LawName.CHINCHILLA, LawName.KAPLAN):
        for counted in Counted:
            fitted = fit([rung.point for rung in read_ladder(runs, counted)], law)
            (there,) = read_ladder([target.id], counted)
            told = fitted.predict(parameters=there.point.parameters, tokens=there.point.tokens)
            off = f"{there.point.loss / told.value - 1:+.2%}"
            interval = f"{told.low:.4f} to {told.high:.4f}"
            rows.append(
                [
                    law.value,
                    counted.value,
                    f"{fitted.scatter:.2%}",
                    told.value,
                    interval,
                    there.point.loss,
                    off,
                    there.epochs,
                ]
            )
    print(table(["law", "N", "scatter", "predicted", "95 %", "measured", "off", "epochs"], rows))


if __name__ == "__main__":
    main()
