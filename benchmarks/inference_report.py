"""What the bench prints: one table of speed, ratio, share of the bandwidth's limit and exactness; then the targets."""

import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from inference_peers import BEST, OPENVINO, OPENVINO_BF16, OURS, SHIPPED
from inference_quality import Exactness

PREFILL, DECODE_SHORT, DECODE_LONG, BATCH = "prefill 512", "decode @32", "decode @1024", "8 at once"
MEASURES = {PREFILL: "prefill", DECODE_SHORT: "decode", DECODE_LONG: "decode", BATCH: "decode"}  # and its path
WANTED_ROUNDS = 5

# measure, peer, how many times as fast; the last is a wish
RATIOS = [
    (PREFILL, SHIPPED, 6.0, ""),
    (DECODE_SHORT, SHIPPED, 2.5, ""),
    (DECODE_LONG, SHIPPED, 2.5, ""),
    (BATCH, SHIPPED, 3.0, ""),
    (PREFILL, BEST, 1.6, ""),
    (DECODE_SHORT, BEST, 1.8, ""),
    (DECODE_LONG, BEST, 1.8, ""),
    (BATCH, BEST, 1.6, ""),
    (DECODE_SHORT, OPENVINO, 2.0, ""),
    (DECODE_LONG, OPENVINO, 2.0, ""),
    (PREFILL, OPENVINO_BF16, 1.0, ""),
    (PREFILL, OPENVINO, 1.0, " (a stretch)"),
]
LIMIT_SHARE, MEMORY_TIMES, COLD_S = 0.75, 2.5, 1.5


@dataclass(kw_only=True)
class Figures:
    """Everything that was measured. Lists go by round; None where no run counted."""

    machine: str
    peers: list[str]  # what they say of themselves
    is_gated: bool
    token_bytes: dict[str, int]  # engine -> weights read a token
    key_bytes: int  # of keys and values, a position, in 16 bits
    bandwidth: list[float | None] = field(default_factory=list)  # bytes a second
    speeds: dict[str, dict[str, list[float | None]]] = field(default_factory=dict)  # measure -> engine -> tokens/s
    start_s: dict[str, list[float | None]] = field(default_factory=dict)
    open_s: dict[str, list[float | None]] = field(default_factory=dict)
    peak_bytes: dict[str, int] = field(default_factory=dict)
    idle_share: dict[str, float] = field(default_factory=dict)  # of a processor, while others work
    exactness: dict[str, dict[str, Exactness]] = field(default_factory=dict)  # path -> engine
    exact_perplexity: float = float("nan")
    cold_s: list[float | None] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    refused: int = 0
    seconds: float = 0.0

    def ratio(self, measure: str, peer: str) -> float | None:
        """The median, round by round, of how many times as fast ours is."""
        speeds = self.speeds.get(measure, {})
        if OURS not in speeds or peer not in speeds:
            return None
        pairs = zip(speeds[OURS], speeds[peer], strict=True)
        return median(ours / theirs if ours and theirs else None for ours, theirs in pairs)

    def limit(self, engine: str, mean_context: int) -> float | None:
        """Tokens a second at which the weights and the keys of a token take all the bandwidth."""
        bandwidth = median(self.bandwidth)
        needed = self.token_bytes[engine] + mean_context * self.key_bytes
        return bandwidth / needed if bandwidth else None

    def limit_share(self, measure: str, engine: str, mean_context: int) -> float | None:
        """The median, round by round, of the share of that limit an engine reached."""
        needed = self.token_bytes[engine] + mean_context * self.key_bytes
        speeds = self.speeds.get(measure, {}).get(engine, [None] * len(self.bandwidth))
        pairs = zip(speeds, self.bandwidth, strict=True)
        return median(speed * needed / bandwidth if speed and bandwidth else None for speed, bandwidth in pairs)

    def as_json(self) -> dict[str, Any]:
        """All of it, with the targets."""
        return asdict(self) | {"targets": [asdict(target) for target in targets(self)]}


@dataclass(frozen=True, kw_only=True)
class Target:
    """One aim of the issue and whether it is met; None when it could not be measured."""

    what: str
    needed: str
    measured: str
    is_met: bool | None


def median(values: Iterable[float | None]) -> float | None:
    """The median of what was measured."""
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None


def targets(figures: Figures) -> list[Target]:
    """Every aim."""
    found = [
        _at_least(f"{measure}: times {peer}{wish}", figures.ratio(measure, peer), needed, "x")
        for measure, peer, needed, wish in RATIOS
        if peer in figures.speeds.get(measure, {})
    ]
    share = figures.limit_share(DECODE_SHORT, OURS, CONTEXTS[DECODE_SHORT])
    found.append(_at_least("decode @32: share of the bandwidth's limit", share and 100 * share, 100 * LIMIT_SHARE, "%"))
    peaks = figures.peak_bytes
    memory = peaks[OURS] / peaks[SHIPPED] if OURS in peaks and SHIPPED in peaks else None
    found.append(_at_most(f"peak memory: times {SHIPPED}", memory, MEMORY_TIMES, "x"))
    found.append(_at_most("cold `lyceum chat hi` to the first word", median(figures.cold_s), COLD_S, "s"))
    for path, engines in figures.exactness.items():
        for peer in (SHIPPED, BEST):
            if OURS in engines and peer in engines:
                what = f"KL from float32 by {path}, {peer} has"
                found.append(_at_most(what, 1000 * engines[OURS].kl, 1000 * engines[peer].kl, "/1000"))
    return found


