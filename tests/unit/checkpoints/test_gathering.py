"""Calls go in batches; a cancelled one is not sent, a bad one fails alone, and the order of some counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from langgraph.checkpoint.serde.types import INTERRUPT, RESUME

from phoenix.checkpoints.gathering import FULL, Again, Call, Gatherer
from phoenix.checkpoints.rows import Writing
from phoenix.checkpoints.saver import open_saver
from phoenix.checkpoints.serializer import StrictSerializer
from phoenix.errors import CheckpointRefused, DatabaseUnavailable
from tests.unit.checkpoints.fenced import execute, put, unfenced


class Sender:
    """Answers batches with the calls' own numbers, when it may."""

    def __init__(self) -> None:
        self.batches: list[list[Numbered]] = []
        self.may = asyncio.Event()
        self.may.set()
        self.refuses = 0

    async def __call__(self, calls: list[Numbered]) -> None:
        self.batches.append(calls)
        await self.may.wait()
        if self.refuses:
            self.refuses -= 1
            raise Again(calls, "not now", lost=True)
        for call in calls:
            call.succeed(call.number)


class Numbered(Call):
    __slots__ = ("number",)

    def __init__(self, gatherer: Gatherer[Any], number: int, *alone: str) -> None:
        super().__init__(gatherer.answer(), gatherer.now())
        self.number, self.alone = number, frozenset(alone)


@asynccontextmanager
async def gatherer_of(sender: Sender, seconds: float = 10) -> AsyncIterator[Gatherer[Numbered]]:
    gatherer: Gatherer[Numbered] = Gatherer(sender, at_once=2, patience_seconds=seconds)
    yield gatherer
    await gatherer.close(1)


def add(gatherer: Gatherer[Numbered], *calls: Numbered) -> list[Numbered]:
    for call in calls:
        gatherer.add(call)
    return list(calls)


async def test_calls_of_the_next_turn_go_along() -> None:
    """What is called a turn of the event loop later is in the same batch."""
    sender = Sender()
    async with gatherer_of(sender) as gatherer:
        first = Numbered(gatherer, 1)
        gatherer.add(first)
        await asyncio.sleep(0)
        second = Numbered(gatherer, 2)
        gatherer.add(second)
        assert await asyncio.gather(first.done, second.done) == [1, 2]
    assert len(sender.batches) == 1


