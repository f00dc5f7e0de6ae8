"""Copy a thread as it was at a moment, through the checkpointer's own interface."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple

Written = tuple[str, Any]


async def copy_thread(
    saver: BaseCheckpointSaver[Any], source: UUID, target: UUID, *, until: datetime, at: str = ""
) -> CheckpointTuple | None:
    """Copy a thread's checkpoints up to a moment, and return the last of its own; None when it has none.

    Checkpoints keep their ids, and with them the ids of tasks, of subgraphs and of interrupts. Of each
    subgraph the last checkpoint up to that moment is where it goes on. What was written on top of a last
    checkpoint came after it, answers of people among it, and is left behind: that step is done anew.

    Args:
        saver: Where threads are.
        source: The thread that is copied; it is only read.
        target: A new thread.
        until: The moment.
        at: The checkpoint where the thread itself ends, where that is known.
    """
    spaces: dict[str, dict[str, CheckpointTuple]] = {}
    async for found in saver.alist({"configurable": {"thread_id": str(source)}}):
        spaces.setdefault(space_of(found), {})[found.checkpoint["id"]] = found
    own: CheckpointTuple | None = None
    for space, known in spaces.items():
        last = known[at] if at and not space else _last(known, until)
        if last is None:
            continue
        await _copy_line(saver, _line(known, last), target, space)
        if not space:
            own = last
    return own


def space_of(found: CheckpointTuple) -> str:
    """Return the subgraph of a checkpoint; empty for the thread's own graph."""
    return str(found.config["configurable"].get("checkpoint_ns", ""))


def made_at(found: CheckpointTuple) -> datetime:
    """Return when a checkpoint was made, by the clock of the worker that made it."""
    return datetime.fromisoformat(found.checkpoint["ts"])


def _last(known: dict[str, CheckpointTuple], until: datetime) -> CheckpointTuple | None:
    return max(
        (found for found in known.values() if made_at(found) <= until),
        key=lambda found: found.checkpoint["id"],
        default=None,
    )


def _line(known: dict[str, CheckpointTuple], last: CheckpointTuple) -> list[CheckpointTuple]:
    """Return a checkpoint and those it came from, oldest first, as far as they are kept."""
    line = [last]
    while (parent := known.get(parent_of(line[-1]))) is not None:
        line.append(parent)
    return line[::-1]


def parent_of(found: CheckpointTuple) -> str:
    """Return the id of the checkpoint that another came from; empty for a first one."""
    above = found.parent_config
    return str(above["configurable"].get("checkpoint_id", "")) if above else ""


async def _copy_line(
    saver: BaseCheckpointSaver[Any], line: Sequence[CheckpointTuple], target: UUID, space: str
) -> None:
    above, versions = "", dict[str, Any]()
    for found in line:
        checkpoint = found.checkpoint
        place: dict[str, Any] = {"thread_id": str(target), "checkpoint_ns": space}
        if above:
            place["checkpoint_id"] = above
        new = {k: v for k, v in checkpoint["channel_versions"].items() if versions.get(k) != v}
        # A run knows by this that it has begun on its thread; both have one id.
        metadata: Any = {**found.metadata, "run_id": str(target)}
        where = await saver.aput({"configurable": place}, checkpoint, metadata, new)
        if found is not line[-1]:
            await _copy_writes(saver, found, where)
        above, versions = checkpoint["id"], checkpoint["channel_versions"]


async def _copy_writes(
    saver: BaseCheckpointSaver[Any], found: CheckpointTuple, where: RunnableConfig
) -> None:
    """Copy what was written on top of a checkpoint: the next one, and channels of deltas, come from it."""
    writes: dict[str, list[Written]] = {}
    for task, channel, value in found.pending_writes or ():
        writes.setdefault(task, []).append((channel, value))
    for task, written in writes.items():
        await saver.aput_writes(where, written, task)
