"""Numbered pieces of work over some processes that end with the one that began them."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import TypeVar

from lyceum.core.errors import ResourceError

J = TypeVar("J")
R = TypeVar("R")


def each(work: Callable[[J, int], R], job: J, numbers: Sequence[int], *, workers: int) -> Iterator[tuple[int, R]]:
    """`work(job, number)` for each number, as they are done; with one worker here and in order."""
    if workers == 1 or len(numbers) < 2:
        yield from ((number, work(job, number)) for number in numbers)
        return
    # Fresh processes: a fork of one that has threads (Arrow's, torch's) may wait for a lock that nobody holds.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(numbers)), mp_context=context, initializer=_end_with_parent) as pool:
        futures = {pool.submit(work, job, number): number for number in numbers}
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise ResourceError(
                f"one of {workers} worker processes was ended from outside, most likely for want of memory;"
                " run the same command again with fewer --workers: it goes on where it stopped"
            ) from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _end_with_parent() -> None:
    """A killed parent tells its workers nothing, and they would wait for it for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
