"""What is cut out of a conversation that is too long, and what is not."""

from __future__ import annotations

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from phoenix.llm.compaction import compact


def conversation(*lengths: int) -> list[BaseMessage]:
    """Return a conversation with a result of each length."""
    messages: list[BaseMessage] = [HumanMessage("x" * 9000)]
    for number, length in enumerate(lengths):
        call = {"name": "look", "args": {}, "id": f"c{number}"}
        messages += [AIMessage("", tool_calls=[call]), ToolMessage("y" * length, tool_call_id=f"c{number}")]
    return messages


def test_a_result_that_was_not_seen_yet_is_whole() -> None:
    """Nor is what people said cut, or a result that is short as it is."""
    assert compact(conversation(9000)) is None
    assert compact(conversation(250, 9000)) is None
    found = compact(conversation(5000, 9000))
    assert found is not None
    assert [len(m.text) for m in found.messages[-1:]] == [9000]
    assert (found.results, found.characters) == (1, 4800)


def test_every_call_keeps_its_result() -> None:
    """Providers refuse a conversation in which one is missing; and what was given is left as it was."""
    messages = conversation(5000, 6000, 7000, 10)
    before = [m.text for m in messages]
    found = compact(messages)
    assert found is not None
    assert [(m.type, getattr(m, "tool_call_id", None)) for m in found.messages] == [
        (m.type, getattr(m, "tool_call_id", None)) for m in messages
    ]
    assert [m.text for m in messages] == before
    assert compact(messages) == found
