"""Anthropic's real client over its own shape of stream."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, ToolMessage

from phoenix.errors import ModelRefusedKey
from phoenix.llm.calls import ModelRequest, fitted
from phoenix.llm.failures import CallFailed
from phoenix.llm.providers import ProviderModel
from phoenix.ports import Caller
from tests.unit.llm.rig import Open
from tests.unit.llm.server import Reply, Server, error

CODER = Caller("coding", "T1")
LOOK = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look.",
        "parameters": {"type": "object", "properties": {"where": {"type": "string"}}},
    },
}
ASK = ModelRequest(CODER, [HumanMessage("hi")], tools=[LOOK])
ARGUMENTS = json.dumps({"where": "the {attic}", "why": ["a", "b"]})


def events(
    text: str, arguments: str, *, usage: tuple[int, int] = (1200, 34), cached: int = 0, put: int = 0
) -> list[bytes]:
    """Return the events of an answer with text and one call.

    Of the input `cached` tokens were in the provider's cache, and `put` were put there for five minutes.
    """
    read, written = usage
    given: dict[str, Any] = {"input_tokens": read - cached - put}
    if cached or put:
        given |= {"cache_read_input_tokens": cached, "cache_creation_input_tokens": put}
        given["cache_creation"] = {"ephemeral_5m_input_tokens": put, "ephemeral_1h_input_tokens": 0}
    began = given | {"output_tokens": 1}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": []}
    message |= {"stop_reason": None, "stop_sequence": None, "usage": began}
    data: list[dict[str, Any]] = [{"type": "message_start", "message": message}]
    data.append({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
    for at in range(0, len(text), 9):
        delta = {"type": "text_delta", "text": text[at : at + 9]}
        data.append({"type": "content_block_delta", "index": 0, "delta": delta})
    data.append({"type": "content_block_stop", "index": 0})
    block = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
    data.append({"type": "content_block_start", "index": 1, "content_block": block})
    for at in range(0, len(arguments), 9):
        part = {"type": "input_json_delta", "partial_json": arguments[at : at + 9]}
        data.append({"type": "content_block_delta", "index": 1, "delta": part})
    data.append({"type": "content_block_stop", "index": 1})
    ended = {"stop_reason": "tool_use", "stop_sequence": None}
    counted = given | {"output_tokens": written}
    data.append({"type": "message_delta", "delta": ended, "usage": counted})
    data.append({"type": "message_stop"})
    return [f"event: {d['type']}\ndata: {json.dumps(d)}\n\n".encode() for d in data]


@pytest.fixture
def claude(server: Server) -> ProviderModel:
    """The real client, pointed at the server."""
    chat = ChatAnthropic(
        model_name="claude-sonnet-4-6", api_key="k", base_url=server.url, max_retries=0, timeout=30, stop=None
    )
    return ProviderModel("anthropic:claude-sonnet-4-6", chat, secret="k-secret")


async def test_text_call_usage_and_cost_come_whole(server: Server, claude: ProviderModel) -> None:
    """And what is sent back to it with the call's result is what it said."""
    server.replies = [Reply(raw=b"".join(events("I look there.", ARGUMENTS)))]
    answer = await claude.answer(fitted(ASK, claude))
    message = answer.message
    assert message.text == "I look there."
    assert [(c["name"], c["args"], c["id"]) for c in message.tool_calls] == [
        ("look", json.loads(ARGUMENTS), "toolu_1")
    ]
    block = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": json.loads(ARGUMENTS)}
    content: Any = message.content[1]
    assert {name: content.get(name) for name in (*block, "partial_json")} == {**block, "partial_json": None}
    usage = message.usage_metadata
    assert usage is not None
    assert (usage["input_tokens"], usage["output_tokens"], answer.finish) == (1200, 34, "tool_use")
    assert str(answer.cost_usd) == "0.00411"  # 1200 at 3 USD and 34 at 15 USD a million
    back = [*ASK.messages, message, ToolMessage("dust", tool_call_id="toolu_1")]
    await claude.answer(fitted(ModelRequest(CODER, back, tools=[LOOK]), claude))
    said = server.requests[1]["messages"][1]["content"]
    assert said[0] == {"type": "text", "text": "I look there."}
    assert said[1] == block


async def test_a_stream_cut_after_any_event_gives_the_whole_answer_or_none(
    server: Server, claude: ProviderModel
) -> None:
    """Between the end of the arguments and the reason for the end as well; and within each event."""
    pieces = events("I look there.", ARGUMENTS)
    server.replies = [Reply(raw=b"".join(pieces))]
    whole = (await claude.answer(fitted(ASK, claude))).message
    places = [sum(len(p) for p in pieces[:n]) + extra for n in range(len(pieces)) for extra in (0, 40)]
    taken = []
    for cut in places:
        server.replies = [Reply(raw=b"".join(pieces)[:cut])]
        try:
            found = (await claude.answer(fitted(ASK, claude))).message
        except CallFailed as failure:
            taken.append(failure.again)
            continue
        assert (found.content, found.tool_calls) == (whole.content, whole.tool_calls), cut
        assert found.usage_metadata == whole.usage_metadata, cut
    # Only without the very last event, or with half of it, is the answer there.
    assert taken == [True] * (len(places) - 2)


@pytest.mark.parametrize(
    ("fault", "calls"),
    [(error(529), 2), (error(429, retry_after="0"), 2), (error(401), 1)],
    ids=["529", "429", "401"],
)
async def test_its_errors_are_the_same_as_others(
    fault: Reply, calls: int, server: Server, claude: ProviderModel, open_over: Open
) -> None:
    """Overloaded and rate limited are tried again, a refused key is not."""
    server.replies = [fault, Reply(raw=b"".join(events("Done.", "")))]
    chat = open_over(claude).chat(CODER).bind_tools([LOOK])
    if calls == 1:
        with pytest.raises(ModelRefusedKey):
            await chat.ainvoke("hi")
    else:
        assert (await chat.ainvoke("hi")).text == "Done."
    assert len(server.requests) == calls


async def test_an_error_within_a_stream_is_tried_again(
    server: Server, claude: ProviderModel, open_over: Open
) -> None:
    """Anthropic says so in an event when it is overloaded while it answers."""
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    pieces = events("I look there.", ARGUMENTS)[:5]
    pieces.append(f"event: error\ndata: {json.dumps(overloaded)}\n\n".encode())
    server.replies = [Reply(raw=b"".join(pieces)), Reply(raw=b"".join(events("Done.", "")))]
    assert (await open_over(claude).chat(CODER).bind_tools([LOOK]).ainvoke("hi")).text == "Done."
