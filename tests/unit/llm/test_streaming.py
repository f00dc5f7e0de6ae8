"""Answers that come in pieces are taken whole or not at all, by OpenAI's real client."""

from __future__ import annotations

import json

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from phoenix.domain.frozen import Frozen
from phoenix.errors import ModelTimeout, ModelUnavailable
from phoenix.llm.calls import ModelRequest, fitted
from phoenix.llm.patience import Patience
from phoenix.llm.providers import ProviderModel, open_provider
from phoenix.llm.schema import output_schema
from phoenix.llm.usage import MemoryUsage
from phoenix.ports import Caller
from phoenix.settings import Settings
from tests.unit.llm.cuts import ASK, cut_everywhere, essence
from tests.unit.llm.rig import Heard, Open
from tests.unit.llm.server import Reply, Server

CODER = Caller("coding", "T1")
SAID = "An answer that is cut everywhere."
ARGUMENTS = json.dumps({"path": "calc.py", "old": "raise {}", "new": "return [a, b]\n", "n": 12})
WHOLE = Reply(SAID, calls=[("edit_file", ARGUMENTS), ("look", "{}")], usage=(1234, 56), step=24)


class Note(Frozen):
    """A note."""

    text: str


@pytest.mark.parametrize(("breaks", "step"), [(False, 1), (True, 3)], ids=["ends", "breaks"])
async def test_a_stream_cut_at_any_byte_gives_the_whole_answer_or_none(breaks: bool, step: int) -> None:
    """Text, calls' arguments, usage and cost are all there, or the attempt has failed and may be repeated."""
    whole, outcomes = await cut_everywhere(WHOLE, breaks=breaks, step=step)
    assert whole[0] == SAID
    assert [args for _, args, _ in whole[1]] == [json.loads(ARGUMENTS), {}]
    assert not outcomes.partial
    assert not outcomes.final
    # The end of the last event, which says that no more comes, is needed by nobody.
    assert outcomes.answered <= len(WHOLE.pieces()[-1]) + 2


async def test_an_answer_is_the_same_in_pieces_and_in_one(server: Server, settings: Settings) -> None:
    """Nothing that is sent back to the model, or counted, depends on how an answer came."""
    server.replies = [WHOLE]
    streamed = await open_provider(settings, "openai:test").answer(ASK)
    server.streams = False
    plain = await open_provider(settings, "openai:test").answer(ASK)
    assert "stream" in server.requests[0]
    one, other = essence(streamed), essence(plain)
    assert one[:3] == other[:3]
    for name in ("input_tokens", "output_tokens", "total_tokens"):
        assert one[3][name] == other[3][name]
    assert (streamed.finish, plain.finish) == ("tool_calls", "tool_calls")


async def test_a_server_that_does_not_stream_is_found_out_once(
    server: Server, provider: ProviderModel, open_over: Open, usage: MemoryUsage
) -> None:
    """Two answers are asked for again in one piece; from then on all are; each request is counted once."""
    server.streams, server.replies = False, [Reply("one", usage=(7, 3))]
    chat = open_over(provider).chat(CODER)
    for _ in range(4):
        assert (await chat.ainvoke("hi")).text == "one"
    assert [bool(r.get("stream")) for r in server.requests] == [True, False, True, False, False, False]
    whole = [(c.input_tokens, c.output_tokens) for c in usage.calls if not c.broken]
    assert whole == [(7, 3)] * 4
    assert [c.broken for c in usage.calls] == [True, False, True, False, False, False]


async def test_a_server_that_refuses_streams_is_asked_plainly(
    server: Server, provider: ProviderModel, open_over: Open
) -> None:
    """The refusal names the parameter, so that one is enough."""
    refused = Reply(status=400, body={"error": {"message": "stream_options is not supported"}})
    server.choose = lambda asked: refused if asked.get("stream") else Reply("one")
    chat = open_over(provider).chat(CODER)
    await chat.ainvoke("hi")
    await chat.ainvoke("hi")
    assert [bool(r.get("stream")) for r in server.requests] == [True, False, False]


@pytest.mark.parametrize("stalls", [0, 3], ids=["before the first piece", "within"])
async def test_a_silent_stream_ends_long_before_the_deadline(
    stalls: int, server: Server, settings: Settings, open_over: Open, events: Heard
) -> None:
    """The attempt ends when nothing came for too long, and the next one answers."""
    patience = Patience(deadline_seconds=30, idle_seconds=0.2, first_wait_seconds=0.01)
    provider = open_provider(settings, "openai:test", patience=patience)
    server.replies = [Reply(SAID, stalls=stalls), Reply("done")]
    answer = await open_over(provider, patience=patience).chat(CODER).ainvoke("hi")
    assert answer.text == "done"
    (retried,) = events.of("model_retried")
    assert retried["reason"] == ModelTimeout().code
    assert "nothing came for 0.2 s" in retried["message"]


