"""The engines that are compared, and each of them as a running process that is given jobs (inference_worker.py)."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from inference_quiet import used_s

from lyceum.model.gguf import GgufFile

HERE = Path(__file__).parent
OURS, SHIPPED, BEST = "Lyceum", "llama.cpp Q4_1", "llama.cpp Q4_0 + FA"
OPENVINO, OPENVINO_BF16 = "OpenVINO", "OpenVINO bf16"
REFERENCE = "float32"


class WorkerError(Exception):
    """An engine could not do a job; the message is its own."""


class EndedEarly(Exception):
    """The answer met its end token; take another prompt."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """An engine, how it is started, and the weights it reads for a token."""

    name: str
    script: str
    python: str
    settings: dict[str, Any]
    token_bytes: int  # of weights read for one token; for OpenVINO those of the file it converts
    note: str = ""


def contenders(
    *, reference: str, model: Path, requantized: Path, folder: Path, peers: str, threads: int, has_extra: bool
) -> list[Contender]:
    """Ours first, then the peers. `reference` names the model for ours, `model` is its file for the others."""
    from_file, from_best = bytes_read(model), bytes_read(requantized)

    def llama(name: str, path: Path, flash_attention: bool | None, note: str) -> Contender:
        settings = {"model": str(path), "threads": threads, "flash_attention": flash_attention}
        size = from_best if path == requantized else from_file
        return Contender(
            name=name, script="inference_llama.py", python=peers, settings=settings, token_bytes=size, note=note
        )

    def openvino(name: str, properties: dict[str, Any], note: str) -> Contender:
        place = folder / name.replace(" ", "-")
        place.mkdir()
        settings = {"model": str(model), "threads": threads, "properties": properties, "folder": str(place)}
        return Contender(
            name=name, script="inference_openvino.py", python=peers, settings=settings, token_bytes=from_file, note=note
        )

    found = [
        Contender(
            name=OURS,
            script="inference_ours.py",
            python=sys.executable,
            settings={"model": reference},
            token_bytes=from_file,
            note="the file itself, in the default mode",
        ),
        llama(SHIPPED, model, None, "the shipped file, llama.cpp's own settings (it takes flash attention)"),
        llama(BEST, requantized, True, "its fastest format: requantized by llama.cpp, lossy; flash attention"),
        openvino(OPENVINO, {}, "the shipped file, its own settings: int8 dynamic activations"),
        openvino(OPENVINO_BF16, {"DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}, "the shipped file, dynamic quantization off"),
    ]
    if has_extra:
        found.append(llama("llama.cpp Q4_1 - FA", model, False, "the shipped file, flash attention off"))
    return found


def bytes_read(model: Path) -> int:
    """Bytes of a .gguf file's weights that one token needs: all but an embedding that is not also the head."""
    file = GgufFile.open(model)
    is_tied = "output.weight" not in file.tensors
    return sum(file.blocks(name).data.nbytes for name in file.tensors if is_tied or name != "token_embd.weight")


@dataclass(kw_only=True)
class Running:
    """A process with an engine."""

    contender: Contender
    process: "subprocess.Popen[str]"
    log: IO[str]
    until: float  # on time.monotonic's clock: a job that runs beyond it is given up, and the process with it
    start_s: float = 0.0  # from nothing to an open engine, imports included
    open_s: float = 0.0  # of that, opening
    peak_bytes: int = 0
    failures: dict[str, str] = field(default_factory=dict)  # job -> what the engine said

    def ask(self, job: str, **details: Any) -> dict[str, Any]:
        """Do one job. WorkerError with the engine's own words when it fails, takes too long or the process is gone."""
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps({"job": job, **details}) + "\n")
            self.process.stdin.flush()
            answer: dict[str, Any] = self._listen()
        except OSError as error:
            raise WorkerError(f"{self.contender.name} is gone ({error}){self._last_words()}") from error
        self.peak_bytes = answer["peak_bytes"]
        if "error" in answer:
            raise WorkerError(answer["error"])
        if "ended_early" in answer:
            raise EndedEarly(answer["ended_early"])
        return answer

    def used_s(self) -> float:
        """Processor time it has spent."""
        return used_s(self.process.pid)

    def stop(self) -> None:
        """End the process and those it began, which OpenVINO's leaves behind."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()

    def _listen(self) -> dict[str, Any]:
        assert self.process.stdout
        timeout_s = max(0.0, self.until - time.monotonic())
        if not select.select([self.process.stdout], [], [], timeout_s)[0]:
            self.stop()
            raise WorkerError(f"{self.contender.name} was not done when the time was over, and was stopped")
        line = self.process.stdout.readline()
        if not line:
            raise WorkerError(f"{self.contender.name} ended{self._last_words()}")
        return json.loads(line)

    def _last_words(self) -> str:
        self.log.seek(0)
        lines = self.log.read().strip().splitlines()
        return f": {lines[-1]}" if lines else ""


def start(contender: Contender, *, threads: int, folder: Path, until: float) -> Running:
    """Start an engine's process and open its model."""
    begun = time.perf_counter()
    log = (folder / f"{contender.name.replace(' ', '-')}.log").open("w+", encoding="utf-8")
    process = subprocess.Popen(
        [contender.python, str(HERE / contender.script), json.dumps(contender.settings)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env=environment(threads),
        start_new_session=True,
    )
    running = Running(contender=contender, process=process, log=log, until=until)
    try:
        running._listen()
        running.open_s = running.ask("open")["seconds"]
    except WorkerError:
        running.stop()
        raise
    running.start_s = time.perf_counter() - begun
    return running


def environment(threads: int) -> dict[str, str]:
    """The environment of every engine: so many threads, however its library asks."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    return dict(os.environ) | dict.fromkeys(names, str(threads)) | {"TOKENIZERS_PARALLELISM": "false"}


@contextmanager
def stopping() -> Iterator[list[Running]]:
    """A list of running engines, all of which are stopped at the end, whatever happened."""
    running: list[Running] = []
    try:
        yield running
    finally:
        for one in running:
            one.stop()
