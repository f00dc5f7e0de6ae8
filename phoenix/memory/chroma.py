"""Vectors in Chroma: embedded in the data folder, or a server.

Chroma blocks, so each index has one thread. The embedded one is safe between threads and not between
processes: a lock file lets one in at a time, and each sees what others wrote. What cannot be read any more is
left and a new folder begun; its number tells other processes that theirs is old. Nothing but ids and vectors
is stored.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import structlog

from phoenix.errors import MemoryUnavailable, PhoenixError
from phoenix.memory.lock import locked
from phoenix.memory.scrub import Blanking, copy_without, tidy
from phoenix.memory.thread import WorkThread
from phoenix.ports_memory import Embedder, Moved

if TYPE_CHECKING:
    from chromadb.api import ClientAPI
    from chromadb.api.models.Collection import Collection

log = structlog.get_logger(__name__)
T = TypeVar("T")

BATCH = 1000
LOCK_SECONDS = 5.0
CALL_SECONDS = 20.0
"""A search may take so long, the library's import at the first included; a run waits for it."""
WRITE_SECONDS = 120.0
REST_SECONDS = 30.0
"""After a failure nothing is tried for so long: runs do not wait for what is away."""
SEARCH_WIDTH = 100
"""Of the graph of neighbours; Chroma's own default, pinned since recall depends on it."""
SHAPE: Any = {"hnsw": {"space": "cosine", "ef_search": SEARCH_WIDTH}}
UNTIDY = "untidy"
"""A file in a folder whose files may hold vectors that were removed."""


