"""Port `Circuits`: in memory, in Redis and in PostgreSQL; and breakers of several workers over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from phoenix.domain.circuit import Circuit, CircuitRules, Circuits, failed, succeeded
from phoenix.errors import StorageError
from phoenix.llm.breaker import Breaker
from phoenix.llm.circuits import MemoryCircuits, RedisCircuits, open_redis
from phoenix.llm.failures import LeftAlone
from phoenix.storage.circuits import CircuitRows
from phoenix.storage.database import connect
from tests.redis_server import RedisServer, running_redis

NAME = "openai:test at https://example.org/v1"
RULES = CircuitRules(failures=3, open_seconds=30)
BRIEF = CircuitRules(failures=2, open_seconds=0.2)


@pytest.fixture(params=["memory", "redis", "rows"])
async def circuits(
    request: pytest.FixtureRequest, migrated_database_url: str, tmp_path: Path
) -> AsyncIterator[Circuits]:
    """Return each kind of store, empty."""
    if request.param == "memory":
        yield MemoryCircuits()
    elif request.param == "redis":
        async with running_redis(tmp_path) as server, open_redis(server.url) as client:
            yield RedisCircuits(client)
    else:
        database = connect(migrated_database_url)
        yield CircuitRows(database)
        await database.dispose()


async def fail(circuits: Circuits, times: int = 1, rules: CircuitRules = RULES) -> Circuit:
    """Count failures and return what the circuit is then."""
    after = Circuit()
    for _ in range(times):
        _, _, after = await circuits.change(NAME, partial(failed, rules=rules, probing=False))
    return after


async def test_what_is_changed_is_read(circuits: Circuits) -> None:
    """All fields come back, with a time by the store's clock; one that is as new leaves nothing."""
    assert (await circuits.read())[1] == {}
    now, before, after = await circuits.change(NAME, partial(failed, rules=RULES, probing=False))
    assert (before, after) == (Circuit(), Circuit(1, now))
    opened = await fail(circuits, 2)
    later, found = await circuits.read()
    assert found == {NAME: opened}
    assert later >= now
    assert opened.state(later) == "open"
    assert 29 < opened.wait_seconds(later) <= 30
    await circuits.change(NAME, partial(succeeded, probing=True))
    assert (await circuits.read())[1] == {}


async def test_changes_at_once_all_count(circuits: Circuits) -> None:
    """Twenty workers that fail at the same moment are twenty failures."""
    many = CircuitRules(failures=100)
    await asyncio.gather(*(fail(circuits, rules=many) for _ in range(20)))
    assert (await circuits.read())[1][NAME].failures == 20


async def test_one_worker_opens_the_circuit_for_all(circuits: Circuits) -> None:
    """The others see it without having failed themselves, and none of their calls waited for that."""
    one, other = Breaker(circuits, RULES, look_seconds=0), Breaker(circuits, RULES, look_seconds=0)
    for _ in range(3):
        await one.settle(NAME, "sick", probing=False)
    assert not await other.admit(NAME, left_seconds=1, may_wait=False)
    await other.looked()
    with pytest.raises(LeftAlone):
        await other.admit(NAME, left_seconds=1, may_wait=False)
    assert other.states() == {NAME: "open"}
    await other.aclose()


async def test_one_call_of_all_workers_probes(circuits: Circuits) -> None:
    """Ten that wait on five workers: one is let through first, the others once it has answered."""
    breakers = [Breaker(circuits, BRIEF, look_seconds=0.02) for _ in range(5)]
    for _ in range(2):
        await breakers[0].settle(NAME, "sick", probing=False)
    for breaker in breakers:
        await breaker.looked()
    admitted: list[bool] = []
    answered = asyncio.Event()

    async def call(breaker: Breaker) -> None:
        probing = await breaker.admit(NAME, left_seconds=10, may_wait=True)
        admitted.append(probing)
        if probing:
            assert len(admitted) == 1
            await asyncio.sleep(0.1)
            answered.set()
        assert answered.is_set()
        await breaker.settle(NAME, "answered", probing=probing)

    await asyncio.gather(*(call(breaker) for breaker in breakers for _ in range(2)))
    assert sorted(admitted) == [False] * 9 + [True]
    for breaker in breakers:
        await breaker.aclose()
    assert (await circuits.read())[1] == {}


async def test_a_probe_that_fails_keeps_the_others_out(circuits: Circuits) -> None:
    """The circuit opens anew, for longer; a probe that was cut off lets another through."""
    breaker = Breaker(circuits, CircuitRules(failures=1, open_seconds=0.05), look_seconds=0.02)
    assert await breaker.settle(NAME, "sick", probing=False) == "open"
    assert await breaker.admit(NAME, left_seconds=5, may_wait=True)
    assert await breaker.settle(NAME, "unknown", probing=True) is None
    assert await breaker.admit(NAME, left_seconds=5, may_wait=True)
    assert await breaker.settle(NAME, "sick", probing=True) == "open"
    with pytest.raises(LeftAlone):
        await breaker.admit(NAME, left_seconds=0.01, may_wait=True)
    assert await breaker.admit(NAME, left_seconds=5, may_wait=True)
    assert await breaker.settle(NAME, "answered", probing=True) == "closed"
    await breaker.aclose()


class Counting(MemoryCircuits):
    """Counts round trips; `gone` refuses them."""

    def __init__(self) -> None:
        super().__init__()
        self.trips = 0
        self.gone = False

    async def read(self) -> tuple[float, dict[str, Circuit]]:
        self._count()
        return await super().read()

    async def change(self, *args: object) -> tuple[float, Circuit, Circuit]:
        self._count()
        return await super().change(*args)  # type: ignore[arg-type]

    def _count(self) -> None:
        self.trips += 1
        if self.gone:
            raise StorageError("gone")


async def test_calls_to_a_healthy_provider_cost_no_round_trip() -> None:
    """A thousand of them look once, and that beside the calls."""
    store = Counting()
    breaker = Breaker(store, RULES, look_seconds=3600)
    for _ in range(1000):
        assert not await breaker.admit(NAME, left_seconds=1, may_wait=True)
        await breaker.settle(NAME, "answered", probing=False)
    await asyncio.sleep(0)
    assert store.trips == 1


async def test_a_store_that_is_gone_leaves_each_worker_its_own_breaker() -> None:
    """Calls go on, and failures still open the circuit here."""
    store = Counting()
    store.gone = True
    breaker = Breaker(store, RULES)
    for _ in range(3):
        assert not await breaker.admit(NAME, left_seconds=1, may_wait=False)
        await breaker.settle(NAME, "sick", probing=False)
    with pytest.raises(LeftAlone):
        await breaker.admit(NAME, left_seconds=1, may_wait=False)
    assert store.trips == 1


async def test_a_redis_that_is_gone_is_said(tmp_path: Path) -> None:
    """The adapter's own errors do not pass the port."""
    server: RedisServer
    async with running_redis(tmp_path) as server, open_redis(server.url) as client:
        await server.stop()
        with pytest.raises(StorageError, match="Redis cannot be reached"):
            await RedisCircuits(client).read()
