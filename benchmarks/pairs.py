"""Compare ways of doing the same thing on a noisy machine: in turn, again and again, and the median of the ratios."""

import statistics
import time
from collections.abc import Callable


def seconds(work: Callable[[], object], repeats: int) -> float:
    """How long one call takes, over some repeats."""
    begun = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - begun) / repeats


def compare(ways: dict[str, Callable[[], object]], *, rounds: int = 7, repeats: int = 3) -> None:
    """Print each way's median time and the median of its ratios, round by round, to the last way (the peer)."""
    for work in ways.values():
        work()  # warm
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            taken[name].append(seconds(work, repeats))
    peer = list(ways)[-1]
    for name, times in taken.items():
        ratios = [theirs / ours for ours, theirs in zip(times, taken[peer], strict=True)]
        print(
            f"{name:<40} {1000 * statistics.median(times):9.2f} ms   {statistics.median(ratios):5.2f} x {peer}"
            f"   ({min(ratios):.2f} to {max(ratios):.2f})"
        )