class ChromaVectors:
    """Port `Vectors`.

    Args:
        embedder: Computes the vectors; each embedder has collections of its own.
        folder: Where the embedded index lies; made when it is first used.
        url: Of a Chroma server, instead of a folder.
        rest_seconds: How long nothing is tried after a failure.
    """

    def __init__(
        self,
        embedder: Embedder,
        *,
        folder: Path | None = None,
        url: str = "",
        rest_seconds: float = REST_SECONDS,
    ) -> None:
        if (folder is None) == (not url):
            raise ValueError("give a folder or a URL")
        self.embedder = embedder
        self._folder = folder
        self._url = url
        self._rest_seconds = rest_seconds
        self._thread = WorkThread("vectors")
        self._client: ClientAPI | None = None
        self._opened: Path | None = None
        self._collections: dict[UUID, Collection] = {}
        self._blanking = Blanking()
        self._is_stale = False
        self._down = 0.0
        self._why = ""

    async def place(self, organisation_id: UUID) -> str:
        return await self._do(lambda: str(self._collection(organisation_id).id), CALL_SECONDS)

    async def put(self, organisation_id: UUID, texts: Mapping[UUID, str]) -> str:
        ids = list(texts)

        def write() -> str:
            for start in range(0, len(ids), BATCH):
                part = {i: texts[i] for i in ids[start : start + BATCH]}
                self._on(
                    organisation_id, partial(_upsert, list(part), self.embedder.embed(list(part.values())))
                )
            return str(self._collection(organisation_id).id)

        return await self._do(write, WRITE_SECONDS)

    async def search(self, organisation_id: UUID, text: str, *, limit: int) -> list[tuple[UUID, float]]:
        def look() -> list[tuple[UUID, float]]:
            vectors: Any = self.embedder.embed([text])
            found = self._on(
                organisation_id,
                lambda c: c.query(query_embeddings=vectors, n_results=limit, include=["distances"]),
            )
            distances = found["distances"]
            assert distances is not None
            return [(UUID(i), 1.0 - d) for i, d in zip(found["ids"][0], distances[0], strict=True)]

        return await self._do(look, CALL_SECONDS)

    async def remove(self, organisation_id: UUID, ids: Sequence[UUID]) -> Moved:
        names = set(map(str, ids))

        def take_out() -> Moved:
            before = after = str(self._on(organisation_id, lambda c: (c.count(), c.id)[1]))
            if names and self._folder is None:
                self._on(organisation_id, lambda c: c.delete(ids=list(names)))
            elif names:
                self._mark()
                copy_without(self._open(), self._name(organisation_id), SHAPE, names)
                self._tidy()
                if left := self._blank():
                    raise MemoryUnavailable(f"Chroma's files may still hold a vector: {'; '.join(left)}.")
                after = str(self._collection(organisation_id).id)
            return Moved(before, after)

        return await self._do(take_out, WRITE_SECONDS)

    async def clear(self, organisation_id: UUID) -> None:
        self._down = 0.0

        def empty() -> None:
            try:
                self._collection(organisation_id)
                self._mark()
                self._open().delete_collection(self._name(organisation_id))
                self._tidy()
            except PhoenixError:
                raise
            except Exception as error:
                if self._folder is None:
                    raise
                log.warning("vectors_begun_anew", reason=str(error)[:300])
                self._begin_anew()
            self._collections.pop(organisation_id, None)

        await self._do(empty, WRITE_SECONDS)

    async def close(self) -> None:
        if self._client is not None:
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    await self._thread.run(self._leave)
            except TimeoutError:
                log.warning("vectors_left_open", seconds=CALL_SECONDS)
        self._thread.stop()

    # --- in the thread -----------------------------------------------------------------------

    def _on(self, organisation_id: UUID, act: Callable[[Collection], T]) -> T:
        """Act on an organisation's collection; one that another process has replaced is opened again."""
        from chromadb.errors import NotFoundError

        try:
            return act(self._collection(organisation_id))
        except NotFoundError:
            self._collections.pop(organisation_id, None)
            return act(self._collection(organisation_id))

    def _collection(self, organisation_id: UUID) -> Collection:
        client = self._open()
        if organisation_id not in self._collections:
            self._collections[organisation_id] = client.get_or_create_collection(
                self._name(organisation_id),
                embedding_function=None,
                configuration=SHAPE,
            )
        return self._collections[organisation_id]

    def _name(self, organisation_id: UUID) -> str:
        return f"{organisation_id.hex}-{re.sub(r'[^A-Za-z0-9-]', '-', self.embedder.name)}"

    def _open(self) -> ClientAPI:
        """Return the client, opened anew where another process has begun a new folder."""
        newest = self._newest()
        if self._is_stale or newest != self._opened:
            self._leave()
        if self._client is None:
            import chromadb
            from chromadb.config import Settings

            quiet = Settings(anonymized_telemetry=False)
            if newest is None:
                parts = urlsplit(self._url)
                is_secure = parts.scheme == "https"
                port = parts.port or (443 if is_secure else 80)
                self._client = chromadb.HttpClient(parts.hostname or "", port, ssl=is_secure, settings=quiet)
            else:
                newest.mkdir(parents=True, exist_ok=True)
                if (newest / UNTIDY).exists():
                    self._tidy()
                self._client = chromadb.PersistentClient(newest, settings=quiet)
            self._opened = newest
        return self._client

    def _leave(self) -> None:
        """Close the client. Chroma leaves the connections to a server open."""
        self._is_stale = False
        self._collections.clear()
        client, self._client = self._client, None
        if client is None:
            return
        parts = [client, getattr(client, "_admin_client", None)]
        sessions = [getattr(getattr(part, "_server", None), "_session", None) for part in parts]
        try:
            client.close()  # type: ignore[attr-defined]
            for session in filter(None, sessions):
                session.close()
        except Exception as error:  # noqa: BLE001 what is broken may not close either
            log.warning("vectors_not_closed", reason=str(error)[:300])

    def _mark(self) -> None:
        """Note that files may hold removed vectors, should this process end before they are tidied."""
        if (folder := self._newest()) is not None:
            (folder / UNTIDY).touch()

    def _tidy(self) -> None:
        if (folder := self._newest()) is not None:
            self._leave()
            tidy(folder)
            (folder / UNTIDY).unlink(missing_ok=True)

    def _newest(self) -> Path | None:
        if self._folder is None:
            return None
        numbers = [int(p.name) for p in self._folder.iterdir() if p.name.isdecimal()]
        return self._folder / str(max(numbers, default=1))

    def _begin_anew(self) -> None:
        old = self._newest()
        assert old is not None
        (old.parent / str(int(old.name) + 1)).mkdir()
        self._leave()
        shutil.rmtree(old, ignore_errors=True)

    # --- from the loop -----------------------------------------------------------------------

    async def _do(self, act: Callable[[], T], seconds: float) -> T:
        """Do something in the thread, within a time; what fails is not tried again for a while."""
        if time.monotonic() < self._down:
            raise MemoryUnavailable(self._why)
        try:
            async with asyncio.timeout(seconds):
                return await self._thread.run(lambda: self._alone(act))
        except TimeoutError as error:
            # The thread may never come back: the next call has another one.
            self._thread.stop()
            self._thread, self._client = WorkThread("vectors"), None
            self._collections.clear()
            raise self._failed(f"Chroma did not answer within {seconds:g} s.") from error
        except MemoryUnavailable as error:
            raise self._failed(error.message) from error
        except Exception as error:
            raise self._failed(f"Chroma fails: {str(error)[:300] or type(error).__name__}") from error

    def _alone(self, act: Callable[[], T]) -> T:
        lock: AbstractContextManager[None] = nullcontext()
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = locked(self._folder / "lock", seconds=LOCK_SECONDS)
        with lock:
            try:
                return act()
            finally:
                if left := self._blank():
                    log.warning("vectors_not_blanked", files=left)

    def _blank(self) -> list[str]:
        folder = self._newest()
        return [] if folder is None else self._blanking.blank(folder)

    def _failed(self, why: str) -> MemoryUnavailable:
        self._down, self._why = time.monotonic() + self._rest_seconds, why
        self._is_stale = True
        hint = "Runs go on with full text alone. `phoenix memory rebuild` makes the vectors anew."
        return MemoryUnavailable(why, hint=hint)


def _upsert(ids: list[UUID], vectors: Any, collection: Collection) -> None:
    collection.upsert(ids=list(map(str, ids)), embeddings=vectors)
