"""Checkpoints and writes as rows: how a call becomes cells, and how a batch of calls becomes columns."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

import orjson
from langgraph.checkpoint.base import WRITES_IDX_MAP, ChannelVersions, Checkpoint
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.types import _DeltaSnapshot

from phoenix.checkpoints.fence import Claim
from phoenix.checkpoints.gathering import Call
from phoenix.checkpoints.wire import (
    JSONB_VERSION,
    NULL,
    Array,
    Blobs,
    Ids,
    Jsons,
    Numbers,
    Texts,
    cell,
    number,
    text,
)
from phoenix.errors import CheckpointRefused

Row = tuple[Any, ...]
"""The cells of a table's row, its key first; the last one is in whose name it is written."""

INLINE_CHARACTERS = 128
INLINE_BITS = 63

BLOB_KEY, WRITE_KEY, POINT_KEY = 4, 5, 3


class Writing(Call):
    """One call that stores something."""

    __slots__ = ("blobs", "claim", "point", "writes")

    def __init__(self, done: asyncio.Future[Any], since: float, claim: Claim | None) -> None:
        super().__init__(done, since)
        self.claim = claim
        self.blobs: list[Row] = []
        """thread, namespace, channel, version; type, blob; claim."""
        self.writes: list[Row] = []
        """thread, namespace, checkpoint, task, index; path, channel, type, blob; claim."""
        self.point: Row | None = None
        """thread, namespace, checkpoint; parent, checkpoint, metadata; claim."""

    def add_writes(
        self,
        serializer: SerializerProtocol,
        where: tuple[str, str, str],
        task: tuple[str, str],
        writes: Sequence[tuple[str, Any]],
    ) -> None:
        """Add a task's writes (its id and path) to a checkpoint (its thread, namespace and id)."""
        thread, namespace, checkpoint = text(where[0]), text(where[1]), text(where[2])
        task_id, path = text(task[0]), text(task[1])
        for position, (channel, value) in enumerate(writes):
            kind, blob = serializer.dumps_typed(value)
            special = WRITES_IDX_MAP.get(channel)
            index = number(position if special is None else special)
            self.writes.append(
                (
                    *(thread, namespace, checkpoint, task_id, index),
                    *(path, text(channel), text(kind), cell(blob), self.claim),
                )
            )
            self.size += len(blob)
            if special is not None:
                self.alone |= {self.writes[-1][:WRITE_KEY]}

    def add_blob(
        self,
        serializer: SerializerProtocol,
        where: tuple[str, str],
        channel: tuple[str, Any],
        value: Any,
    ) -> None:
        """Add a channel's value (its name and version) in a thread and namespace."""
        kind, blob = serializer.dumps_typed(value)
        key = (text(where[0]), text(where[1]), text(channel[0]), text(str(channel[1])))
        self.blobs.append((*key, text(kind), cell(blob), self.claim))
        self.size += len(blob)

    def add_point(
        self, where: tuple[str, str, str], parent: str | None, checkpoint: Any, metadata: Any
    ) -> None:
        """Add a checkpoint (its thread, namespace and id)."""
        above = NULL if parent is None else text(parent)
        described = _json(checkpoint)
        key = (text(where[0]), text(where[1]), text(where[2]))
        self.point = (*key, above, described, _json(metadata), self.claim)
        self.size += len(described)


def is_inline(value: Any) -> bool:
    """Tell whether a value is kept in the checkpoint itself, anew in each.

    Only small ones that come back from JSONB as they were: a float may return as an integer there, and an
    enum as bare text.
    """
    kind = type(value)
    if kind is str:
        return len(value) <= INLINE_CHARACTERS and value.isprintable()
    return value is None or kind is bool or (kind is int and value.bit_length() <= INLINE_BITS)


def _json(value: Any) -> bytes:
    try:
        return cell(JSONB_VERSION + orjson.dumps(value))
    except TypeError as error:
        raise CheckpointRefused(
            f"a checkpoint's description is no JSON: {error}.",
            hint="Put only text, numbers and lists or objects of them into a run's metadata.",
        ) from error


def split(
    checkpoint: Checkpoint, versions: ChannelVersions
) -> tuple[dict[str, Any], list[tuple[str, Any, Any]]]:
    """Return a checkpoint as its row holds it, and the values that go into rows of their own.

    A channel's value is stored with the version that brought it. What LangGraph's own saver keeps inline,
    and this one does not, is given with each checkpoint: there may be no row of it yet.
    """
    inline: dict[str, Any] = {}
    apart: list[tuple[str, Any, Any]] = []
    for channel, value in checkpoint["channel_values"].items():
        if is_inline(value):
            inline[channel] = value
            continue
        if type(value) is _DeltaSnapshot:
            inline[channel] = True
        version = versions.get(channel)
        if version is None and isinstance(value, str | int | float):
            version = checkpoint["channel_versions"].get(channel)
        if version is not None:
            apart.append((channel, version, value))
    return {**checkpoint, "channel_values": inline}, apart


def columns(calls: Sequence[Writing], claims: Mapping[Claim | None, int]) -> list[Array]:
    """Return the parameters of the statement that stores these calls.

    Rows are ordered by their keys, so that two batches meet them in the same order. Of equal keys the last
    special write and the last checkpoint stay, and the first of anything else.

    Args:
        calls: The batch.
        claims: In whose names it is, numbered in order from 1; None is 0 and comes first.
    """
    named = [claim for claim in claims if claim is not None]
    blobs = [row for call in calls for row in call.blobs]
    writes = [row for call in calls for row in call.writes]
    points = [call.point for call in calls if call.point is not None]
    cells = {claim: number(n) for claim, n in claims.items()}
    return [
        Ids.of([cell(claim.run) for claim in named]),
        Numbers.of([number(claim.attempt) for claim in named]),
        *_columns(_once(blobs, BLOB_KEY), (Texts, Texts, Texts, Texts, Texts, Blobs), cells),
        *_columns(_once(writes, WRITE_KEY), (*(Texts,) * 4, Numbers, Texts, Texts, Texts, Blobs), cells),
        *_columns(_once(points, POINT_KEY), (*(Texts,) * 4, Jsons, Jsons), cells),
    ]


_SPECIAL = frozenset(number(index) for index in WRITES_IDX_MAP.values())


def _once(rows: list[Row], key: int) -> list[Row]:
    """Return rows ordered by their keys (their first cells); of equal ones in one name only one is left.

    Two attempts of a run may write the same key, and which of them is refused only the database knows.
    """
    last = {(row[:key], row[-1]): row for row in rows}
    if len(last) != len(rows):
        for row in reversed(rows):
            # The last one is there already; of these the first one counts.
            if key == BLOB_KEY or (key == WRITE_KEY and row[key - 1] not in _SPECIAL):
                last[row[:key], row[-1]] = row
    return sorted(last.values(), key=itemgetter(slice(key)))


def _columns(
    rows: list[Row], kinds: tuple[type[Array], ...], claims: Mapping[Claim | None, bytes]
) -> list[Array]:
    if not rows:
        return [Numbers.of(()), *(kind.of(()) for kind in kinds)]
    *ordered, names = zip(*rows, strict=True)
    return [
        Numbers.of([claims[name] for name in names]),
        *(kind.of(cells) for kind, cells in zip(kinds, ordered, strict=True)),
    ]
