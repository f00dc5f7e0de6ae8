"""`phoenix lens replay`: plays back what happened in a project from its events. Nothing is executed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from phoenix.cli.escape import one_line
from phoenix.cli.lines import line_of
from phoenix.cli.output import DELIVERED, print_json
from phoenix.cli.view import View
from phoenix.errors import InputError

if TYPE_CHECKING:
    from phoenix.client.api import Client
    from phoenix.domain.run import Event

LONGEST_PAUSE_SECONDS = 5.0
"""A person may have thought for a day; nobody watches that again."""

Sleep = Callable[[float], Awaitable[object]]


@dataclass(frozen=True)
class Excerpt:
    """Which events are played back; seconds are counted from the project's first event."""

    since_seconds: float = 0.0
    until_seconds: float = float("inf")
    kinds: frozenset[str] = frozenset()
    """Empty takes all that say something to a reader."""

    everything: bool = False
    """Also what says nothing to a reader."""


@dataclass(frozen=True)
class Moment:
    """An event, when it was (seconds from the first), and as a sentence where there is one."""

    seconds: float
    event: Event
    sentence: str


def moments(events: Iterable[Event], wanted: Excerpt) -> list[Moment]:
    """Return what is to be played back, in order. The sentences know all that came before.

    Raises:
        InputError: a kind is wanted that no event has.
    """
    view, found, seen, began = View(), [], set(), None
    for event in events:
        began = began or event.at
        view = view.apply(event)
        seen.add(event.kind)
        seconds = (event.at - began).total_seconds()
        line = line_of(view, event)
        told = event.kind in wanted.kinds if wanted.kinds else wanted.everything or line is not None
        if told and wanted.since_seconds <= seconds <= wanted.until_seconds:
            found.append(Moment(seconds, event, line[1] if line else one_line(event.kind)))
    if missing := sorted(wanted.kinds - seen):
        known = f"Events here are {', '.join(sorted(seen)) or 'none'}."
        raise InputError(f"No event is a {missing[0]!r}.", field="--kind", hint=known)
    return found


async def paced(found: Iterable[Moment], speed: float, sleep: Sleep) -> AsyncIterator[Moment]:
    """Yield moments with their pauses, `speed` times as fast, none over 5 s; a speed of 0 never pauses."""
    before: float | None = None
    for moment in found:
        if speed and before is not None and moment.seconds > before:
            await sleep(min((moment.seconds - before) / speed, LONGEST_PAUSE_SECONDS))
        before = moment.seconds
        yield moment


async def replay(
    prefix: str, wanted: Excerpt, *, speed: float = 0.0, server: str = "", as_json: bool = False
) -> int:
    """Print what happened in a project, in order, with the time of each event."""
    from phoenix.cli.connection import open_connection
    from phoenix.cli.session import open_settings

    async with open_connection(open_settings(server=server), execution=False) as connection:
        events = await _events(connection.client, prefix)
    async for moment in paced(moments(events, wanted), speed, asyncio.sleep):
        if as_json:
            print_json({"seconds": moment.seconds, **moment.event.model_dump(mode="json")})
        else:
            print(f"{moment.seconds:9.1f} s  {moment.sentence}", flush=True)
    return DELIVERED


async def _events(client: Client, prefix: str) -> list[Event]:
    project = (await client.find(prefix)).project
    events: list[Event] = []
    while more := await client.events(project.id, after=events[-1].seq if events else 0):
        events += more
    return events
