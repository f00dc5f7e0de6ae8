"""Files of a foreign folder, read and written without ever leaving it or following a link."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
import stat
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from phoenix.errors import PathRefused

MAX_BYTES = 64 * 1024**2
"""The most that one file may have, either way."""
NAME_BYTES = 255

_OPENAT2 = 437  # the same number on every architecture
_RESOLVE_NO_MAGICLINKS, _RESOLVE_NO_SYMLINKS, _RESOLVE_BENEATH = 0x02, 0x04, 0x08
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


_libc = ctypes.CDLL(None, use_errno=True)


def _parts(path: str) -> list[str]:
    """Split a path into names, in Unicode's composed form.

    Raises:
        PathRefused: it is absolute, empty, climbs, or holds what no name may hold.
    """
    parts = [p for p in unicodedata.normalize("NFC", path).split("/") if p not in {"", "."}]
    if path.startswith("/"):
        raise PathRefused(f"{path!r} is absolute.", hint="Name it relative to the workspace.")
    if not parts or ".." in parts:
        raise PathRefused(f"{path!r} does not name a file in the workspace.")
    for part in parts:
        if any(ord(c) < 0x20 or ord(c) == 0x7F for c in part) or _too_long(part, path):
            raise PathRefused(f"{path!r} holds a name that cannot be used.")
    return parts


def _too_long(part: str, path: str) -> bool:
    try:
        return len(part.encode()) > NAME_BYTES
    except UnicodeEncodeError as error:
        raise PathRefused(f"{path!r} is not Unicode.") from error


def _refuse(path: str, error: OSError) -> PathRefused:
    why = "passes through a link or leaves the workspace"
    if error.errno == errno.ENOTDIR:
        why = "passes through a link or a file"
    elif error.errno in {errno.EACCES, errno.EPERM}:
        why = "may not be opened"
    elif error.errno in {errno.ENXIO, errno.EISDIR, errno.ENODEV}:
        why = "is no regular file"
    return PathRefused(f"{path!r} {why}.")


@contextlib.contextmanager
def _root(root: Path) -> Iterator[int]:
    try:
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise PathRefused(f"The workspace folder cannot be opened: {error.strerror}.") from error
    try:
        yield fd
    finally:
        os.close(fd)


def _open(root: int, parts: list[str], flags: int) -> int:
    """Open below the root without following any link, by openat2 or name by name."""
    if sys.platform == "linux":
        how = _OpenHow(flags, 0, _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS)
        target = os.fsencode("/".join(parts))
        for _ in range(8):  # EAGAIN: the kernel saw a concurrent rename and could not be sure
            fd = int(_libc.syscall(_OPENAT2, root, target, ctypes.byref(how), ctypes.sizeof(how)))
            if fd >= 0:
                return fd
            code = ctypes.get_errno()
            if code != errno.EAGAIN:
                break
        if code not in {errno.ENOSYS, errno.EPERM, errno.EAGAIN}:
            raise OSError(code, os.strerror(code))
    return _walk(root, parts, flags)


def _walk(root: int, parts: list[str], flags: int) -> int:
    """Open below the root one name at a time: slower, and the same everywhere."""
    folder = os.dup(root)
    try:
        for part in parts[:-1]:
            deeper = os.open(part, _FOLDER, dir_fd=folder)
            os.close(folder)
            folder = deeper
        return os.open(parts[-1], flags, dir_fd=folder)
    finally:
        os.close(folder)


def read_beneath(root: Path, path: str, max_bytes: int = MAX_BYTES) -> bytes | None:
    """Return the content of a regular file below the root; None when there is none.

    A file with several names is refused as well: where hard links to others' files are allowed, one
    of its names may lie outside, and a path cannot tell. Git and build tools make none in a worktree.

    Raises:
        PathRefused: the path leaves the root, passes through a link, is no regular file, is hard
            linked, or is larger than `max_bytes`.
    """
    parts = _parts(path)
    with _root(root) as top:
        try:
            fd = _open(top, parts, _READ)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _refuse(path, error) from error
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise PathRefused(f"{path!r} is no regular file.")
        if info.st_nlink > 1:
            raise PathRefused(f"{path!r} is hard linked, so it may be a file from outside.")
        with os.fdopen(fd, "rb", closefd=False) as file:
            data = file.read(max_bytes + 1)
    finally:
        os.close(fd)
    if len(data) > max_bytes:
        raise PathRefused(f"{path!r} has more than {max_bytes} bytes.")
    return data


def write_beneath(root: Path, path: str, data: bytes) -> None:
    """Write a file below the root, and the folders above it; what was there is replaced at once.

    The old file is never opened: a link, FIFO or hard link of that name is replaced, not written to.
    An old regular file's permission bits are kept.

    Raises:
        PathRefused: the path leaves the root, passes through a link, names a folder or a link, or the
            data has more than `MAX_BYTES`.
    """
    parts = _parts(path)
    if len(data) > MAX_BYTES:
        raise PathRefused(f"{path!r} would have more than {MAX_BYTES} bytes.")
    with _root(root) as top:
        try:
            folder = _folder(top, parts[:-1])
        except OSError as error:
            raise _refuse(path, error) from error
        try:
            _replace(folder, parts[-1], path, data)
        except OSError as error:
            raise _refuse(path, error) from error
        finally:
            os.close(folder)


def _folder(root: int, parts: list[str]) -> int:
    folder = os.dup(root)
    for part in parts:
        with contextlib.suppress(FileExistsError):
            os.mkdir(part, 0o755, dir_fd=folder)
        try:
            deeper = os.open(part, _FOLDER, dir_fd=folder)
        finally:
            os.close(folder)
        folder = deeper
    return folder


def _replace(folder: int, name: str, path: str, data: bytes) -> None:
    mode = 0o644
    with contextlib.suppress(FileNotFoundError):
        old = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if not stat.S_ISREG(old.st_mode):
            raise PathRefused(f"{path!r} is a link, a folder or a device, not a regular file.")
        mode = stat.S_IMODE(old.st_mode) & 0o777
    fresh = f".phoenix-{secrets.token_hex(8)}"
    fd = os.open(
        fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder
    )
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            os.fchmod(fd, mode)
        os.rename(fresh, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh, dir_fd=folder)
        raise
