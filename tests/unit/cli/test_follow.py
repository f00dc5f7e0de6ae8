"""A follower: it says when work pauses, and notices a cancellation that was lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from phoenix.cli.follow import Follower
from phoenix.cli.screen import JsonScreen
from phoenix.domain.run import Event, Project

PROJECT = Project(
    id=uuid4(), title="x", requirement="x", model="recorded:x", created_at=datetime(2026, 1, 1, tzinfo=UTC)
)


class Quiet:
    """A service with one event, after which nothing happens."""

    async def follow(self, project_id: UUID, *, after: int = 0) -> AsyncIterator[Event]:
        yield Event(seq=1, project_id=project_id, kind="run_started", at=PROJECT.created_at)
        await asyncio.Event().wait()


def follower(*, paused: str = "") -> Follower:
    """Return a follower of a project in which little happens."""
    connection: Any = SimpleNamespace(client=Quiet(), paused=paused)
    return Follower(connection, PROJECT, JsonScreen())


def test_a_pause_is_said_once_and_so_is_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    """The message says why, and that nothing is lost."""
    here: Any = follower(paused="Less than 64 MB are free.")
    here._say_pause()
    here._say_pause()
    here.connection.paused = ""
    here._say_pause()
    here._say_pause()
    paused, on = capsys.readouterr().err.splitlines()
    assert paused == "paused: Less than 64 MB are free. Nothing is lost; Ctrl-C stops."
    assert on == "going on"


async def test_a_cancellation_that_was_lost_still_ends_it() -> None:
    """Ctrl-C stops the follower although what it was waiting in swallowed it."""
    lost = asyncio.Event()

    async def watch() -> None:
        async for event in follower()._news(0):
            if event is not None:
                lost.set()
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    continue

    task = asyncio.create_task(watch())
    await lost.wait()
    task.cancel()
    await asyncio.wait([task], timeout=5)
    ended = task.cancelled()
    task.cancel()
    assert ended
