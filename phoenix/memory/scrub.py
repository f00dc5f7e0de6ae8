"""Take removed vectors out of the files of an embedded Chroma, not only out of its answers.

Chroma 1.5 marks a removed vector in its graph, whose file keeps the numbers, and its log in SQLite
keeps them until a thousand more writes. A collection copied without them has neither. What the old one
leaves behind is a folder that nothing names, and free pages of the database.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Collection as Several
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from chromadb.api import ClientAPI

BATCH = 1000
DATABASE = "chroma.sqlite3"
WAIT_SECONDS = 10.0


def copy_without(client: ClientAPI, name: str, settings: dict[str, Any], ids: Several[str]) -> None:
    """Put a copy without some ids in a collection's place; it has another id then.

    Stopped midway, either the old one or the new one has the name, and both are whole.
    """
    from chromadb.errors import NotFoundError

    old = client.get_collection(name, embedding_function=None)
    spare = f"{name}-next"
    with suppress(NotFoundError):
        client.delete_collection(spare)
    new = client.create_collection(spare, embedding_function=None, configuration=settings)  # type: ignore[arg-type]
    offset = 0
    while (found := old.get(limit=BATCH, offset=offset, include=["embeddings"]))["ids"]:
        vectors: Any = found["embeddings"]
        assert vectors is not None
        kept = [n for n, i in enumerate(found["ids"]) if i not in ids]
        if kept:
            new.upsert(ids=[found["ids"][n] for n in kept], embeddings=[vectors[n] for n in kept])
        offset += len(found["ids"])
    client.delete_collection(name)
    new.modify(name=name)


def tidy(folder: Path) -> None:
    """Remove what deleted collections left in a folder that no client has open. Idempotent.

    Raises:
        sqlite3.Error: somebody else has the database, or it is broken.
    """
    file = folder / DATABASE
    if not file.exists():
        return
    with closing(sqlite3.connect(file, timeout=WAIT_SECONDS, isolation_level=None)) as database:
        named = {row[0] for row in database.execute("SELECT id FROM segments")}
        for path in folder.iterdir():
            if path.is_dir() and _is_id(path.name) and path.name not in named:
                shutil.rmtree(path)
        database.execute("PRAGMA secure_delete = ON")
        database.execute("VACUUM")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _is_id(name: str) -> bool:
    try:
        UUID(name)
    except ValueError:
        return False
    return True
