"""Take removed vectors out of the files of an embedded Chroma, not only out of its answers.

Chroma 1.5 marks a removed vector in its graph, whose file keeps the numbers, and its log in SQLite
keeps them until a thousand more writes. A collection copied without them has neither. What the old one
leaves behind is a folder that nothing names, and free pages of the database. The new graph's files have
places that no element is in yet, and Chroma writes into them whatever the process had in its memory there:
they are blanked after each write.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import struct
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
HEADER, GRAPH, LENGTHS = "header.bin", "data_level0.bin", "length.bin"
FORM = 1
"""Of the graph's files, the first number of a header. Then come the offset of links, the places there are,
the elements in them, and an element's bytes, each of eight bytes."""
LENGTH_BYTES = 4


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


class Blanking:
    """Blanks the empty places of the graphs in a folder. Remembers which files it has seen as they are."""

    def __init__(self) -> None:
        self._seen: dict[Path, list[int]] = {}

    def blank(self, folder: Path) -> list[str]:
        """Write zeros where no element is; return why files were left. Nobody else may be writing."""
        left = []
        for header in folder.glob(f"*/{HEADER}"):
            files = [header, header.with_name(GRAPH), header.with_name(LENGTHS)]
            if self._seen.get(header) == _times(files):
                continue
            try:
                _blank(*files)
                self._seen[header] = _times(files)
            except (OSError, ValueError, struct.error) as error:
                left.append(f"{header.parent.name}: {error}")
        return left


def _times(files: list[Path]) -> list[int]:
    return [file.stat().st_mtime_ns if file.exists() else 0 for file in files]


def _blank(header: Path, graph: Path, lengths: Path) -> None:
    form, _, places, count, size = struct.unpack_from("<i4Q", header.read_bytes())
    stored = graph.stat().st_size
    if (
        form != FORM
        or not size
        or count > places
        or stored % size
        or not count * size <= stored <= places * size
    ):
        raise ValueError(f"{graph.name} has a form that is not known")
    _zero(graph, count * size)
    _zero(lengths, count * LENGTH_BYTES)


def _zero(file: Path, start: int) -> None:
    size = file.stat().st_size - start
    if size > 0:
        with file.open("r+b") as opened:
            opened.seek(start)
            opened.write(bytes(size))
            opened.flush()
            os.fsync(opened.fileno())


def _is_id(name: str) -> bool:
    try:
        UUID(name)
    except ValueError:
        return False
    return True
