"""Google's real client against a server that answers as the Gemini API does."""

from __future__ import annotations

import time
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool

from phoenix.domain.frozen import Frozen
from phoenix.errors import ModelError, ModelRateLimited, ModelRefusedKey, ModelTimeout, ModelUnknown
from phoenix.llm.access import open_alias
from phoenix.llm.calls import Backend
from phoenix.llm.catalogue import parse_catalogue
from phoenix.llm.patience import Patience
from phoenix.llm.usage import MemoryUsage
from phoenix.ports import Caller
from phoenix.settings import Settings
from tests.unit.llm.gemini_events import INFO, RETRY, blocked, failed, gemini, streamed, whole
from tests.unit.llm.rig import KEY, Heard, Open
from tests.unit.llm.server import Reply, Server

pytest.importorskip("langchain_google_genai", reason="the extra `google` is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")

CODER = Caller("coding", "T1")
DONE = streamed(gemini("done"))
ALIAS = """
models:
  g:
    model: google_genai:gemini-2.5-flash
    base_url: %s
    key_env: OPENAI_API_KEY
    price: {input: 10, output: 50, cache_read: 1}
"""


class Note(Frozen):
    """A note."""

    text: str


@tool
def look(where: str) -> str:
    """Look somewhere."""
    return f"nothing at {where}"


