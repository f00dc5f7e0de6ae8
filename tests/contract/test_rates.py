"""Rate limits, in the process and over Redis: by who asks and where, shared by replicas where they can be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from httpx import AsyncClient

from phoenix.api import rates as module
from phoenix.api.app import ApiOptions
from phoenix.api.rates import Rates, open_rates, read_limit
from phoenix.domain.run import DEFAULT_ORGANISATION
from phoenix.errors import RateLimited
from phoenix.telemetry.logs import configure_logs
from tests.integration.api.conftest import Front, open_front
from tests.integration.api.world import key_of, member
from tests.redis_server import RedisServer, running_redis

LIMIT = read_limit("3/minute")
KINDS = ("process", "redis")
KEYS, MEMBERS = "/api/v1/api-keys", "/api/v1/members"
NEW_KEY = {"name": "ci", "scopes": ["read"]}


async def spend(rates: Rates, who: str, times: int) -> None:
    for _ in range(times):
        await rates.check(LIMIT, who)


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    async with running_redis(tmp_path) as server:
        yield server


@pytest.fixture(params=KINDS)
async def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def url(kind: str, tmp_path: Path) -> AsyncIterator[str | None]:
    """Return where counts are shared; None where each process has its own."""
    async with AsyncExitStack() as stack:
        yield (await stack.enter_async_context(running_redis(tmp_path))).url if kind == "redis" else None


async def test_each_has_a_limit_of_its_own(url: str | None) -> None:
    """The fourth of one is refused with a time to wait; another's first is not."""
    async with open_rates(url) as rates:
        await spend(rates, "a", 3)
        with pytest.raises(RateLimited) as refused:
            await rates.check(LIMIT, "a")
        assert 1 <= refused.value.after_seconds <= 61
        await rates.check(LIMIT, "b")


async def test_many_at_once_are_counted_one_by_one(url: str | None) -> None:
    """Of thirty that come together three are let in."""
    async with open_rates(url) as rates:
        answers = await asyncio.gather(*(rates.check(LIMIT, "a") for _ in range(30)), return_exceptions=True)
    assert [a for a in answers if a is not None and not isinstance(a, RateLimited)] == []
    assert answers.count(None) == 3


# --- through the application -----------------------------------------------------------------


@pytest.fixture
async def doors(
    url: str | None, migrated_database_url: str, tmp_path: Path
) -> AsyncIterator[tuple[Front, Front]]:
    """Return front doors of two processes over one database: two new keys, two new members a minute."""
    options = ApiOptions(rate_limit="1000/minute", route_limits={"key": "2/minute", "member": "2/minute"})
    async with (
        open_rates(url) as one,
        open_rates(url) as two,
        open_front(migrated_database_url, tmp_path, options) as front,
    ):
        yield front.replica(one), front.replica(two)


async def statuses(http: AsyncClient, path: str, body: Any, times: int) -> list[int]:
    """Return what posting something so often is answered."""
    return [(await http.post(path, json=body)).status_code for _ in range(times)]


async def test_a_route_has_a_limit_of_its_own(doors: tuple[Front, Front]) -> None:
    """It is each user's and each key's; reading, and other routes with a limit, go on."""
    door, _ = doors
    who = await member(door, "admin", DEFAULT_ORGANISATION)
    async with door.client(who.token()) as http:
        assert await statuses(http, KEYS, NEW_KEY, 2) == [201, 201]
        refused = await http.post(KEYS, json=NEW_KEY)
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert 1 <= int(refused.headers["retry-after"]) <= 61
        assert (await http.get(KEYS)).status_code == 200
        found = [
            (await http.post(MEMBERS, json={"email": f"{n}@example.org", "role": "viewer"})).status_code
            for n in range(3)
        ]
        assert found == [201, 201, 429]
    async with door.client(**{"X-API-Key": await key_of(door, who)}) as http:
        assert await statuses(http, KEYS, NEW_KEY, 3) == [201, 201, 429]
    async with door.client(await door.member("viewer")) as http:
        assert await statuses(http, KEYS, NEW_KEY, 1) == [201]


async def test_replicas_share_a_routes_limit_where_there_is_redis(
    kind: str, doors: tuple[Front, Front]
) -> None:
    """What one process has let in counts at the other; without Redis each has its own count."""
    one, two = doors
    token = await one.member("developer")
    async with one.client(token) as first, two.client(token) as second:
        assert await statuses(first, KEYS, NEW_KEY, 1) == [201]
        assert await statuses(second, KEYS, NEW_KEY, 1) == [201]
        after = [*await statuses(first, KEYS, NEW_KEY, 2), *await statuses(second, KEYS, NEW_KEY, 2)]
    assert after == ([429] * 4 if kind == "redis" else [201, 429, 201, 429])


# --- a Redis that is gone --------------------------------------------------------------------


@pytest.mark.parametrize("pause_seconds", [0.0, 600.0])
async def test_a_redis_that_is_gone_makes_each_process_count_for_itself(
    redis: RedisServer,
    migrated_database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    pause_seconds: float,
) -> None:
    """Nobody is stopped, limits hold in each process, it is logged, and counts are shared when it is back."""
    monkeypatch.setattr(module, "PAUSE_SECONDS", pause_seconds)
    options = ApiOptions(rate_limit="1000/minute", route_limits={"key": "2/minute"})
    async with (
        open_rates(redis.url) as shared,
        open_rates(redis.url) as other,
        open_front(migrated_database_url, tmp_path, options) as front,
    ):
        one, two = front.replica(shared), front.replica(other)
        token = await one.member("developer")
        configure_logs("warning")
        async with one.client(token) as first, two.client(token) as second:
            assert await statuses(first, KEYS, NEW_KEY, 1) == [201]
            await redis.stop()
            assert await statuses(first, KEYS, NEW_KEY, 3) == [201, 201, 429]
            assert await statuses(second, KEYS, NEW_KEY, 3) == [201, 201, 429]
            warned = capsys.readouterr().err.count("rates_not_shared")
            # Left alone for a while after it failed: else every request would wait for it.
            assert warned == 2 if pause_seconds else warned > 2
            await redis.start()
            back = [*await statuses(first, KEYS, NEW_KEY, 2), *await statuses(second, KEYS, NEW_KEY, 2)]
    assert back == ([429] * 4 if pause_seconds else [201, 201, 429, 429])


async def test_a_redis_that_hangs_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes connections and answers nothing: requests are counted in the process."""
    monkeypatch.setattr(module, "REDIS_SECONDS", 0.1)

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with (
        server,
        asyncio.timeout(20),
        open_rates(f"redis://127.0.0.1:{port}/0?socket_timeout=600") as rates,
    ):
        await spend(rates, "a", 3)
        with pytest.raises(RateLimited):
            await rates.check(LIMIT, "a")
