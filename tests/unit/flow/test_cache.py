"""cached: kept outputs, shared executions."""

from __future__ import annotations

import asyncio

import pytest

from phoenix.errors import FlowInvalid
from phoenix.flow import Hooks, InMemoryCache, cached, fallback, map_over, step
from phoenix.flow.hooks import StepFailed, StepFinished
from tests.unit.flow.steps import Draft, double, inc


async def test_the_same_input_is_done_once() -> None:
    """A model comes back as a model, and the event says where it came from."""
    ran: list[str] = []
    seen: list[bool] = []

    @step
    async def write(text: str) -> Draft:
        ran.append(text)
        return Draft(text=text)

    async def note(event: StepFinished | StepFailed) -> None:
        if isinstance(event, StepFinished):
            seen.append(event.cached)

    flow = cached(write)
    results = [await flow.run(t, hooks=Hooks(post_step=(note,))) for t in ("a", "a", "b")]
    assert results == [Draft(text="a"), Draft(text="a"), Draft(text="b")]
    assert ran == ["a", "b"]
    assert seen == [False, True, False]


async def test_only_successes_are_kept() -> None:
    """A failure is tried anew."""
    ran: list[int] = []

    @step
    async def flaky(x: int) -> int:
        ran.append(x)
        if len(ran) == 1:
            raise ValueError
        return x

    flow = cached(flaky)
    with pytest.raises(ValueError):
        await flow.run(1)
    assert [await flow.run(1), await flow.run(1)] == [1, 1]
    assert len(ran) == 2


async def test_concurrent_callers_share_one_execution() -> None:
    """Ten items with one input do the work once."""
    ran: list[int] = []

    @step
    async def slow(x: int) -> int:
        ran.append(x)
        await asyncio.sleep(0.01)
        return x

    assert await map_over(cached(slow), concurrency=10).run([7] * 10) == [7] * 10
    assert ran == [7]


async def test_a_cache_may_be_shared_and_versioned() -> None:
    """Another version of a step does not read the old outputs."""
    store, ran = InMemoryCache(), []

    @step
    async def work(x: int) -> int:
        ran.append(x)
        return x

    for version in ("1", "1", "2"):
        await cached(work, cache=store, version=version).run(1)
    assert len(ran) == 2


async def test_an_entry_of_another_type_is_made_again() -> None:
    """An old release's entry never breaks a run."""
    store = InMemoryCache()
    flow = cached(inc, cache=store)
    await flow.run(1)
    (key,) = store._entries
    await store.put(key, b'"old"')
    assert await flow.run(1) == 2


async def test_the_oldest_entries_go_first() -> None:
    """Memory is bounded."""
    store = InMemoryCache(max_entries=2)
    for n in range(3):
        await store.put(str(n), b"1")
    assert [await store.get(str(n)) for n in range(3)] == [None, b"1", b"1"]


async def test_a_cached_step_may_have_a_fallback() -> None:
    """Constructs combine."""

    @step
    async def broken(x: int) -> int:
        raise ValueError

    assert await fallback(cached(broken), double).run(4) == 8


def test_a_pipeline_is_not_cached_as_a_whole() -> None:
    """Its steps are."""
    with pytest.raises(FlowInvalid):
        cached(inc >> double)  # type: ignore[arg-type]
