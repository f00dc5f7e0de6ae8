"""The real OpenAI client against a real server: answers, tool calls, and every fault."""

from __future__ import annotations

import time
import traceback
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.tools import tool

from phoenix.errors import (
    ModelError,
    ModelRateLimited,
    ModelRefusedKey,
    ModelRejected,
    ModelTimeout,
    ModelUnavailable,
    ModelUnknown,
)
from phoenix.llm.patience import Patience
from phoenix.llm.providers import ProviderModel
from phoenix.llm.usage import MemoryUsage
from phoenix.ports import Caller
from tests.unit.llm.rig import KEY, Heard, Open
from tests.unit.llm.server import Reply, Server, error

CODER = Caller("coding", "T1")


@tool
def double(number: int) -> int:
    """Double a number."""
    return 2 * number


async def test_an_answer_arrives_and_is_counted(
    server: Server, provider: ProviderModel, open_over: Open, usage: MemoryUsage, events: Heard
) -> None:
    """Text, tokens and caller reach the answer, the usage log and the event; an unknown price is None."""
    server.replies = [Reply("hello", usage=(7, 3))]
    answer = await open_over(provider).chat(CODER).ainvoke("hi")
    assert answer.text == "hello"
    call = usage.calls[0]
    assert (call.agent, call.task, call.input_tokens, call.output_tokens) == ("coding", "T1", 7, 3)
    assert call.cost_usd is None
    assert events.of("model_called")[0]["model"] == "openai:test"


async def test_an_agent_calls_tools_through_the_gateway(
    server: Server, provider: ProviderModel, open_over: Open
) -> None:
    """`create_agent` binds tools, runs the call and sends the result back."""
    server.replies = [Reply(calls=[("double", '{"number": 21}')]), Reply("It is 42.")]
    agent = create_agent(open_over(provider).chat(CODER), [double])
    state = await agent.ainvoke({"messages": [("user", "double 21")]})
    assert state["messages"][-1].text == "It is 42."
    assert server.requests[0]["tools"][0]["function"]["name"] == "double"
    assert server.requests[1]["messages"][-1] == {"role": "tool", "content": "42", "tool_call_id": "call_0"}


async def test_a_refused_key_fails_at_once_and_stays_secret(
    server: Server, provider: ProviderModel, open_over: Open, events: Heard
) -> None:
    """401 is not retried, and an error that quotes the key does not leak it."""
    server.replies = [error(401, f"Incorrect API key provided: {KEY}")]
    with pytest.raises(ModelRefusedKey) as caught:
        await open_over(provider).chat(CODER).ainvoke("hi")
    assert len(server.requests) == 1
    assert KEY not in "".join(traceback.format_exception(caught.value)) + str(events.all)


@pytest.mark.parametrize(
    "fault",
    [
        error(429, retry_after="0"),
        error(500),
        error(529),
        Reply(body={"object": "chat.completion", "choices": []}),
        Reply(body={"object": "chat.completion", "choices": None}),
        Reply(body={"error": {"message": "upstream broke"}}),
        Reply(body="<html>bad gateway</html>"),
        Reply("half an ans", finish="length"),
        Reply("cut in the middle", cut=60),
        Reply(""),
        Reply(calls=[("double", '{"number": 2')]),
    ],
    ids=[
        "429",
        "500",
        "529",
        "no choices",
        "null choices",
        "error body",
        "html",
        "length",
        "cut",
        "empty",
        "arguments",
    ],
)
async def test_a_passing_fault_is_retried(
    fault: Reply, server: Server, provider: ProviderModel, open_over: Open, events: Heard
) -> None:
    """One fault costs one retry, which is told."""
    server.replies = [Reply("first"), fault, Reply("done")]
    chat = open_over(provider).chat(CODER)
    await chat.ainvoke("hello")
    answer = await chat.ainvoke("hi")
    assert answer.text == "done"
    assert len(server.requests) == 3
    assert len(events.of("model_retried")) == 1


