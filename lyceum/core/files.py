"""Files that are whole or absent: write to a temporary name, fsync, rename; and their checksums."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lyceum.core.errors import CheckpointError, ResourceError


@contextlib.contextmanager
def atomic(target: Path) -> Iterator[Path]:
    """Give a temporary path beside `target` for a file or a folder; it becomes `target` when the block ends well.

    A crash at any moment leaves the old `target` or the new one, whole. A full disk is a ResourceError and keeps the
    old one. A file is replaced; a folder never is (no single rename can), so CheckpointError when `target` is one.
    """
    if target.is_dir():
        raise CheckpointError(f"{target} exists already; remove it or choose another name")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResourceError(f"{target.parent} cannot be made ({error.strerror}); choose another place") from error
    temporary = target.with_name(f".{target.name}.{os.getpid()}.partial")
    remove(temporary)
    try:
        yield temporary
        _sync_tree(temporary)
        os.replace(temporary, target)
        _sync(target.parent)
    except OSError as error:
        if is_full(error):
            raise ResourceError(
                f"no room to write {target}: {error.strerror}; what was there is kept;"
                " free some space and run the same command again"
            ) from error
        raise
    finally:
        remove(temporary)


def is_full(error: BaseException) -> bool:
    """Whether an error says the disk, the quota or the allowed file size is used up."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_text(target: Path, text: str) -> None:
    """Write a whole text file atomically."""
    with atomic(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: Path, plain: Any) -> None:
    """Write JSON atomically, indented for people."""
    write_text(target, json.dumps(plain, indent=2, ensure_ascii=False) + "\n")


def read_json(source: Path) -> Any:
    """Read JSON; CheckpointError when it is missing or damaged."""
    try:
        return json.loads(source.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{source} does not exist; check the path") from error
    except (ValueError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{source} is not readable JSON ({error}); it is damaged, restore or remake it"
        ) from error


def sha256(source: Path) -> str:
    """The checksum of a file, in hexadecimal."""
    with source.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def size_bytes(source: Path) -> int:
    """The size of a file, or of all files below a folder."""
    if source.is_file():
        return source.stat().st_size
    return sum(path.stat().st_size for path in source.rglob("*") if path.is_file())


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder; nothing happens when it is absent."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync_tree(path: Path) -> None:
    if path.is_dir():
        for inner in path.rglob("*"):
            _sync(inner)
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
