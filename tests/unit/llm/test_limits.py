"""Calls wait for their turn within caps, and no project waits behind another's crowd."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage

from phoenix.errors import ModelTimeout
from phoenix.llm.calls import ModelAnswer, ModelRequest
from phoenix.llm.failures import CallFailed
from phoenix.llm.limits import Limits, RateCaps, open_caps
from phoenix.llm.models import ProjectModels
from phoenix.llm.traffic import Passage, Traffic
from phoenix.llm.turns import Line, Turns
from phoenix.llm.usage import MemoryUsage
from phoenix.ports import Caller
from tests.redis_server import running_redis
from tests.unit.llm.candidates import Chain, Failing
from tests.unit.llm.rig import SWIFT, Heard

NAME = "openai:test"
CODER = Caller("coding")


async def let_through(caps: RateCaps, limits: Limits, *, tokens: int, among: int) -> int:
    """Return how many of so many calls are let through at once."""
    tasks = [asyncio.create_task(caps.wait(NAME, limits, tokens)) for _ in range(among)]
    done, waiting = await asyncio.wait(tasks, timeout=0.2)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    return len(done)


@pytest.mark.parametrize(
    ("limits", "tokens", "through"),
    [
        (Limits(requests_per_minute=3), 1000, 3),
        (Limits(tokens_per_minute=1000), 300, 3),
        (Limits(requests_per_minute=5, tokens_per_minute=1000), 400, 2),
        (Limits(tokens_per_minute=1000), 5000, 1),
    ],
    ids=["requests", "tokens", "the tighter", "larger than the cap"],
)
async def test_so_many_calls_go_through_and_the_rest_wait(limits: Limits, tokens: int, through: int) -> None:
    """None fails."""
    assert await let_through(RateCaps(), limits, tokens=tokens, among=8) == through


async def test_who_waited_goes_on_when_the_window_has_moved() -> None:
    """A wait ends by itself."""
    caps = RateCaps(window_seconds=1)
    limits = Limits(requests_per_minute=2)
    async with asyncio.timeout(10):
        for _ in range(4):
            await caps.wait(NAME, limits, 1)


async def test_what_an_answer_took_in_truth_is_counted_with_the_next_call() -> None:
    """An estimate that was too small is made good; one that was too large, too."""
    limits = Limits(tokens_per_minute=1000)
    caps = RateCaps()
    await caps.wait(NAME, limits, 100)
    caps.settle(NAME, limits, counted=100, used=800)
    assert await let_through(caps, limits, tokens=250, among=1) == 0
    caps.settle(NAME, limits, counted=800, used=100)
    assert await let_through(caps, limits, tokens=250, among=1) == 1


async def test_workers_share_caps_through_redis_and_do_without(tmp_path: Path) -> None:
    """Two of them have three calls between them; when Redis is gone each counts for itself."""
    limits = Limits(requests_per_minute=3)
    async with (
        running_redis(tmp_path) as redis,
        open_caps(redis.url) as one,
        open_caps(redis.url) as other,
    ):
        assert await let_through(one, limits, tokens=1, among=2) == 2
        assert await let_through(other, limits, tokens=1, among=2) == 1
        await redis.stop()
        assert await let_through(other, limits, tokens=1, among=4) == 3


async def served(turns: Turns, lines: list[Line]) -> list[Line]:
    """Return in which order lines that wait together get the only place."""
    order: list[Line] = []

    async def call(line: Line) -> None:
        async with turns.place(line):
            order.append(line)
            await asyncio.sleep(0)

    async with turns.place(("", "")):
        tasks = [asyncio.create_task(call(line)) for line in lines]
        await asyncio.sleep(0)
    await asyncio.gather(*tasks)
    return order


async def test_projects_take_turns() -> None:
    """The one call of a project does not wait for the fifty of another that came before it."""
    order = await served(Turns(1), [("acme", "big")] * 50 + [("acme", "small")])
    assert order.index(("acme", "small")) == 1


async def test_organisations_take_turns_before_their_projects() -> None:
    """An organisation with ten projects has no more than one with a single project."""
    crowd = [("acme", f"p{n}") for n in range(10)]
    order = await served(Turns(1), crowd * 2 + [("other", "only")] * 5)
    assert Counter(organisation for organisation, _ in order[:10]) == {"acme": 5, "other": 5}
    assert len({project for organisation, project in order if organisation == "acme"}) == 10


async def test_no_more_than_its_places_are_held_at_once() -> None:
    """Also when waiters are cancelled, before and at the moment that they are served."""
    turns, held, most = Turns(3), 0, 0

    async def call(number: int) -> None:
        nonlocal held, most
        async with turns.place(("acme", f"p{number % 4}")):
            held += 1
            most = max(most, held)
            try:
                await asyncio.sleep(0)
            finally:
                held -= 1

    tasks = [asyncio.create_task(call(number)) for number in range(40)]
    await asyncio.sleep(0)
    for task in tasks[::3]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (most, held) == (3, 0)
    last = turns.place(("acme", "last"))
    async with asyncio.timeout(1), turns.place(("acme", "x")), turns.place(("acme", "y")), last:
        assert turns.places == 3


async def test_a_place_given_to_a_waiter_that_is_cancelled_goes_on() -> None:
    """Both may happen between two looks of the loop; the place must not be lost."""
    turns = Turns(1)
    first = turns.place(("a", "1"))
    await first.__aenter__()
    waiter = asyncio.create_task(turns.place(("a", "2")).__aenter__())
    await asyncio.sleep(0)
    await first.__aexit__(None, None, None)
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    async with asyncio.timeout(1), turns.place(("a", "3")):
        assert turns.places == 1


async def test_a_turn_that_does_not_come_in_time_is_a_clear_failure() -> None:
    """It says that no turn came; another model may answer."""
    traffic, chain = Traffic(), Chain(Failing("a:1"), limits=Limits(concurrency=1))
    request = ModelRequest(CODER, [HumanMessage("hi")])
    (candidate,) = await chain.route(request)

    async def emit(kind: str, data: object) -> None:
        raise AssertionError(kind)

    def turn(seconds: float) -> AbstractAsyncContextManager[Passage]:
        return traffic.turn(candidate, ("", "p"), request, left_seconds=seconds, may_wait=True, emit=emit)

    async with turn(10):
        with pytest.raises(CallFailed, match="No turn to ask a:1 came within") as late:
            await turn(0.02).__aenter__()
    assert isinstance(late.value.error, ModelTimeout)
    assert late.value.elsewhere
    async with turn(0.02) as passage:
        assert not passage.came


async def test_a_gateway_keeps_its_models_limits() -> None:
    """Ten calls at once of two projects never make more than two requests at once."""
    traffic = Traffic()
    model = Slow("a:1")
    chain = Chain(model, limits=Limits(requests_per_minute=100, tokens_per_minute=100_000, concurrency=2))

    def project(name: str) -> ProjectModels:
        return ProjectModels(
            chain, usage=MemoryUsage(), events=Heard(), patience=SWIFT, traffic=traffic, project=name
        )

    chats = [project(f"p{n}").chat(CODER) for n in range(2)]
    await asyncio.gather(*(chats[n % 2].ainvoke("hi") for n in range(10)))
    assert (len(model.requests), model.most) == (10, 2)


class Slow(Failing):
    """Counts how many ask at once."""

    now = most = 0

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.005)
        self.now -= 1
        return await super().answer(request)
