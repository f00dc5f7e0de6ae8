"""The checkpointer of Phoenix: LangGraph's state on PostgreSQL, fenced, and stored for many runs at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from itertools import chain, repeat
from typing import Any, NoReturn, TypeVar

import orjson
import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    DeltaChannelHistory,
    get_checkpoint_id,
    get_serializable_checkpoint_metadata,
)
from psycopg import AsyncConnection

from phoenix.checkpoints.fence import claim_of
from phoenix.checkpoints.gathering import PATIENCE_SECONDS, PAUSES_SECONDS, Gatherer
from phoenix.checkpoints.keeping import Keeper
from phoenix.checkpoints.lines import Connect, Lines, is_lost
from phoenix.checkpoints.reading import Question, Reader, Wanted, loaded
from phoenix.checkpoints.rows import Writing, split
from phoenix.checkpoints.serializer import StrictSerializer
from phoenix.checkpoints.writing import Writer, refused
from phoenix.domain.run import FRESH_KEY
from phoenix.errors import DatabaseUnavailable

WRITES_AT_ONCE, READS_AT_ONCE = 3, 2
CLOSE_SECONDS = 10.0
KNOWN_VALUES = 10_000

Where = tuple[str, str, str]
T = TypeVar("T")


class Checkpointer(BaseCheckpointSaver[str]):
    """Stores and reads checkpoints; `open_saver` makes one.

    What all runs of a process want stored goes in common batches, each one statement and one commit, and a
    call returns when its own is committed. A configuration that names a run and its attempt (see
    `phoenix.checkpoints.fence`) stores only while the run is running in that attempt. Every call is safe to
    repeat. Asynchronous only.

    Raises:
        RunSuperseded: another attempt has taken over the run; nothing was stored.
        CheckpointRefused: the value cannot be stored, or a stored one may not be read.
        DatabaseUnavailable, DiskFull: the database was not to be had for so long that the call gave up.
    """

    def __init__(self, lines: Lines, serializer: StrictSerializer, *, patience_seconds: float) -> None:
        super().__init__(serde=serializer)
        self._patience_seconds = patience_seconds
        self._reader = Reader(lines)
        self._keeper = Keeper(lines)
        self._writes: Gatherer[Writing] = Gatherer(
            Writer(lines), at_once=WRITES_AT_ONCE, patience_seconds=patience_seconds, what="writes"
        )
        self._reads: Gatherer[Question] = Gatherer(
            self._reader, at_once=READS_AT_ONCE, patience_seconds=patience_seconds, what="reads"
        )
        self._known: set[tuple[str, ...]] = set()

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Store a checkpoint, and the values of the channels whose version is new."""
        configurable = config["configurable"]
        thread, namespace = str(configurable["thread_id"]), configurable.get("checkpoint_ns", "")
        point, apart = split(checkpoint, new_versions)
        call = self._writing(config)
        known: list[tuple[str, ...]] = []
        for channel, version, value in apart:
            if channel not in new_versions:
                key = (thread, namespace, channel, str(version))
                if key in self._known:
                    continue
                known.append(key)
            call.add_blob(self.serde, (thread, namespace), (channel, version), value)
        call.add_point(
            (thread, namespace, checkpoint["id"]),
            configurable.get("checkpoint_id"),
            point,
            get_serializable_checkpoint_metadata(config, metadata),
        )
        self._writes.add(call)
        await call.done
        if known:
            self._learn(known)
        return {
            "configurable": {
                "thread_id": thread,
                "checkpoint_ns": namespace,
                "checkpoint_id": checkpoint["id"],
            }
        }

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Store what a task wrote, before its checkpoint's successor is there."""
        if not writes:
            return
        configurable = config["configurable"]
        where: Where = (
            str(configurable["thread_id"]),
            configurable.get("checkpoint_ns", ""),
            configurable["checkpoint_id"],
        )
        call = self._writing(config)
        call.add_writes(self.serde, where, (task_id, task_path), writes)
        self._writes.add(call)
        await call.done

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """Return the checkpoint that a configuration names, or the thread's latest; None without one."""
        configurable = config["configurable"]
        namespace, checkpoint = configurable.get("checkpoint_ns", ""), get_checkpoint_id(config) or None
        if configurable.get(FRESH_KEY) and not namespace and checkpoint is None:
            return None
        question = Question(
            self._reads.answer(),
            self._reads.now(),
            (str(configurable["thread_id"]), namespace),
            checkpoint,
        )
        self._reads.add(question)
        row = await question.done
        return None if row is None else loaded(row, self.serde)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,  # noqa: A002 LangGraph's name
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """Iterate over checkpoints, newest first: of a thread, or of all; `filter` is on metadata."""
        configurable = config["configurable"] if config else {}
        thread = configurable.get("thread_id")
        wanted = Wanted(
            thread=None if thread is None else str(thread),
            namespace=configurable.get("checkpoint_ns"),
            checkpoint=configurable.get("checkpoint_id") or None,
            before=get_checkpoint_id(before) if before else None,
            metadata=orjson.dumps(filter).decode() if filter else None,
        )
        rows = await self._surely(lambda: self._reader.some(wanted, limit))
        for row in rows:
            yield loaded(row, self.serde)

    async def aget_delta_channel_history(
        self, *, config: RunnableConfig, channels: Sequence[str]
    ) -> Mapping[str, DeltaChannelHistory]:
        """Return, a channel, the nearest ancestor's value and what was written since: one query each."""
        configurable = config["configurable"]
        checkpoint = get_checkpoint_id(config)
        if channels and not checkpoint:
            latest = await self.aget_tuple(config)
            if latest is None:
                return {channel: {"writes": []} for channel in channels}
            checkpoint = latest.checkpoint["id"]
        where = (str(configurable["thread_id"]), configurable.get("checkpoint_ns", ""), str(checkpoint))
        found: dict[str, DeltaChannelHistory] = {}
        for channel in channels:
            found[channel] = await self._surely(partial(self._reader.history, where, channel, self.serde))
        return found

    async def adelete_thread(self, thread_id: str) -> None:
        """Delete a thread."""
        await self._surely(lambda: self._keeper.delete([str(thread_id)]))

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Delete the checkpoints whose metadata carries one of these run ids."""
        await self._surely(lambda: self._keeper.delete_of_runs(run_ids))

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy a whole thread."""
        await self._surely(lambda: self._keeper.copy(str(source_thread_id), str(target_thread_id)))

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Thin out threads to what their latest checkpoints need, or (`delete`) delete them.

        Raises:
            ValueError: there is no such strategy.
        """
        if strategy not in ("keep_latest", "delete"):
            raise ValueError(f"There is no strategy {strategy!r}: use keep_latest or delete.")
        if strategy == "delete":
            await self._surely(lambda: self._keeper.delete(thread_ids))
            return
        for thread in thread_ids:
            await self._surely(partial(self._keeper.keep_latest, str(thread)))

    def get_next_version(self, current: str | int | float | None, channel: None) -> str:
        """Return a version after `current`: a count, and chance, lest two forks of a state meet in one."""
        count = 1 if current is None else int(str(current).split(".", maxsplit=1)[0]) + 1
        # The form of LangGraph's own saver: versions of one thread are compared, so all must have it.
        return f"{count:032}.{random.random():016}"  # noqa: S311 no secret

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise NotImplementedError(
            "The checkpointer is asynchronous only: run graphs with `ainvoke` or `astream`, and read state"
            " with `aget_state`."
        )

    get_tuple = list = put = put_writes = delete_thread = delete_for_runs = copy_thread = prune = _refuse
    get_delta_channel_history = _refuse

    async def close(self) -> None:
        """Wait for what is under way, for a bounded time."""
        await self._writes.close(CLOSE_SECONDS)
        await self._reads.close(CLOSE_SECONDS)

    async def _surely(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do something idempotent, again while the database is lost."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience_seconds
        for pause in chain(PAUSES_SECONDS, repeat(PAUSES_SECONDS[-1])):
            try:
                return await work()
            except psycopg.Error as error:
                if not is_lost(error):
                    raise refused(error) from error
                if loop.time() + pause > deadline:
                    raise unavailable(error) from error
            await asyncio.sleep(pause)
        raise AssertionError("the pauses never end")

    def _writing(self, config: RunnableConfig) -> Writing:
        return Writing(self._writes.answer(), self._writes.now(), claim_of(config))

    def _learn(self, keys: Sequence[tuple[str, ...]]) -> None:
        if len(self._known) > KNOWN_VALUES:
            self._known.clear()
        self._known.update(keys)


@asynccontextmanager
async def open_saver(
    url: str,
    *,
    serializer: StrictSerializer | None = None,
    connections: int = 6,
    connect: Connect = AsyncConnection.connect,
    patience_seconds: float = PATIENCE_SECONDS,
) -> AsyncIterator[Checkpointer]:
    """Yield a checkpointer on connections of its own. Its tables come with `phoenix.storage.migrate`.

    Args:
        url: A database, as `postgresql://...`.
        serializer: Give one whose `allow` was called for the models of a user's flow.
        connections: The most that it opens.
        connect: Opens a connection; give one that is bounded in time.
        patience_seconds: How long a call goes on trying when the database is lost.

    Raises:
        DatabaseUnavailable: nobody answers there.
    """
    lines = Lines(url, connect, connections)
    try:
        await lines.fetch("SELECT 1")
    except psycopg.OperationalError as error:
        raise unavailable(error) from error
    saver = Checkpointer(lines, serializer or StrictSerializer(), patience_seconds=patience_seconds)
    try:
        yield saver
    finally:
        await saver.close()
        await lines.close()


def unavailable(error: psycopg.Error) -> DatabaseUnavailable:
    """Return the driver's error as Phoenix raises it."""
    return DatabaseUnavailable(
        f"the database of the checkpoints does not answer: {str(error).strip()}.",
        hint="Check DATABASE_URL, or unset it to use the embedded PostgreSQL.",
    )
