"""What callers want at the same time goes together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from phoenix.storage.direct import Together


class Sent:
    """Notes what is sent, and answers when it is let."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gates: list[asyncio.Event] = []

    async def __call__(self, items: list[int]) -> Sequence[int | Exception]:
        gate = asyncio.Event()
        self.batches.append(items)
        self.gates.append(gate)
        await gate.wait()
        return [ValueError(n) if n < 0 else n * 10 for n in items]

    async def until(self, batches: int) -> None:
        """Wait until so many batches are under way or done."""
        while len(self.batches) < batches:
            await asyncio.sleep(0)

    def open(self) -> None:
        """Let all that wait be answered."""
        for gate in self.gates:
            gate.set()


@pytest.mark.parametrize("at_once", [1, 2])
async def test_no_more_batches_are_under_way_than_allowed_and_none_is_lost(at_once: int) -> None:
    """What comes while all are under way goes with the next."""
    sent = Sent()
    together = Together(sent, at_once=at_once)
    callers = []
    for n in range(6):
        callers.append(asyncio.ensure_future(together(n)))
        for _ in range(4):
            await asyncio.sleep(0)
    first = [[n] for n in range(at_once)]
    assert sent.batches == first
    for batches in range(at_once + 1, 4 * at_once):
        sent.open()
        if all(caller.done() for caller in callers):
            break
        await asyncio.wait(callers, timeout=0.01)
        assert len(sent.batches) <= batches
    sent.open()
    assert await asyncio.gather(*callers) == [n * 10 for n in range(6)]
    assert sent.batches[at_once] == list(range(at_once, 6))
    # It serves whoever comes when everything is done.
    late = asyncio.ensure_future(together(7))
    await sent.until(len(sent.batches) + 1)
    sent.open()
    assert await late == 70


async def test_an_error_is_its_callers_alone() -> None:
    """The others get their answers."""
    sent = Sent()
    together = Together(sent)
    callers = [asyncio.ensure_future(together(n)) for n in (1, -2, 3)]
    await sent.until(1)
    sent.open()
    answers = await asyncio.gather(*callers, return_exceptions=True)
    assert answers[::2] == [10, 30]
    assert isinstance(answers[1], ValueError)