CONTEXTS = {DECODE_SHORT: 96, DECODE_LONG: 1088}  # tokens of context, on average over the answer's 128


def _at_least(what: str, value: float | None, needed: float, unit: str) -> Target:
    return _target(what, value, f">= {needed:.4g} {unit}", unit, None if value is None else value >= needed)


def _at_most(what: str, value: float | None, needed: float, unit: str) -> Target:
    return _target(what, value, f"<= {needed:.4g} {unit}", unit, None if value is None else value <= needed)


def _target(what: str, value: float | None, needed: str, unit: str, is_met: bool | None) -> Target:
    measured = "not measured" if value is None else f"{value:.4g} {unit}"
    return Target(what=what, needed=needed, measured=measured, is_met=is_met)


def print_report(figures: Figures) -> None:
    """The table, what stands beside it, and the targets."""
    bandwidth = median(figures.bandwidth)
    counted = min((_counted(found) for engines in figures.speeds.values() for found in engines.values()), default=0)
    print("\n" + "\n".join([figures.machine, *figures.peers]))
    print(f"medians of at least {counted} rounds in turn; {figures.refused} runs were refused on a busy machine")
    if not figures.is_gated:
        print("NOT TO BE QUOTED: --quick does not wait for a quiet machine")
    elif counted < WANTED_ROUNDS:
        print(f"NOT TO BE QUOTED: fewer than {WANTED_ROUNDS} rounds counted; run it on a quiet machine")
    if bandwidth:
        print(f"read bandwidth over 96 MiB, all threads: {bandwidth / 1e9:.1f} GB/s")
    print(f"\n{'':<26}{'tok/s':>9}{'ours/it':>9}{'of limit':>9}{'ppl':>10}{'KL/1000':>10}{'top-1 %':>9}{'rms':>9}")
    for measure, engines in figures.speeds.items():
        print(measure)
        for engine in engines:
            print(f"  {engine:<24}{_row(figures, measure, engine)}")
    _print_limits(figures)
    print(f"\nfloat32 perplexity of the same text {figures.exact_perplexity:.3f}")
    print(f"\n{'':<26}{'open s':>9}{'start s':>9}{'peak MB':>9}{'MB/token':>10}{'idle %':>9}")
    for engine, peak in figures.peak_bytes.items():
        opened, started = median(figures.open_s[engine]), median(figures.start_s[engine])
        cells = _cell(opened, 9, 2) + _cell(started, 9, 2) + _cell(peak / 1e6, 9, 0)
        share = figures.idle_share.get(engine)
        idle = _cell(None if share is None else 100 * share, 9, 1)
        print(f"  {engine:<24}{cells}{_cell(figures.token_bytes[engine] / 1e6, 10, 1)}{idle}")
    print(f"\ncold `lyceum chat hi` to its first word:{_cell(median(figures.cold_s), 6, 2)} s\n")
    for target in targets(figures):
        said = {True: "met", False: "MISSED", None: "?"}[target.is_met]
        print(f"{said:<8}{target.what:<58}{target.needed:>16}   {target.measured}")
    for failure in figures.failures:
        print(f"failed: {failure}")
    print(f"\n{figures.seconds:.0f} s in all")


def _row(figures: Figures, measure: str, engine: str) -> str:
    share = figures.limit_share(measure, engine, CONTEXTS[measure]) if measure in CONTEXTS else None
    cells = _cell(median(figures.speeds[measure][engine]), 9, 0)
    cells += _cell(None if engine == OURS else figures.ratio(measure, engine), 9, 2)
    cells += f"{100 * share:>8.0f}%" if share else f"{'-':>9}"
    exact = figures.exactness.get(MEASURES[measure], {}).get(engine)
    if exact is None:
        return cells + "".join(f"{'-':>{width}}" for width in (10, 10, 9, 9))
    cells += _cell(exact.perplexity, 10, 3) + _cell(1000 * exact.kl, 10, 4)
    return cells + _cell(100 * exact.top1, 9, 2) + _cell(exact.rms, 9, 4)


def _print_limits(figures: Figures) -> None:
    for measure, context in CONTEXTS.items():
        limit = figures.limit(OURS, context)
        needed = (figures.token_bytes[OURS] + context * figures.key_bytes) / 1e6
        if limit:
            print(f"limit of {measure}: {needed:.1f} MB a token with {context} tokens of context, {limit:.0f} tok/s")


def _counted(values: list[float | None]) -> int:
    return sum(value is not None for value in values)


def _cell(value: float | None, width: int, digits: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:>{width},.{digits}f}"
