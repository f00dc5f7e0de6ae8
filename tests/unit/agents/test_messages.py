"""Messages that are kept as deltas merge as agents expect, in whatever batches."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, RemoveMessage
from langgraph.channels import DeltaChannel
from langgraph.graph.message import REMOVE_ALL_MESSAGES, add_messages

from phoenix.agents.messages import merge_messages
from phoenix.agents.middleware import CodingState, OneWriter

message = st.builds(AIMessage, st.text("xyz", max_size=2), id=st.sampled_from("abcd"))
write = st.lists(message | st.just(RemoveMessage(id=REMOVE_ALL_MESSAGES)), max_size=3) | message


@given(st.lists(write, max_size=5), st.lists(write, max_size=5))
def test_batches_do_not_matter(first: list[Any], second: list[Any]) -> None:
    """Merging in two steps gives the same as in one: a replay is as good as the run."""
    assert merge_messages(merge_messages([], first), second) == merge_messages([], first + second)


@given(st.lists(st.lists(message, max_size=3), max_size=4))
def test_it_merges_as_langgraph_does(writes: list[list[Any]]) -> None:
    """One write after the other, messages are what `add_messages` makes of them."""
    expected: Any = []
    for one in writes:
        expected = add_messages(expected, one)
    assert merge_messages([], writes) == expected


def test_removing_and_replacing() -> None:
    """A known message is replaced in its place, a removed one is gone, a removed one that returns is last."""
    a, b, again = HumanMessage("a", id="a"), AIMessage("b", id="b"), AIMessage("again", id="a")
    assert merge_messages([a, b], [again]) == [again, b]
    assert merge_messages([a, b], [[RemoveMessage(id="a"), again]]) == [b, again]
    assert merge_messages([a, b], [[RemoveMessage(id=REMOVE_ALL_MESSAGES), again]]) == [again]
    assert merge_messages([], [AIMessageChunk("c", id="c")]) == [AIMessage("c", id="c")]
    with pytest.raises(ValueError, match="'gone'"):
        merge_messages([a], [RemoveMessage(id="gone")])


def test_a_coding_agents_messages_are_deltas() -> None:
    """Its state's channel wins over those of LangChain's own middleware."""
    agent = create_agent(
        GenericFakeChatModel(messages=iter([])), [], middleware=[OneWriter()], state_schema=CodingState
    )
    assert isinstance(agent.channels["messages"], DeltaChannel)