@pytest.mark.parametrize(
    ("fault", "expected", "attempts"),
    [
        (error(429), ModelRateLimited, 6),
        (error(503, "it burns"), ModelUnavailable, 5),
        (Reply("", finish="length"), ModelUnavailable, 6),
    ],
    ids=["429", "503", "length"],
)
async def test_a_lasting_fault_ends_after_six_attempts(
    fault: Reply,
    expected: type[ModelError],
    attempts: int,
    server: Server,
    provider: ProviderModel,
    open_over: Open,
) -> None:
    """The last failure is what the caller sees, also where a broken provider is then left alone."""
    server.replies = [fault]
    with pytest.raises(expected) as caught:
        await open_over(provider).chat(CODER).ainvoke("hi")
    assert len(server.requests) == attempts
    assert "left alone" not in str(caught.value)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (error(400, "maximum context length is 8192", "context_length_exceeded"), ModelError),
        (error(400, "violates our content_policy"), ModelError),
        (error(400, "unknown parameter"), ModelRejected),
        (error(404, "no such model"), ModelUnknown),
        (error(429, "quota", "insufficient_quota"), ModelRateLimited),
        (Reply("", finish="content_filter"), ModelError),
        (Reply(None, refusal="I cannot help with that."), ModelError),
    ],
    ids=["context", "policy", "400", "404", "quota", "filter", "refusal"],
)
async def test_what_would_fail_again_is_not_retried(
    fault: Reply, expected: type[Exception], server: Server, provider: ProviderModel, open_over: Open
) -> None:
    """Requests that are wrong in themselves fail on the first attempt."""
    server.replies = [fault]
    with pytest.raises(expected):
        await open_over(provider).chat(CODER).ainvoke("hi")
    assert len(server.requests) == 1


async def test_retry_after_is_honoured(server: Server, provider: ProviderModel, open_over: Open) -> None:
    """The next attempt waits as long as the provider asks."""
    server.replies = [error(429, retry_after="0.3"), Reply("done")]
    started = time.monotonic()
    await open_over(provider).chat(CODER).ainvoke("hi")
    assert time.monotonic() - started >= 0.3


async def test_a_wait_beyond_the_deadline_fails_at_once(
    server: Server, provider: ProviderModel, open_over: Open
) -> None:
    """Nobody waits an hour to fail then."""
    server.replies = [error(429, retry_after="3600")]
    with pytest.raises(ModelRateLimited):
        await open_over(provider).chat(CODER).ainvoke("hi")
    assert len(server.requests) == 1


async def test_a_hanging_model_ends_at_the_deadline(
    server: Server, provider: ProviderModel, open_over: Open
) -> None:
    """The deadline spans all attempts."""
    server.replies = [Reply(hang=True)]
    with pytest.raises(ModelTimeout, match="did not answer within"):
        await open_over(provider, patience=Patience(deadline_seconds=0.3)).chat(CODER).ainvoke("hi")


async def test_almost_json_arguments_are_mended(
    server: Server, provider: ProviderModel, open_over: Open
) -> None:
    """A raw line break and a trailing comma in a tool call cost no further call."""
    server.replies = [Reply(calls=[("write", '{"text": "a\nb",}')])]
    answer: Any = await open_over(provider).chat(CODER).ainvoke("hi")
    assert answer.tool_calls[0]["args"] == {"text": "a\nb"}


async def test_output_is_cleaned_of_what_cannot_be_stored(
    server: Server, provider: ProviderModel, open_over: Open
) -> None:
    """NUL and lone surrogates leave no trace in text or arguments."""
    server.replies = [Reply("a\x00b\ud800", calls=[("write", '{"text": "x\\u0000y\\ud800"}')])]
    answer: Any = await open_over(provider).chat(CODER).ainvoke("hi")
    stored = answer.model_dump_json()
    assert "\\u0000" not in stored
    answer.text.encode()
    answer.tool_calls[0]["args"]["text"].encode()
