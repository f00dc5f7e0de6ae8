"""`phoenix memory`: what an organisation remembers."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, get_args
from uuid import UUID

from phoenix.cli.output import DELIVERED, FAILED, print_json, say
from phoenix.errors import InputError

if TYPE_CHECKING:
    from phoenix.client.memory import MemoryClient
    from phoenix.domain.memory import MemoryItem
    from phoenix.domain.memory_report import Difference, MemoryReport

CARRIED = ("kind", "text", "tags", "language", "licence", "origin", "agent", "commit")
"""What an export and an import have of an item."""
SHOWN_CHARS = 160
EXPORTED = "Give JSON lines, as `phoenix memory export` prints them."


@asynccontextmanager
async def _opened(server: str) -> AsyncIterator[MemoryClient]:
    from phoenix.cli.connection import open_connection
    from phoenix.cli.session import open_settings
    from phoenix.client.memory import MemoryClient

    async with open_connection(open_settings(server=server), execution=False) as connection:
        yield MemoryClient(connection.client)


async def search(
    text: str, *, kinds: Sequence[str], language: str, limit: int, server: str, as_json: bool
) -> int:
    """Print what fits a text.

    Raises:
        InputError: there is no such kind.
    """
    from phoenix.cli.escape import one_line
    from phoenix.domain.lessons import LessonKind

    for kind in kinds:
        if kind not in get_args(LessonKind):
            raise InputError(f"{kind!r} is none of {', '.join(get_args(LessonKind))}.", field="--kind")
    async with _opened(server) as memory:
        found = await memory.search(text, kinds=kinds, language=language, limit=limit)
    if as_json:
        print_json(found.model_dump(mode="json"))
        return DELIVERED
    if found.missed:
        say(f"warning: words alone were searched: {found.missed}")
    for hit in found.hits:
        _echo(f"{hit.item.id}  {hit.item.kind}  {hit.why}")
        _echo(f"    {one_line(hit.item.text, SHOWN_CHARS)}")
    if not found.hits:
        say("nothing fits")
    return DELIVERED


async def list_(*, limit: int, server: str, as_json: bool) -> int:
    """Print the newest items, and say when there are more."""
    from phoenix.cli.escape import one_line

    shown = 0
    async with _opened(server) as memory:
        async for item in memory.all():
            if shown == limit:
                say(f"hint: there are more; --limit {limit * 5} shows more of them")
                break
            shown += 1
            if as_json:
                print_json(item.model_dump(mode="json"))
                continue
            _echo(f"{item.id}  {', '.join(_facts(item))}")
            _echo(f"    {one_line(item.text, SHOWN_CHARS)}")
    if not shown:
        say("nothing is remembered yet")
    return DELIVERED


async def show(memory_id: str, *, server: str, as_json: bool) -> int:
    """Print an item."""
    async with _opened(server) as memory:
        _print(await memory.get(_id_of(memory_id)), as_json=as_json)
    return DELIVERED


async def change(memory_id: str, values: dict[str, Any], *, server: str, as_json: bool) -> int:
    """Change an item, and print it."""
    async with _opened(server) as memory:
        _print(await memory.change(_id_of(memory_id), values), as_json=as_json)
    return DELIVERED


async def correct(memory_id: str, text: str, *, server: str, as_json: bool) -> int:
    """Give an item another text, and print it."""
    said = sys.stdin.read() if text == "-" else text
    if not said.strip():
        hint = f"Give the new text, or have it gone: `phoenix memory forget {memory_id}`."
        raise InputError("The text is empty.", field="TEXT", hint=hint)
    return await change(memory_id, {"text": said}, server=server, as_json=as_json)


async def forget(memory_id: str, *, yes: bool, server: str, as_json: bool) -> int:
    """Remove an item for good."""
    from phoenix.cli.migrate import agreed

    wanted = _id_of(memory_id)
    if not agreed(f"Forget {wanted} for good?", yes=yes):
        return FAILED
    async with _opened(server) as memory:
        gone = await memory.forget(wanted)
    if as_json:
        print_json(gone.model_dump(mode="json"))
    else:
        _echo(f"forgotten: {wanted}")
    if gone.unremoved:
        say(f"warning: its vector is still there, without a text: {gone.unremoved}")
        say("hint: phoenix memory rebuild")
    return DELIVERED


async def export(*, server: str) -> int:
    """Print every item as a line of JSON."""
    async with _opened(server) as memory:
        async for item in memory.all():
            print_json(item.model_dump(mode="json", include=set(CARRIED)))
    return DELIVERED


async def bring(file: str, *, server: str, as_json: bool) -> int:
    """Store the items of a file."""
    items = items_of(_read(file), file)
    async with _opened(server) as memory:
        written = await memory.bring(items)
    if as_json:
        print_json(written.model_dump(mode="json"))
    else:
        _echo(f"{len(written.stored)} stored, {written.known} known already, {written.masked} masked")
    return DELIVERED


async def report(*, server: str, as_json: bool) -> int:
    """Print what memory is worth."""
    async with _opened(server) as memory:
        found = await memory.report()
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        _print_report(found)
    return DELIVERED


async def rebuild(*, server: str, as_json: bool) -> int:
    """Make all vectors anew."""
    async with _opened(server) as memory:
        made = await memory.rebuild()
    if as_json:
        print_json(made.model_dump(mode="json"))
    else:
        _echo(f"{made.items} vectors made with {made.embedder}")
    return DELIVERED


def items_of(text: str, file: str) -> list[dict[str, Any]]:
    """Return the items of JSON lines.

    Raises:
        InputError: a line is no JSON object; names it.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"Line {number} is no JSON: {error}", field=file, hint=EXPORTED) from error
        if not isinstance(item, dict):
            raise InputError(f"Line {number} is no JSON object.", field=file, hint=EXPORTED)
        found.append(item)
    if not found:
        raise InputError("There is nothing in it.", field=file, hint=EXPORTED)
    return found


