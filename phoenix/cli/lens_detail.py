"""`phoenix lens trace --detail`: a project's trace as its spans were recorded, below the level of events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from phoenix.cli.lens import MARKS, lens_client
from phoenix.cli.output import DELIVERED, print_json
from phoenix.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text
    from rich.tree import Tree

    from phoenix.domain.recorded import RecordedSpan, SpanCounts

TOGETHER = 4
"""So many spans of one kind in a row, or more, are one line."""


async def detailed(prefix: str, *, run: str = "", server: str = "", as_json: bool = False) -> int:
    """Print the spans of a project, or those of one run, as a tree."""
    async with lens_client(server) as client:
        project = (await client.find(prefix)).project
        spans, counts = await client.spans(project.id)
    if as_json:
        print_json(
            {
                "project_id": str(project.id),
                "counts": counts.model_dump(mode="json"),
                "spans": [span.model_dump(mode="json") for span in spans],
            }
        )
        return DELIVERED
    from phoenix.cli.documents import new_console

    console = new_console()
    if not spans:
        console.print("No spans are kept of this project: PHOENIX_TRACES may have been off.")
        return DELIVERED
    console.print(f"trace {spans[0].trace_id}")
    ids = {span.id for span in spans}
    children: dict[str, list[RecordedSpan]] = {}
    for span in spans:
        if span.parent_id is not None:
            children.setdefault(span.parent_id, []).append(span)
    for top in _tops(spans, ids, run):
        console.print(_branch(top, children))
    for line in said(counts):
        console.print(line)
    return DELIVERED


def _tops(spans: Sequence[RecordedSpan], ids: set[str], run: str) -> list[RecordedSpan]:
    if not run:
        return [span for span in spans if span.parent_id not in ids]
    found = [span for span in spans if span.kind == "run" and span.name == run]
    if not found:
        known = ", ".join(span.name for span in spans if span.kind == "run") or "none"
        raise InputError(f"There is no run {run!r}.", field="--run", hint=f"Known are {known}.")
    return found


def said(counts: SpanCounts) -> list[str]:
    """Return what is to be said of spans that are not there."""
    lines = []
    if counts.left_out:
        lines.append(f"{counts.left_out} more were left out while a process was under load.")
    if counts.beyond_limit:
        lines.append(f"{counts.beyond_limit} more were dropped beyond PHOENIX_TRACE_MAX_SPANS.")
    return lines


def _branch(span: RecordedSpan, children: dict[str, list[RecordedSpan]]) -> Tree:
    from rich.tree import Tree

    made = Tree(_label(span))
    for group in _groups(children.get(span.id, ())):
        if len(group) >= TOGETHER:
            made.add(_together(group))
            continue
        made.children += [_branch(child, children) for child in group]
    return made


def _groups(spans: Sequence[RecordedSpan]) -> list[list[RecordedSpan]]:
    """Return spans with those of one kind and name in a row together, where they have no parts."""
    found: list[list[RecordedSpan]] = []
    for span in spans:
        last = found[-1][-1] if found else None
        if (
            last is not None
            and span.kind in ("sql", "git")
            and (last.kind, last.name) == (span.kind, span.name)
        ):
            found[-1].append(span)
        else:
            found.append([span])
    return found


def _label(span: RecordedSpan) -> Text:
    from rich.text import Text

    from phoenix.cli.escape import one_line

    took = "" if span.seconds is None else f"  {span.seconds:.3f} s"
    text = Text.assemble(f"{span.kind} ", (one_line(span.name), "bold"), took)
    if (error := span.attributes.get("error.type")) is not None:
        text.append(f"  {one_line(str(error))}")
    word, style = MARKS[span.status]
    return text.append(word, style)


def _together(group: Sequence[RecordedSpan]) -> Text:
    from rich.text import Text

    from phoenix.cli.escape import one_line

    seconds = sum(span.seconds or 0.0 for span in group)
    first = group[0]
    return Text(f"{first.kind} {one_line(first.name)}  {len(group)} times, {seconds:.3f} s in all")
