"""A batch that fails is sent again in halves; of what is lost meanwhile that alone is asked for again."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from phoenix.checkpoints.gathering import Again
from phoenix.checkpoints.lines import Lines
from phoenix.checkpoints.rows import Writing
from phoenix.checkpoints.serializer import StrictSerializer
from phoenix.checkpoints.writing import Writer
from phoenix.errors import CheckpointRefused
from phoenix.storage.bounded import connect_bounded
from phoenix.storage.database import conninfo


class Cut(Lines):
    """Lines to a real database, cut before one of the statements."""

    def __init__(self, url: str, *, before: int) -> None:
        super().__init__(conninfo(url), connect_bounded, 1)
        self.before = before
        self.statements = 0

    async def fetch(self, statement: str, values: Any = ()) -> list[tuple[Any, ...]]:
        self.statements += 1
        if self.statements == self.before:
            raise psycopg.OperationalError("the connection is lost")
        return await super().fetch(statement, values)


def writing(thread: str) -> Writing:
    """Return a call that stores one value."""
    call = Writing(asyncio.get_running_loop().create_future(), 0.0, None)
    call.add_writes(StrictSerializer(), (thread, "", "1"), ("task", ""), [("channel", 1)])
    return call


async def test_a_half_that_is_lost_is_asked_for_again_and_the_rest_is_not(migrated_database_url: str) -> None:
    """Four calls, one of them refused: all, a half, each of it, and then the other half, which is lost."""
    good, bad, third, fourth = (writing(t) for t in ("one", "a\x00b", "three", "four"))
    lines = Cut(migrated_database_url, before=5)
    try:
        with pytest.raises(Again) as again:
            await Writer(lines)([good, bad, third, fourth])
        assert (list(again.value.calls), again.value.lost) == ([third, fourth], True)
        assert isinstance(bad.done.exception(), CheckpointRefused)
        assert (good.done.result(), third.done.done(), fourth.done.done()) == (None, False, False)
        await Writer(lines)(again.value.calls)
        assert (third.done.result(), fourth.done.result(), lines.statements) == (None, None, 6)
    finally:
        await lines.close()
