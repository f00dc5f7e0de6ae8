"""What every store of the response cache does: memory, PostgreSQL and Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from redis.asyncio import Redis
from sqlalchemy import func, insert, select

from phoenix.domain.run import DEFAULT_ORGANISATION, KeptAnswer
from phoenix.llm.response_cache import AnswerCache, MemoryAnswers, RedisAnswers
from phoenix.storage.answers import AnswerRows
from phoenix.storage.database import connect, transaction
from phoenix.storage.tables import model_answers_cache, organisations
from tests.redis_server import running_redis

Open = Callable[[UUID], AnswerCache]
OTHER = uuid4()
ANSWER = KeptAnswer(message={"content": "hello"}, model="openai:test")


@asynccontextmanager
async def over(kind: str, url: str, folder: Path) -> AsyncIterator[Open]:
    """Open stores of one kind, by organisation."""
    if kind == "memory":
        kept: dict[UUID, MemoryAnswers] = {}
        yield lambda organisation: kept.setdefault(organisation, MemoryAnswers())
    elif kind == "rows":
        database = connect(url)
        async with transaction(database) as connection:
            await connection.execute(insert(organisations).values(id=OTHER, name="other"))
        yield lambda organisation: AnswerRows(database, organisation)
        await database.dispose()
    else:
        async with running_redis(folder) as server, Redis.from_url(server.url) as client:
            yield lambda organisation: RedisAnswers(client, organisation)


@pytest.fixture(params=["memory", "rows", "redis"])
async def stores(
    request: pytest.FixtureRequest, migrated_database_url: str, tmp_path: Path
) -> AsyncIterator[Open]:
    """Return each kind of store, empty."""
    async with over(request.param, migrated_database_url, tmp_path) as found:
        yield found


async def test_an_answer_is_found_by_its_request_and_organisation(stores: Open) -> None:
    """Another request, and another organisation's same one, find nothing."""
    ours, theirs = stores(DEFAULT_ORGANISATION), stores(OTHER)
    assert await ours.find("sha256:a") is None
    await ours.keep("sha256:a", ANSWER, seconds=60)
    assert await ours.find("sha256:a") == ANSWER
    assert await ours.find("sha256:b") is None
    assert await theirs.find("sha256:a") is None


async def test_a_later_answer_takes_the_place_of_an_earlier(stores: Open) -> None:
    """And has its own time."""
    store = stores(DEFAULT_ORGANISATION)
    later = ANSWER.model_copy(update={"finish": "stop"})
    await store.keep("sha256:a", ANSWER, seconds=0.001)
    await store.keep("sha256:a", later, seconds=60)
    await asyncio.sleep(0.005)
    assert await store.find("sha256:a") == later


async def test_an_answer_expires(stores: Open) -> None:
    """After its time it is not found."""
    store = stores(DEFAULT_ORGANISATION)
    await store.keep("sha256:a", ANSWER, seconds=0.2)
    await asyncio.sleep(0.21)
    assert await store.find("sha256:a") is None


async def test_expired_rows_go_when_one_is_kept(migrated_database_url: str, tmp_path: Path) -> None:
    """The table does not grow with what nobody asks again."""
    async with over("rows", migrated_database_url, tmp_path) as stores:
        store = stores(DEFAULT_ORGANISATION)
        for number in range(3):
            await store.keep(f"sha256:{number}", ANSWER, seconds=0)
        await store.keep("sha256:last", ANSWER, seconds=60)
        database = connect(migrated_database_url)
        async with transaction(database) as connection:
            count = await connection.execute(select(func.count()).select_from(model_answers_cache))
            assert count.scalar_one() == 1
        await database.dispose()


async def test_without_redis_nothing_is_found_and_nothing_fails() -> None:
    """A call goes to its model instead."""
    async with Redis.from_url("redis://127.0.0.1:9/0") as client:
        store = RedisAnswers(client, DEFAULT_ORGANISATION)
        await store.keep("sha256:a", ANSWER, seconds=60)
        assert await store.find("sha256:a") is None