async def test_a_dripping_stream_ends_at_the_deadline_of_an_answer(
    server: Server, settings: Settings, open_over: Open, events: Heard
) -> None:
    """Pieces that never end do not count as progress for ever."""
    patience = Patience(deadline_seconds=30, answer_seconds=0.5, idle_seconds=0.3, first_wait_seconds=0.01)
    provider = open_provider(settings, "openai:test", patience=patience)
    server.replies = [Reply(SAID * 20, drip_seconds=0.02), Reply("done")]
    answer = await open_over(provider, patience=patience).chat(CODER).ainvoke("hi")
    assert answer.text == "done"
    assert "did not answer within 0.5 s" in events.of("model_retried")[0]["message"]


async def test_running_totals_of_usage_are_not_added(provider: ProviderModel, server: Server) -> None:
    """Some servers send the usage so far with each piece: the last one is the answer's."""
    pieces = Reply("hello", usage=(100, 20)).pieces()
    chunk = json.loads(pieces[1].removeprefix(b"data: "))
    chunk["usage"] = {"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101}
    server.replies = [
        Reply(raw=b"".join([pieces[0], b"data: " + json.dumps(chunk).encode(), b"\n\n", *pieces[2:]]))
    ]
    usage = (await provider.answer(ASK)).message.usage_metadata
    assert usage is not None
    assert (usage["input_tokens"], usage["output_tokens"]) == (100, 20)


async def test_a_stream_without_usage_is_asked_for_in_one_piece(
    provider: ProviderModel, server: Server
) -> None:
    """What cannot be counted is not used: cost would be unknown."""
    without = b"".join(piece for piece in Reply("hello").pieces() if b'"usage"' not in piece)
    server.choose = lambda asked: Reply(raw=without) if asked.get("stream") else Reply("counted")
    answer = await provider.answer(ASK)
    assert answer.message.text == "counted"
    assert answer.message.usage_metadata is not None


@pytest.mark.parametrize(
    ("reply", "said", "finish"),
    [
        (Reply('{"text": "hello"}', usage=(70, 5)), '{"text": "hello"}', "stop"),
        (Reply('{"text": "hel', finish="length", usage=(70, 5)), '{"text": "hel', "length"),
    ],
    ids=["whole", "at the output limit"],
)
async def test_the_schema_mode_streams_and_counts(
    reply: Reply, said: str, finish: str, provider: ProviderModel, server: Server
) -> None:
    """OpenAI's own parser of typed answers is in the way there; an answer that it refuses was paid too."""
    server.replies = [reply]
    shape = output_schema(Note)
    asked = ModelRequest(CODER, [HumanMessage("hi")], tools=[shape.as_tool()], shape=shape, tier="schema")
    answer = await provider.answer(fitted(asked, provider))
    assert server.requests[0]["stream"]
    assert server.requests[0]["response_format"]["type"] == "json_schema"
    assert (answer.message.text, answer.finish) == (said, finish)
    usage = answer.message.usage_metadata
    assert usage is not None
    assert (usage["input_tokens"], usage["output_tokens"]) == (70, 5)


async def test_a_refusal_is_read_from_a_stream(provider: ProviderModel, server: Server) -> None:
    """LangChain leaves it out of streams; without it the answer would look empty and be asked for again."""
    server.replies = [Reply(None, refusal="I cannot help with that.")]
    answer = await provider.answer(ASK)
    assert answer.message.additional_kwargs["refusal"] == "I cannot help with that."


async def test_a_lasting_cut_fails_with_a_reason(
    server: Server, provider: ProviderModel, open_over: Open, usage: MemoryUsage
) -> None:
    """Half an answer is never the answer; nothing of it is kept, and what it may have cost is counted."""
    server.replies = [WHOLE, Reply(SAID, cut=300)]
    chat = open_over(provider).chat(CODER)
    first = await chat.ainvoke("hi")
    assert isinstance(first, AIMessage)
    with pytest.raises(ModelUnavailable, match="broke off"):
        await chat.ainvoke("hi")
    assert [c.broken for c in usage.calls] == [False] + [True] * (len(server.requests) - 1)
