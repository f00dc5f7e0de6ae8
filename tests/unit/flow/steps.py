"""Small steps, models and helpers that the tests of the algebra share."""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver

from phoenix.domain.frozen import Digest, Frozen
from phoenix.flow import Flow, Waiting, step

APPROVE = {"verdict": "approve"}


class Draft(Frozen):
    """A document that people decide on."""

    text: str
    source: Digest = "sha256:" + "0" * 64
    round: int = 1


class Reply(Frozen):
    """What a person answers."""

    text: str


@step
async def inc(x: int) -> int:
    return x + 1


@step
async def double(x: int) -> int:
    return x * 2


@step
async def show(x: int) -> str:
    return str(x)


@step
async def length(text: str) -> int:
    return len(text)


@step
async def upto(x: int) -> list[int]:
    return list(range(x))


@step
async def total(items: list[int]) -> int:
    return sum(items)


@step
async def gathered(parts: dict[str, int]) -> int:
    return sum(parts.values())


def config(thread: str = "t") -> dict[str, Any]:
    """Return the config of a thread."""
    return {"configurable": {"thread_id": thread}}


async def answered(
    flow: Flow[Any, Any],
    waiting: Any,
    saver: BaseCheckpointSaver[Any],
    decision: dict[str, Any] | None = None,
) -> Any:
    """Answer one request after the other, each by its id, until the run ends."""
    while isinstance(waiting, Waiting):
        first = waiting.requests[0].interrupt_id
        waiting = await flow.resume(
            {first: decision or APPROVE}, checkpointer=saver, config=config(waiting.thread_id)
        )
    return waiting
