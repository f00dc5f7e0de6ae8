"""Streamed answers cut after every byte, through OpenAI's real client; the soak of models uses it too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
from langchain_core.messages import HumanMessage

from phoenix.llm.calls import ModelAnswer, ModelRequest
from phoenix.llm.failures import CallFailed
from phoenix.llm.openai_chat import RefusingChatOpenAI
from phoenix.llm.providers import ProviderModel
from phoenix.ports import Caller
from tests.unit.llm.server import Reply

ASK = ModelRequest(Caller("coding", "T1"), [HumanMessage("hi")])


class Body(httpx2.AsyncByteStream):
    """So many bytes of an answer; then its end, or a connection that breaks."""

    def __init__(self, data: bytes, *, breaks: bool) -> None:
        self.data, self.breaks = data, breaks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.data
        if self.breaks:
            raise httpx2.RemoteProtocolError("peer closed connection")

    async def aclose(self) -> None:
        """Nothing is open."""


class Line(httpx2.AsyncBaseTransport):
    """A connection to a server in this process."""

    def __init__(self) -> None:
        self.body = Body(b"", breaks=False)
        self.requests = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.requests += 1
        headers = {"content-type": "text/event-stream"}
        return httpx2.Response(200, headers=headers, stream=self.body, request=request)


def over(line: Line) -> ProviderModel:
    """Return a backend over a connection."""
    chat = RefusingChatOpenAI(
        model="gpt-4o-mini",
        api_key="k",
        http_async_client=httpx2.AsyncClient(transport=line),
        max_retries=0,
        stream_usage=True,
        stream_chunk_timeout=None,
    )
    return ProviderModel("openai:gpt-4o-mini", chat)


def essence(answer: ModelAnswer) -> tuple[Any, ...]:
    """Return what must not differ between an answer and the whole one."""
    message = answer.message
    calls = [(c["name"], c["args"], c["id"]) for c in message.tool_calls]
    return message.content, calls, message.invalid_tool_calls, message.usage_metadata, answer.cost_usd


@dataclass
class Outcomes:
    """How many cut answers were taken; where one was that should not have been, or ended the call."""

    answered: int = 0
    partial: list[int] = field(default_factory=list)
    final: list[int] = field(default_factory=list)


async def cut_everywhere(reply: Reply, *, breaks: bool, step: int = 1) -> tuple[tuple[Any, ...], Outcomes]:
    """Return the essence of a whole answer, and what came of it cut after each of its bytes.

    Args:
        reply: What is answered.
        breaks: The connection breaks there; else it ends as if all were well.
        step: Try every so many bytes.
    """
    line, data = Line(), b"".join(reply.pieces())
    backend = over(line)
    line.body = Body(data, breaks=False)
    whole, outcomes = essence(await backend.answer(ASK)), Outcomes()
    for cut in range(0, len(data), step):
        line.body = Body(data[:cut], breaks=breaks)
        try:
            found = await backend.answer(ASK)
        except CallFailed as failure:
            if not failure.again or not failure.sick:
                outcomes.final.append(cut)
            continue
        outcomes.answered += 1
        if essence(found) != whole:
            outcomes.partial.append(cut)
    return whole, outcomes