@pytest.fixture(params=["httpx", "aiohttp"])
def google(
    request: pytest.FixtureRequest, server: Server, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Backend:
    """The alias of a catalogue, pointed at the server, over each transport that the client may find."""
    from google.genai import _api_client

    if request.param == "aiohttp":
        pytest.importorskip("aiohttp")
    monkeypatch.setattr(_api_client, "has_aiohttp", request.param == "aiohttp")
    return open_alias("g", parse_catalogue(ALIAS % server.url).models["g"], settings)


async def test_text_counts_and_cost_come_whole(
    server: Server, google: Backend, open_over: Open, usage: MemoryUsage
) -> None:
    """Running totals are not added; thoughts are paid as output, and what was cached at its own price."""
    server.replies = [streamed(gemini("Hello there, friend.", usage=(100, 20), cached=60, thoughts=5))]
    answer = await open_over(google).chat(CODER).ainvoke("hi")
    assert answer.text == "Hello there, friend."
    assert server.paths == ["/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse"]
    assert server.headers[0]["x-goog-api-key"] == KEY
    (call,) = usage.calls
    assert (call.input_tokens, call.output_tokens, call.cached_tokens) == (100, 25, 60)
    assert call.cost_usd == Decimal(40 * 10 + 60 * 1 + 25 * 50) / 1_000_000


async def test_an_agent_calls_tools(server: Server, google: Backend, open_over: Open) -> None:
    """Two at once; results go back with the signature of the thoughts that led to the calls."""
    calls: list[tuple[str, dict[str, Any]]] = [("look", {"where": "a {x}"}), ("look", {"where": "b"})]
    server.replies = [streamed(gemini("I look.", calls=calls)), DONE]
    agent = create_agent(open_over(google).chat(CODER), [look])
    state = await agent.ainvoke({"messages": [("user", "go")]})
    assert [m.text for m in state["messages"]] == [
        *("go", "I look.", "nothing at a {x}", "nothing at b", "done")
    ]
    declared = server.requests[0]["tools"][0]["functionDeclarations"]
    assert [one["name"] for one in declared] == ["look"]
    sent = [part for content in server.requests[1]["contents"] for part in content["parts"]]
    assert [part["functionCall"]["args"] for part in sent if "functionCall" in part] == [a for _, a in calls]
    signed = [part.get("thoughtSignature") for part in sent if "functionCall" in part]
    assert signed == ["c2lnbmF0dXJl", None]
    assert sum("functionResponse" in part for part in sent) == 2


async def test_a_typed_answer_takes_the_schema_mode(
    server: Server, google: Backend, open_over: Open, events: Heard
) -> None:
    """The schema goes with the request."""
    server.replies = [streamed(gemini('{"text": "hello"}'))]
    assert await open_over(google).structured(CODER, [HumanMessage("hi")], Note) == Note(text="hello")
    asked = server.requests[0]["generationConfig"]
    assert (asked["responseMimeType"], asked["responseJsonSchema"]["required"]) == (
        "application/json",
        ["text"],
    )
    assert events.of("structured_answered")[0]["tier"] == "schema"


async def test_an_answer_is_no_longer_than_a_budget_affords(
    server: Server, google: Backend, open_over: Open
) -> None:
    """Google has its own name for the limit."""
    server.replies = [DONE]
    await open_over(google, budget="0.2").chat(CODER).ainvoke("hi")
    assert server.requests[0]["generationConfig"]["maxOutputTokens"] == 2048


@pytest.mark.parametrize(
    "reply",
    [
        *(streamed(gemini("I may", finish=why)) for why in ("SAFETY", "RECITATION", "PROHIBITED_CONTENT")),
        streamed(gemini(finish="SAFETY")),
        streamed(blocked()),
        streamed(blocked("PROHIBITED_CONTENT")),
    ],
    ids=["safety", "recitation", "prohibited", "no content", "prompt", "prohibited prompt"],
)
async def test_what_google_will_not_answer_is_asked_once(
    reply: Reply, server: Server, google: Backend, open_over: Open, usage: MemoryUsage
) -> None:
    """It is a refusal, at the tokens that it says, and no empty answer that is asked for again."""
    server.replies = [reply]
    with pytest.raises(ModelError, match="declines to answer"):
        await open_over(google).chat(CODER).ainvoke("hi")
    assert len(server.requests) == 1
    assert [call.broken for call in usage.calls] == [False]


async def test_a_prompt_that_is_blocked_where_nothing_streams_is_refused_too(
    server: Server, google: Backend, open_over: Open
) -> None:
    """Its feedback is in another place of the client's answer."""
    server.streams = False
    server.replies = [Reply(body=blocked()[0])]
    with pytest.raises(ModelError, match="declines to answer"):
        await open_over(google).chat(CODER).ainvoke("hi")


async def test_an_answer_in_one_piece_is_the_same(server: Server, google: Backend, open_over: Open) -> None:
    """Some proxies do not stream."""
    server.streams = False
    server.replies = [Reply(status=501, body={"error": {"code": 501, "message": "no stream"}})]
    server.replies += [whole(gemini("Hello.", calls=[("look", {"where": "a"})]))]
    answer: Any = await open_over(google).chat(CODER).ainvoke("hi")
    assert (answer.text, answer.tool_calls[0]["args"]) == ("Hello.", {"where": "a"})


@pytest.mark.parametrize(
    "fault",
    [
        streamed(gemini("half an", finish="MAX_TOKENS")),
        streamed(gemini("I call", finish="MALFORMED_FUNCTION_CALL")),
        Reply(raw=streamed(gemini("Hello there")).pieces()[0][:150]),
        failed(500, "INTERNAL", "An internal error has occurred."),
        failed(503, "UNAVAILABLE", "The model is overloaded."),
        Reply(status=502, body="<html>bad gateway</html>"),
        replace(failed(500, "INTERNAL", "Internal."), cut=9),
    ],
    ids=["cut", "malformed call", "broken", "500", "503", "html", "hangs up"],
)
async def test_a_passing_fault_is_tried_again(
    fault: Reply, server: Server, google: Backend, open_over: Open, usage: MemoryUsage
) -> None:
    """What was refused before it began costs nothing."""
    server.replies = [fault, DONE]
    assert (await open_over(google).chat(CODER).ainvoke("hi")).text == "done"
    assert len(server.requests) == 2
    if fault.status != 200 and fault.cut is None:
        assert len(usage.calls) == 1


async def test_the_wait_that_google_asks_for_is_kept(
    server: Server, google: Backend, open_over: Open, events: Heard
) -> None:
    """It is in the error's body, and in no header."""
    busy = failed(429, "RESOURCE_EXHAUSTED", "Quota exceeded.", {"@type": RETRY, "retryDelay": "0.3s"})
    server.replies = [busy, DONE]
    started = time.monotonic()
    await open_over(google).chat(CODER).ainvoke("hi")
    assert time.monotonic() - started >= 0.3
    assert events.of("model_retried")[0]["wait_seconds"] == 0.3


@pytest.mark.parametrize(
    ("fault", "expected", "says"),
    [
        (
            failed(
                400,
                "INVALID_ARGUMENT",
                f"API key not valid: {KEY}.",
                {"@type": INFO, "reason": "API_KEY_INVALID"},
            ),
            ModelRefusedKey,
            "refuses the key: API key not valid",
        ),
        (failed(403, "PERMISSION_DENIED", "Reported as leaked."), ModelRefusedKey, "Reported as leaked"),
        (failed(404, "NOT_FOUND", "models/x is not found"), ModelUnknown, "does not know"),
        (
            failed(
                400,
                "INVALID_ARGUMENT",
                "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
            ),
            ModelError,
            "too long",
        ),
        (
            failed(429, "RESOURCE_EXHAUSTED", "Quota.", {"@type": RETRY, "retryDelay": "3600s"}),
            ModelRateLimited,
            "fewer requests",
        ),
    ],
    ids=["key", "403", "404", "overlong", "an hour"],
)
async def test_what_waiting_will_not_mend_fails_at_once(
    fault: Reply, expected: type[Exception], says: str, server: Server, google: Backend, open_over: Open
) -> None:
    """With Google's own words, and without the key."""
    server.replies = [fault]
    with pytest.raises(expected, match=says) as caught:
        await open_over(google).chat(CODER).ainvoke("hi")
    assert len(server.requests) == 1
    assert KEY not in str(caught.value)


async def test_a_silent_google_ends_at_the_deadline(server: Server, google: Backend, open_over: Open) -> None:
    """The client's own timeout is the gateway's."""
    server.replies = [Reply(hang=True)]
    with pytest.raises(ModelTimeout, match="did not answer within"):
        await open_over(google, patience=Patience(deadline_seconds=0.3)).chat(CODER).ainvoke("hi")
