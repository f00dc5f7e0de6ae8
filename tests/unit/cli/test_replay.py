"""Playing back a project: which events, in which words, with which pauses."""

from __future__ import annotations

import pytest

from phoenix.cli.replay import Excerpt, moments, paced
from phoenix.errors import InputError
from tests.unit.cli.event_feed import Feed


def feed() -> Feed:
    """Return a project of four events, a second apart."""
    made = Feed()
    made.add("model_called", input_tokens=1)
    made.add("step_finished", step="specify", seconds=2)
    made.add("tests_sealed", tests=5, red=4)
    made.add("task_merged", task="T1", commit="abcdef0123")
    return made


def told(**wanted: object) -> list[tuple[float, str]]:
    """Return when and what is played back."""
    return [(m.seconds, m.sentence) for m in moments(feed().events, Excerpt(**wanted))]  # type: ignore[arg-type]


def test_it_is_told_in_sentences_with_times() -> None:
    """Times count from the first event, also where that one says nothing."""
    assert told() == [
        (1.0, "specify done (2.0 s)"),
        (2.0, "5 acceptance tests sealed, 4 of them red"),
        (3.0, "T1 merged as abcdef01"),
    ]


def test_filters_take_what_they_name() -> None:
    """Both ends of a time are included; a kind is taken although it says nothing."""
    assert [at for at, _ in told(since_seconds=2.0)] == [2.0, 3.0]
    assert [at for at, _ in told(until_seconds=2.0)] == [1.0, 2.0]
    assert told(kinds=frozenset({"model_called"})) == [(0.0, "model_called")]
    assert [at for at, _ in told(everything=True)] == [0.0, 1.0, 2.0, 3.0]


def test_a_kind_that_never_was_is_refused() -> None:
    """A typo does not look like a project in which nothing happened."""
    with pytest.raises(InputError, match="step_finnished") as refused:
        told(kinds=frozenset({"step_finnished"}))
    assert "step_finished" in refused.value.hint


@pytest.mark.parametrize(("speed", "pauses"), [(0.0, []), (4.0, [0.25, 0.25]), (0.1, [5.0, 5.0])])
async def test_pauses_are_those_that_were(speed: float, pauses: list[float]) -> None:
    """As fast as wanted, and never longer than five seconds."""
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    found = moments(feed().events, Excerpt())
    assert [m async for m in paced(found, speed, sleep)] == found
    assert slept == pauses
