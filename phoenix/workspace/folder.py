"""Touch a foreign folder's entries by descriptor, so that no link is ever followed."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

from phoenix.errors import DiskFull, PhoenixError, WorkspaceError
from phoenix.workspace.git import readable

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_CHUNK = 1 << 20


class Stamp(NamedTuple):
    """What changes whenever a file does. The change time cannot be set by programs."""

    inode: int
    device: int
    size: int
    mode: int
    changed_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Stamp:
        """Take the stamp of a file."""
        return cls(found.st_ino, found.st_dev, found.st_size, found.st_mode, found.st_ctime_ns)

    def settled(self, seen_ns: int) -> bool:
        """Tell whether a change after it was seen must have given another stamp.

        A file system's clock ticks every few milliseconds; one without fractions, every two seconds.
        """
        tick = 2_000_000_000 if self.changed_ns % 1_000_000_000 == 0 else 20_000_000
        return self.changed_ns + tick < seen_ns


@contextmanager
def opened(name: str | Path, parent: int | None = None) -> Iterator[int]:
    """Open a folder that is no link; one without permissions is given them first."""
    try:
        fd = os.open(name, _OPEN_FOLDER, dir_fd=parent)
    except PermissionError:
        permit(name, parent, 0o700)
        fd = os.open(name, _OPEN_FOLDER, dir_fd=parent)
    try:
        yield fd
    finally:
        os.close(fd)


def permit(name: str | Path, parent: int | None, mode: int) -> None:
    """Set the permissions of what is there, without following a link."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        if not stat.S_ISLNK(os.fstat(fd).st_mode):
            os.chmod(f"/proc/self/fd/{fd}", mode)  # noqa: PTH101
    finally:
        os.close(fd)


@contextmanager
def opened_file(name: str, parent: int) -> Iterator[BinaryIO]:
    """Open a regular file to read; one without permissions is given them first.

    Raises:
        WorkspaceError: it is no regular file any more.
    """
    try:
        fd = os.open(name, _OPEN_FILE, dir_fd=parent)
    except PermissionError:
        permit(name, parent, 0o600)
        fd = os.open(name, _OPEN_FILE, dir_fd=parent)
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise WorkspaceError(f"{readable(os.fsencode(name))} changed its kind while it was read.")
        yield file


def blob_id(data: bytes) -> str:
    """Return git's id of a content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def blob_id_of(file: BinaryIO) -> tuple[str, int]:
    """Return git's id of a whole file's content, and its size in bytes.

    Raises:
        WorkspaceError: it changed meanwhile.
    """
    size = os.fstat(file.fileno()).st_size
    digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    count = 0
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
        count += len(chunk)
    if count != size:
        raise WorkspaceError("A file changed while it was read.", hint="Nothing may write during a snapshot.")
    return digest.hexdigest(), size


def copy(file: BinaryIO, size: int, to: IO[bytes]) -> None:
    """Append a file's first bytes, from its start, to a stream.

    Raises:
        WorkspaceError: it has become shorter.
    """
    file.seek(0)
    while size and (chunk := file.read(min(size, _CHUNK))):
        to.write(chunk)
        size -= len(chunk)
    if size:
        raise WorkspaceError("A file changed while it was read.", hint="Nothing may write during a snapshot.")


@contextmanager
def disk_errors() -> Iterator[None]:
    """Turn the operating system's errors into Phoenix's.

    Raises:
        DiskFull: there is no space, or the quota is used up.
        WorkspaceError: anything else.
    """
    try:
        yield
    except PhoenixError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(hint="Free some space, then resume.") from error
        raise WorkspaceError(
            f"The workspace cannot be used: {readable(str(error).encode('utf-8', 'replace'))}"
        ) from error
