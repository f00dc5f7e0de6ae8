"""OpenAI's real client over the Responses API's own shape of stream."""

from __future__ import annotations

import json

import pytest
from langchain_core.messages import HumanMessage

from phoenix.llm.calls import ModelRequest, fitted
from phoenix.llm.failures import CallFailed
from phoenix.llm.openai_chat import RefusingChatOpenAI
from phoenix.llm.prices import Prices
from phoenix.llm.providers import ProviderModel
from tests.unit.llm.responses_events import responses_events
from tests.unit.llm.server import Reply, Server
from tests.unit.llm.test_anthropic_stream import ASK, CODER
from tests.unit.llm.test_prices import OWN

ARGUMENTS = json.dumps({"where": "the {attic}"})


@pytest.fixture
def responding(server: Server) -> ProviderModel:
    """The real client, asking the Responses API of the server."""
    chat = RefusingChatOpenAI(
        model="test",
        api_key="k",
        base_url=f"{server.url}/v1",
        use_responses_api=True,
        max_retries=0,
        stream_usage=True,
        stream_chunk_timeout=None,
    )
    return ProviderModel("openai:test", chat, prices=Prices({"openai:test": OWN}))


async def test_text_call_usage_and_cost_come_whole(server: Server, responding: ProviderModel) -> None:
    """The input that was in the cache is counted at its own price."""
    pieces = responses_events("I look there.", call=("look", ARGUMENTS), usage=(1000, 50), cached=600)
    server.replies = [Reply(raw=b"".join(pieces))]
    answer = await responding.answer(fitted(ASK, responding))
    assert answer.message.text == "I look there."
    assert [(c["name"], c["args"], c["id"]) for c in answer.message.tool_calls] == [
        ("look", json.loads(ARGUMENTS), "call_1")
    ]
    assert str(answer.cost_usd) == "0.0015"  # 400 at 2, 600 at 0.5 and 50 at 8 USD a million
    assert answer.finish == "completed"
    assert [r["stream"] for r in server.requests] == [True]


async def test_a_stream_cut_within_or_after_any_event_gives_the_whole_answer_or_none(
    server: Server, responding: ProviderModel
) -> None:
    """Only the last event says that the answer is over, so before it there is none."""
    pieces = responses_events("I look there.", call=("look", ARGUMENTS))
    data = b"".join(pieces)
    server.replies = [Reply(raw=data)]
    whole = (await responding.answer(fitted(ASK, responding))).message
    places = [sum(map(len, pieces[:n])) + extra for n in range(len(pieces)) for extra in (0, 40)]
    for cut in places:
        server.replies = [Reply(raw=data[:cut])]
        with pytest.raises(CallFailed) as failed:
            await responding.answer(fitted(ASK, responding))
        assert failed.value.again, cut
        assert failed.value.billed is not None, cut
    server.replies = [Reply(raw=data)]
    again = (await responding.answer(fitted(ASK, responding))).message
    assert (again.content, again.tool_calls) == (whole.content, whole.tool_calls)


async def test_an_answer_that_ends_at_its_limit_says_so(server: Server, responding: ProviderModel) -> None:
    """The event is another one than that of a whole answer."""
    *pieces, last = responses_events("half an ans")
    ended = json.loads(last.split(b"data: ")[1])
    ended["type"] = "response.incomplete"
    ended["response"] |= {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    last = f"event: response.incomplete\ndata: {json.dumps(ended)}\n\n".encode()
    server.replies = [Reply(raw=b"".join([*pieces, last]))]
    answer = await responding.answer(ModelRequest(CODER, [HumanMessage("hi")]))
    assert (answer.finish, answer.message.text) == ("incomplete", "half an ans")
