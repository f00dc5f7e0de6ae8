"""A worker that stops: what it waits for, and what it does not wait for."""

from __future__ import annotations

import asyncio
import time

import pytest

from phoenix.engine import worker


async def losing(count: int) -> None:
    """Work for ever, and lose so many cancellations as a library may."""
    for left in range(count, -1, -1):
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if not left:
                raise


async def end(task: asyncio.Task[None]) -> None:
    """Leave nothing of a test behind."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.1)


async def test_work_that_ends_in_time_is_not_cancelled() -> None:
    """It is waited for as long as patience goes."""
    task = asyncio.create_task(asyncio.sleep(0.05))
    await worker._ended(task, patience_seconds=5)
    assert not task.cancelled()


async def test_a_lost_cancellation_is_sent_again() -> None:
    """Twice lost, the third ends it."""
    task = asyncio.create_task(losing(2))
    await worker._ended(task, patience_seconds=0.01)
    ended = task.cancelled()
    await end(task)
    assert ended


async def test_work_that_cannot_be_ended_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process still stops: a sweep takes up what it worked on."""
    monkeypatch.setattr(worker, "CANCELS", 1)
    task = asyncio.create_task(losing(3))
    began = time.monotonic()
    await worker._ended(task, patience_seconds=0.01)
    left, took = not task.done(), time.monotonic() - began
    await end(task)
    assert left
    assert took < 10
