"""A run counts only if nobody else had the processor: on a busy machine an engine that waits for its threads collapses.

Other processes' share is all the work the system counted less what the measured processes did. An idle engine whose
threads keep spinning is "other" too, so it cannot spoil its neighbours' figures unnoticed. Where there is no /proc,
every run counts.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

STAT = Path("/proc/stat")
TICK_S = 1 / os.sysconf("SC_CLK_TCK") if STAT.exists() else 0.01
BUSY_COLUMNS = (0, 1, 2, 5, 6, 7)  # user, nice, system, irq, softirq, steal: all but idle and waiting for a disk
Result = TypeVar("Result")


@dataclass(kw_only=True)
class Gate:
    """Waits until the machine is quiet, then watches a run."""

    is_open: bool = False  # lets every run through at once
    max_share: float = 0.06  # of one processor, by others, during a run
    window_s: float = 0.25
    patience_s: float = 12.0  # how long to wait for quiet before a run is tried anyway
    refused: int = 0

    def wait(self) -> None:
        """Return when others used less than a tenth of a processor for a window, or patience ends."""
        if self.is_open or not STAT.exists():
            return
        until = time.monotonic() + self.patience_s
        while time.monotonic() < until:
            before = busy_s()
            time.sleep(self.window_s)
            if busy_s() - before < 0.1 * self.window_s:
                return

    def watch(self, work: Callable[[], Result], own_s: Callable[[], float]) -> tuple[Result, bool]:
        """The result of a run, and whether it counts. `own_s` tells the processor time of what is measured so far."""
        begun, busy, own = time.monotonic(), busy_s(), own_s()
        result = work()
        elapsed_s = time.monotonic() - begun
        others_s = busy_s() - busy - (own_s() - own)
        # The system counts in ticks, so three of them in a short run say nothing.
        counts = self.is_open or not STAT.exists() or others_s <= max(self.max_share * elapsed_s, 3 * TICK_S)
        self.refused += not counts
        return result, counts


def busy_s() -> float:
    """Processor time the whole machine has spent since it started, in all processes."""
    if not STAT.exists():
        return 0.0
    columns = STAT.read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
    return TICK_S * sum(int(columns[column]) for column in BUSY_COLUMNS)


def used_s(pid: int) -> float:
    """Processor time a process and its threads have spent; 0 once it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return TICK_S * (int(fields[11]) + int(fields[12]))
