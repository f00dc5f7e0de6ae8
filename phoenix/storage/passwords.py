"""A database password that changes: libpq reads it from a file whenever it connects."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

import structlog
from sqlalchemy import URL

from phoenix.storage.database import parse_url

log = structlog.get_logger(__name__)


@contextmanager
def password_file(url: str, folder: Path) -> Iterator[tuple[str, Callable[[str], None]]]:
    """Yield a database's URL that names a file in place of its password, and what takes a newer URL.

    Connections that are open stay as they are; new ones use the password that came last. The file is in
    `folder`, for this user alone, and goes at the end.

    Args:
        url: The database, with its password.
        folder: Where the file is made, such as the data folder.
    """
    first = parse_url(url)
    path = folder / f".pgpass-{os.getpid()}-{token_hex(8)}"

    def take(newer: str) -> None:
        parsed = parse_url(newer)
        if _bare(parsed) != _bare(first):
            log.warning(
                "database_moved",
                hint="Only its password can change while Phoenix runs: restart this process.",
            )
            return
        _write(path, parsed.password or "")

    bare = _bare(first).update_query_dict({"passfile": str(path)})
    try:
        _write(path, first.password or "")
        yield bare.render_as_string(hide_password=False), take
    finally:
        with suppress(FileNotFoundError):
            path.unlink()


def _bare(url: URL) -> URL:
    """Return a URL without its password; `URL.set` takes None for "as it is"."""
    return URL.create("postgresql", url.username, None, url.host, url.port, url.database, url.query)


def _write(path: Path, password: str) -> None:
    """Put a password in place at once, so that nobody reads half of it."""
    escaped = password.replace("\\", "\\\\").replace(":", "\\:")
    beside = path.with_name(f"{path.name}.new")
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(f"*:*:*:*:{escaped}\n")
    beside.replace(path)
