"""How long a command takes from its start to the first character on a terminal, with its files in the page cache."""

import os
import pty
import re
import resource
import select
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass(frozen=True, kw_only=True)
class FirstWord:
    """When a command first said something, and what."""

    seconds: float
    shown: str


def first_word(command: Sequence[str], environment: Mapping[str, str], *, timeout_s: float = 60.0) -> FirstWord:
    """Run a command on a pseudo-terminal until it shows a character that is not a space; then it is stopped."""
    begun = time.monotonic()
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(command[0], list(command), dict(environment))
    shown = ""
    try:
        while not shown.strip():
            left_s = begun + timeout_s - time.monotonic()
            if left_s <= 0 or not select.select([terminal], [], [], left_s)[0]:
                raise TimeoutError(f"{' '.join(command)} showed nothing in {timeout_s:.0f} s")
            try:
                shown += ESCAPES.sub("", os.read(terminal, 65536).decode("utf-8", "replace"))
            except OSError as error:  # how a pseudo-terminal says that the program ended
                raise RuntimeError(f"{' '.join(command)} ended without a word") from error
        return FirstWord(seconds=time.monotonic() - begun, shown=shown.strip())
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def children_s() -> float:
    """Processor time of this process's ended children so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
