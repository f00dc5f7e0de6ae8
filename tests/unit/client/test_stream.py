"""Server-sent events are read as they are written, however they are cut."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from phoenix.api.events import frame
from phoenix.client import stream
from phoenix.client.stream import payloads
from phoenix.domain.run import Event
from phoenix.errors import ServiceFailed


async def cut(text: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(text), size):
        yield text[start : start + size]


async def read(text: bytes, size: int) -> list[bytes]:
    return [data async for data in payloads(cut(text, size))]


def event(seq: int, text: str) -> Event:
    return Event(seq=seq, project_id=uuid4(), kind="tool_called", data={"x": text}, at=datetime.now(UTC))


@pytest.mark.parametrize("size", [1, 2, 7, 10_000])
async def test_events_come_out_as_they_went_in(size: int) -> None:
    """Also where they hold what Python takes for ends of lines."""
    sent = [event(1, "a\u2028b\u2029c\x85d"), event(2, 'data: "\r\n\r\nid: 7'), event(3, "\x0b\x0c\x1c")]
    text = b": connected\n\n" + b"".join(frame(e) for e in sent)
    found = await read(text, size)
    assert found[0] == b""
    assert [Event.model_validate_json(data) for data in found[1:]] == sent


@pytest.mark.parametrize("size", [1, 3, 10_000])
async def test_lines_of_another_server_are_read_too(size: int) -> None:
    """With a carriage return, several lines of data, no blank, and fields nobody asked for."""
    text = b"id: 1\r\nretry: 10\r\ndata:a\r\ndata: b\r\n\r\n: beat\r\n\r\ndata: last"
    assert await read(text, size) == [b"a\nb", b""]


async def test_a_line_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is not filled by what is no stream of events."""
    monkeypatch.setattr(stream, "MAX_BYTES", 1000)
    with pytest.raises(ServiceFailed, match="a line has no end"):
        await read(b"data: " + b"x" * 5000, 100)
