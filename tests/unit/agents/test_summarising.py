"""Where a long conversation is cut, and what its summary is made from."""

from __future__ import annotations

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from phoenix.agents.summarising import CLEAR_AT, RESULT_CHARS, SUMMARISE_AT, as_text, cut_of, sizes_for


def turn(number: int, characters: int) -> list[BaseMessage]:
    """Return two calls with results of so many characters together."""
    calls = [{"name": "read_file", "args": {"path": f"{number}{n}.py"}, "id": f"{number}{n}"} for n in "ab"]
    results = [ToolMessage("x" * (characters // 2), tool_call_id=c["id"], name="read_file") for c in calls]
    return [AIMessage("", tool_calls=calls), *results]


@pytest.mark.parametrize(
    ("kept", "cut"),
    [
        pytest.param(1, 7, id="one turn at least"),
        pytest.param(1800, 7, id="whole turns only"),
        pytest.param(2400, 4, id="two turns"),
        pytest.param(99_999, 1, id="never the task"),
    ],
)
def test_the_latest_turns_are_kept_whole(kept: int, cut: int) -> None:
    """No call is parted from its results."""
    messages: list[BaseMessage] = [HumanMessage("The task."), *turn(1, 4000), *turn(2, 4000), *turn(3, 4000)]
    assert cut_of(messages, kept) == cut


def test_sizes_follow_the_window() -> None:
    """A small window is never filled; a large one changes nothing."""
    small = sizes_for(10_000)
    assert small.kept < small.clear_at < small.summarise_at <= 6000
    assert sizes_for(1_000_000) == sizes_for(None)
    assert (sizes_for(None).summarise_at, sizes_for(None).clear_at) == (SUMMARISE_AT, CLEAR_AT)


def test_results_are_shown_with_what_was_asked() -> None:
    """Several files read in one turn can be told apart; a long one is cut."""
    messages = turn(1, 20_000)
    first, second = [as_text(m, messages) for m in messages[1:]]
    assert first.startswith("Result of read_file 1a.py\nxxx")
    assert second.startswith("Result of read_file 1b.py\nxxx")
    assert len(first) < RESULT_CHARS + 100
    assert as_text(messages[0], messages).count("Called read_file:") == 2
