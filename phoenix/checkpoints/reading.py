"""Reads checkpoints: many callers' questions in one statement, lists, and the history of one channel."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import psycopg
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    Checkpoint,
    CheckpointTuple,
    DeltaChannelHistory,
    PendingWrite,
    writes_sort_key,
)
from langgraph.checkpoint.serde.base import SerializerProtocol

from phoenix.checkpoints.gathering import Again, Call
from phoenix.checkpoints.lines import Lines, Row, is_lost
from phoenix.checkpoints.statements import HISTORY, READ, listing
from phoenix.checkpoints.wire import NULL, Texts, text
from phoenix.checkpoints.writing import refused


class Question(Call):
    """One call that wants a checkpoint: of an id, or the latest. It is answered with a row, or None."""

    __slots__ = ("checkpoint", "namespace", "thread")

    def __init__(
        self, done: asyncio.Future[Any], since: float, where: tuple[str, str], checkpoint: str | None
    ) -> None:
        super().__init__(done, since)
        self.thread, self.namespace = where
        self.checkpoint = checkpoint


class Wanted(NamedTuple):
    """Which checkpoints a list holds, newest first; None leaves a condition out."""

    thread: str | None = None
    namespace: str | None = None
    checkpoint: str | None = None
    before: str | None = None
    metadata: str | None = None


class Reader:
    """Answers questions, a batch in one statement."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    async def __call__(self, questions: Sequence[Question]) -> None:
        """Answer these questions.

        Raises:
            Again: the database was lost.
        """
        asked = [
            Texts.of([text(q.thread) for q in questions]),
            Texts.of([text(q.namespace) for q in questions]),
            Texts.of([NULL if q.checkpoint is None else text(q.checkpoint) for q in questions]),
        ]
        try:
            found = {row[0]: row for row in await self._lines.fetch(READ, asked)}
        except psycopg.Error as error:
            if is_lost(error):
                raise Again(questions, str(error).strip(), lost=True) from error
            if len(questions) > 1:
                for question in questions:
                    await self([question])
                return
            raise refused(error) from error
        for n, question in enumerate(questions, start=1):
            question.succeed(found.get(n))

    async def some(self, wanted: Wanted, limit: int | None) -> list[Row]:
        """Return the rows of several checkpoints, newest first."""
        return await self._lines.fetch(*listing(wanted, limit))

    async def history(
        self, where: tuple[str, str, str], channel: str, serializer: SerializerProtocol
    ) -> DeltaChannelHistory:
        """Return what a channel was written before a checkpoint (its thread, namespace and id)."""
        rows = await self._lines.fetch(HISTORY, (*where, channel))
        # The farthest ancestor first; within one, in the order in which its writes were applied.
        rows.sort(key=lambda row: (-row[0], writes_sort_key(row[1], row[2], row[3])))
        writes: list[PendingWrite] = [
            (task, channel, serializer.loads_typed((kind, blob)))
            for n, _path, task, _index, kind, blob, _inline in rows
            if n
        ]
        found: DeltaChannelHistory = {"writes": writes}
        for n, *_, kind, blob, inline in rows:
            if not n:
                found["seed"] = json.loads(inline) if kind is None else serializer.loads_typed((kind, blob))
        return found


def loaded(row: Row, serializer: SerializerProtocol) -> CheckpointTuple:
    """Return a row as LangGraph wants it.

    Raises:
        CheckpointRefused: it holds what is not on the allow-list, or is damaged.
    """
    _, thread, namespace, identity, parent, checkpoint, metadata, blobs, writes = row
    point = json.loads(checkpoint)
    values = point.get("channel_values") or {}
    for channel, kind, blob in blobs or ():
        values[channel.decode()] = serializer.loads_typed((kind.decode(), blob))
    return CheckpointTuple(
        _config(thread, namespace, identity),
        cast("Checkpoint", {**point, "channel_values": values}),
        json.loads(metadata),
        _config(thread, namespace, parent) if parent else None,
        _pending(writes or (), serializer),
    )


def _pending(writes: Sequence[Sequence[bytes]], serializer: SerializerProtocol) -> list[PendingWrite]:
    def order(write: Sequence[bytes]) -> tuple[str, str, int]:
        index = int.from_bytes(write[2], "big", signed=True)
        return writes_sort_key(write[0].decode(), write[1].decode(), index)

    return [
        (task.decode(), channel.decode(), serializer.loads_typed((kind.decode(), blob)))
        for _path, task, _index, channel, kind, blob in sorted(writes, key=order)
    ]


def _config(thread: str, namespace: str, checkpoint: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": namespace, "checkpoint_id": checkpoint}}