async def test_a_full_batch_goes_at_once_and_no_more_than_allowed_are_under_way() -> None:
    """Three and a half batches: two fly, and the rest follows when one lands."""
    sender = Sender()
    sender.may.clear()
    async with gatherer_of(sender) as gatherer:
        calls = add(gatherer, *(Numbered(gatherer, n) for n in range(FULL * 3 + FULL // 2)))
        await asyncio.sleep(0.01)
        assert [len(batch) for batch in sender.batches] == [FULL, FULL]
        sender.may.set()
        assert await asyncio.gather(*(call.done for call in calls)) == [call.number for call in calls]
    assert [len(batch) for batch in sender.batches] == [FULL, FULL, FULL, FULL // 2]


async def test_a_cancelled_call_is_not_sent() -> None:
    """Who no longer waits leaves nothing behind, and the others of the batch are served."""
    sender = Sender()
    async with gatherer_of(sender) as gatherer:
        gone, kept = add(gatherer, Numbered(gatherer, 1), Numbered(gatherer, 2))
        gone.done.cancel()
        assert await kept.done == 2
    assert sender.batches == [[kept]]


async def test_what_must_be_alone_waits_for_the_earlier_one() -> None:
    """Of two special writes of one key the later one is sent when the earlier one has landed."""
    sender = Sender()
    sender.may.clear()
    async with gatherer_of(sender) as gatherer:
        (first,) = add(gatherer, Numbered(gatherer, 1, "key"))
        await asyncio.sleep(0.01)
        second, other = add(gatherer, Numbered(gatherer, 2, "key"), Numbered(gatherer, 3))
        await asyncio.sleep(0.01)
        assert sender.batches == [[first], [other]]
        sender.may.set()
        await second.done
    assert sender.batches == [[first], [other], [second]]


async def test_a_lost_batch_is_sent_again_and_given_up_in_the_end() -> None:
    """Calls survive some losses, but not longer than their patience."""
    sender = Sender()
    sender.refuses = 3
    async with gatherer_of(sender) as gatherer:
        (call,) = add(gatherer, Numbered(gatherer, 1))
        assert await call.done == 1
    sender.refuses = 1000
    async with gatherer_of(sender, seconds=0.05) as gatherer:
        (call,) = add(gatherer, Numbered(gatherer, 1))
        with pytest.raises(DatabaseUnavailable, match="not now"):
            await call.done


async def test_closing_answers_everybody() -> None:
    """What is still under way when the patience of closing ends fails, and nobody hangs."""
    sender = Sender()
    sender.may.clear()
    gatherer: Gatherer[Numbered] = Gatherer(sender, at_once=1, patience_seconds=10)
    flying, waiting = add(gatherer, Numbered(gatherer, 1)), []
    await asyncio.sleep(0.01)
    waiting = add(gatherer, Numbered(gatherer, 2))
    await gatherer.close(0.05)
    for call in (*flying, *waiting):
        with pytest.raises(DatabaseUnavailable):
            await call.done


async def test_a_poisoned_value_fails_alone(migrated_database_url: str) -> None:
    """What PostgreSQL refuses fails for whoever wrote it; the rest of its batch is stored."""
    good = [unfenced() for _ in range(7)]
    bad = {"configurable": {"thread_id": "a\x00b", "checkpoint_ns": ""}}
    async with open_saver(migrated_database_url) as saver:
        results = await asyncio.gather(
            *(put(saver, config, value=[1]) for config in (*good[:3], bad, *good[3:])), return_exceptions=True
        )
        assert [isinstance(result, CheckpointRefused) for result in results] == [n == 3 for n in range(8)]
        assert all([await saver.aget_tuple(config) for config in good])
        asked = await asyncio.gather(
            *(saver.aget_tuple(config) for config in (*good, bad)), return_exceptions=True
        )
        assert [isinstance(answer, CheckpointRefused) for answer in asked] == [False] * 7 + [True]


async def test_equal_keys_keep_the_last_special_and_the_first_other(migrated_database_url: str) -> None:
    """In one batch, in one call, and one after the other."""
    for together in (True, False):
        async with open_saver(migrated_database_url) as saver:
            where = await put(saver, unfenced())
            writes: list[list[tuple[str, Any]]] = [
                [("channel", 1), (INTERRUPT, "a"), (RESUME, "a"), (RESUME, "b")],
                [("channel", 2), (INTERRUPT, "b")],
                [(RESUME, "c")],
            ]
            if together:
                await asyncio.gather(*(saver.aput_writes(where, some, "task") for some in writes))
            else:
                for some in writes:
                    await saver.aput_writes(where, some, "task")
            found = await saver.aget_tuple(where)
        assert found is not None
        assert found.pending_writes is not None
        assert {channel: value for _, channel, value in found.pending_writes} == {
            "channel": 1,
            INTERRUPT: "b",
            RESUME: "c",
        }


async def test_a_cancelled_task_spoils_nothing(migrated_database_url: str) -> None:
    """Tasks cancelled while their writes wait or are under way leave the others of the batch alone."""
    async with open_saver(migrated_database_url) as saver:
        for turns in range(6):
            gone = [asyncio.create_task(put(saver, unfenced(), value=[n])) for n in range(5)]
            config = unfenced()
            kept = asyncio.create_task(put(saver, config, value=["kept"]))
            for _ in range(turns):
                await asyncio.sleep(0)
            for task in gone:
                task.cancel()
            await kept
            assert (await asyncio.gather(*gone, return_exceptions=True)).count(None) == 0
            found = await saver.aget_tuple(config)
            assert found is not None


async def test_many_runs_share_a_commit(migrated_database_url: str) -> None:
    """A hundred calls at once are stored in a few transactions."""
    async with open_saver(migrated_database_url) as saver:
        configs = [unfenced() for _ in range(100)]
        await asyncio.gather(*(put(saver, config, value=[1]) for config in configs))
    rows = await execute(migrated_database_url, "SELECT count(DISTINCT xmin::text) FROM checkpoints")
    assert rows[0][0] <= 3


async def test_missing_tables_are_said_clearly(database_url: str) -> None:
    """A database that was not migrated is named as what it is."""
    async with open_saver(database_url) as saver:
        with pytest.raises(DatabaseUnavailable, match="schema"):
            await put(saver, unfenced(), value=[1])
        with pytest.raises(DatabaseUnavailable, match="schema"):
            await saver.aget_tuple(unfenced())


async def test_a_special_write_must_be_alone_by_its_key() -> None:
    """The last one counts, so that two of a key are never under way at once; of others the first counts."""

    def written(task: str, *channels: str) -> frozenset[Any]:
        call = Writing(asyncio.get_running_loop().create_future(), 0.0, None)
        call.add_writes(StrictSerializer(), ("thread", "", "1"), (task, ""), [(c, 1) for c in channels])
        return frozenset(call.alone)

    assert written("task", "channel", "other") == frozenset()
    assert len(written("task", "channel", RESUME)) == 1
    assert written("task", RESUME) == written("task", "channel", RESUME)
    assert written("task", INTERRUPT, RESUME) > written("task", RESUME)
    assert written("other", RESUME).isdisjoint(written("task", RESUME))