def _read(file: str) -> str:
    from phoenix.cli.new import read_text

    return read_text(file, field="FILE")


def _id_of(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise InputError(
            f"{text!r} is no id of a memory.",
            field="ID",
            hint="Give the whole id, as `phoenix memory list` or `search` shows it.",
        ) from error


def _print(item: MemoryItem, *, as_json: bool) -> None:
    if as_json:
        print_json(item.model_dump(mode="json"))
        return
    _echo(f"{item.id}  {', '.join(_facts(item))}")
    origin = (
        f"project {item.project_id}, commit {item.commit[:12]}" if item.project_id else "brought by a person"
    )
    _echo(f"from {origin}; written by {item.agent or '-'}, {item.created_at:%Y-%m-%d}")
    _echo(f"helped in {item.helped} of {item.helped + item.failed} projects that saw it")
    if item.expires_at:
        _echo(f"expires {item.expires_at:%Y-%m-%d}")
    _echo(item.text)


def _facts(item: MemoryItem) -> list[str]:
    """Say what an item is, each word once."""
    facts = [item.kind, item.origin, item.language, item.licence, "pinned" if item.pinned else "", *item.tags]
    return list(dict.fromkeys(fact for fact in facts if fact))


def _print_report(found: MemoryReport) -> None:
    for name, side in (("with memory", found.recalling), ("held out", found.held_out)):
        share = "-" if side.first_try is None else f"{side.first_try:.0%}"
        calls = "-" if side.calls is None else f"{side.calls:.1f}"
        cost = "-" if side.cost_usd is None else f"{side.cost_usd:.4f}"
        _echo(
            f"{name}: {side.projects} projects, {side.tasks} tasks, first try {share},"
            f" {calls} calls and {cost} USD a project"
        )
    for name, difference in (("calls", found.calls), ("USD", found.cost_usd)):
        if difference is not None:
            _echo(f"{name} a project: {_interval(difference)}")
    _echo(found.said)


def _interval(difference: Difference) -> str:
    return f"{difference.value:+.4g} ({difference.low:+.4g} to {difference.high:+.4g})"


def _echo(text: str) -> None:
    import typer

    from phoenix.cli.escape import clean

    typer.echo(clean(text))
