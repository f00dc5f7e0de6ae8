"""`phoenix lens`: projects' traces, read from their events over the HTTP API. Nothing is executed."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, get_args

from phoenix.cli.output import DELIVERED, FAILED, print_json
from phoenix.errors import InputError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from rich.text import Text
    from rich.tree import Tree

    from phoenix.client.api import Client
    from phoenix.domain.run import Event
    from phoenix.domain.trace import Span, Trace
    from phoenix.domain.trace_figures import Figure

MARKS = {
    "ok": ("", ""),
    "failed": ("  failed", "red"),
    "interrupted": ("  interrupted", "yellow"),
    "open": (" ...", ""),
}
AT_ONCE = 4
"""Projects whose events are read at the same time."""


@dataclass(frozen=True)
class Wanted:
    """Which spans are listed."""

    kind: str = ""
    name: str = ""
    slower_seconds: float = 0.0
    failed: bool = False

    def takes(self, span: Span) -> bool:
        """Tell whether a span is one of them."""
        return (
            (not self.kind or span.kind == self.kind)
            and self.name.lower() in span.name.lower()
            and span.seconds >= self.slower_seconds
            and (not self.failed or span.status in ("failed", "interrupted"))
        )


@asynccontextmanager
async def lens_client(server: str) -> AsyncIterator[Client]:
    """Yield a client of the service, or of one of this process."""
    from phoenix.cli.connection import open_connection
    from phoenix.cli.session import open_settings

    async with open_connection(open_settings(server=server), execution=False) as connection:
        yield connection.client


async def _trace(client: Client, prefix: str) -> Trace:
    from phoenix.domain.trace import trace_of

    project = (await client.find(prefix)).project
    events: list[Event] = []
    while more := await client.events(project.id, after=events[-1].seq if events else 0):
        events += more
    return trace_of(project.id, events)


async def list_projects(*, status: str = "", server: str = "", as_json: bool = False) -> int:
    """Print projects with their figures, newest first."""
    from phoenix.cli.show import listed

    async with lens_client(server) as client:
        found = [row for row in map(listed, await client.projects()) if status in ("", row["status"])]
        gate = asyncio.Semaphore(AT_ONCE)

        async def traced(project_id: str) -> Trace:
            async with gate:
                return await _trace(client, project_id)

        traces = await asyncio.gather(*(traced(row["project_id"]) for row in found))
    rows = [row | _summed(trace) for row, trace in zip(found, traces, strict=True)]
    if as_json:
        for row in rows:
            print_json(row)
        return DELIVERED
    columns = ["project", "status", "seconds", "calls", "tools", "tokens", "USD", "title"]
    cells = [
        [
            str(row["project_id"])[:8],
            str(row["status"]),
            _seconds(row["seconds"]),
            str(row["model_calls"]),
            str(row["tool_calls"]),
            str(row["tokens"]),
            "?" if row["cost_usd"] is None else f"{row['cost_usd']:.4f}",
            str(row["title"]),
        ]
        for row in rows
    ]
    _print_table(columns, cells, left=(0, 1, 7))
    return DELIVERED


def _summed(trace: Trace) -> dict[str, object]:
    counts, cost = trace.counts(), trace.cost()
    return {
        "seconds": trace.spans[0].seconds if trace.spans else 0.0,
        "model_calls": counts["model"],
        "tool_calls": counts["tool"],
        "tokens": sum(span.input_tokens + span.output_tokens for span in trace.spans),
        "cost_usd": None if cost is None else float(cost),
    }


async def tree(
    prefix: str, *, run: str = "", calls: bool = True, server: str = "", as_json: bool = False
) -> int:
    """Print a trace as a tree."""
    async with lens_client(server) as client:
        trace = await _trace(client, prefix)
    if as_json:
        print_json(trace.model_dump(mode="json"))
        return DELIVERED
    from phoenix.cli.documents import new_console

    children = trace.children()
    tops = [span for span in trace.spans if span.kind == "run" and span.run == run]
    if not tops:
        keys = sorted({span.run for span in trace.spans if span.run})
        raise InputError(
            f"There is no run {run!r}.", field="--run", hint=f"Known are {', '.join(keys) or 'none'}."
        )
    console = new_console()
    for top in tops:
        console.print(_branch(top, children, calls=calls))
    return DELIVERED


def _branch(span: Span, children: dict[int | None, list[Span]], *, calls: bool) -> Tree:
    from rich.tree import Tree

    made = Tree(_label(span))
    for child in children.get(span.id, ()):
        if calls or child.kind not in ("model", "tool"):
            made.children.append(_branch(child, children, calls=calls))
    return made


def _label(span: Span) -> Text:
    from rich.text import Text

    from phoenix.cli.escape import one_line

    text = Text.assemble(f"{span.kind} ", (one_line(span.name), "bold"))
    if span.kind != "tool":
        text.append(f"  {_seconds(span.seconds)}")
    if span.kind == "model":
        text.append(f"  {span.input_tokens} in, {span.output_tokens} out, {_usd(span)}")
    if span.said.get("attempts", 1) != 1:
        text.append(f"  {span.said['attempts']} attempts")
    word, style = MARKS[span.status]
    return text.append(word, style)


def _usd(span: Span) -> str:
    if span.said.get("recorded"):
        return "recorded"
    return "price unknown" if span.cost_usd is None else f"{span.cost_usd:f} USD"


def _seconds(seconds: object) -> str:
    return f"{seconds:.1f} s" if isinstance(seconds, float) else f"{seconds} s"


async def list_spans(prefix: str, wanted: Wanted, *, server: str = "", as_json: bool = False) -> int:
    """Print the spans that are wanted, in the order in which they began."""
    from phoenix.domain.trace import SpanKind

    kinds = get_args(SpanKind)
    if wanted.kind not in ("", *kinds):
        known = f"Give one of {', '.join(kinds)}."
        raise InputError(f"{wanted.kind!r} is no kind.", field="--kind", hint=known)
    async with lens_client(server) as client:
        trace = await _trace(client, prefix)
    found = [span for span in trace.spans if wanted.takes(span)]
    if as_json:
        for span in found:
            print_json(span.model_dump(mode="json"))
        return DELIVERED
    cells = [
        [
            str(s.id),
            s.kind,
            s.run,
            s.name,
            _seconds(s.seconds),
            s.status,
            _usd(s) if s.kind == "model" else "",
        ]
        for s in found
    ]
    _print_table(["no", "kind", "run", "name", "seconds", "status", "cost"], cells, left=(1, 2, 3, 5))
    return DELIVERED


async def stats(prefixes: Sequence[str], *, server: str = "", as_json: bool = False) -> int:
    """Print figures of projects together."""
    from phoenix.domain.trace_figures import figures

    async with lens_client(server) as client:
        traces = [await _trace(client, prefix) for prefix in prefixes]
    found = figures(traces)
    if as_json:
        for figure in found:
            print_json(figure.model_dump(mode="json"))
        return DELIVERED
    cells = [[figure.kind, figure.name, *_cells(figure)] for figure in found]
    _print_table(
        ["kind", "name", "count", "failed", "total", "p50", "p95", "tokens", "USD"], cells, left=(0, 1)
    )
    return DELIVERED


def _cells(figure: Figure) -> list[str]:
    cost = figure.cost_usd
    price = "?" if cost is None else f"{cost:.4f}"
    return [
        str(figure.count),
        str(figure.failed) if figure.failed else "",
        _seconds(figure.total_seconds),
        _seconds(figure.p50_seconds),
        _seconds(figure.p95_seconds),
        str(figure.tokens) if figure.tokens else "",
        price if figure.kind == "model" and cost != Decimal(0) else "",
    ]


async def diff(first: str, second: str, *, server: str = "", as_json: bool = False) -> int:
    """Print what two projects did not do alike; return 1 where there is something."""
    from phoenix.domain.trace_figures import differences

    async with lens_client(server) as client:
        one, two = await _trace(client, first), await _trace(client, second)
    found = differences(one, two)
    if as_json:
        for each in found:
            print_json(each.model_dump(mode="json"))
    else:
        cells = [
            [each.kind, each.name, *(cell for side in (each.first, each.second) for cell in _side(side))]
            for each in found
        ]
        columns = ["kind", "name", "count", "failed", "tokens", "count", "failed", "tokens"]
        _print_table(columns, cells, left=(0, 1))
    return FAILED if found else DELIVERED


def _side(figure: Figure | None) -> list[str]:
    if figure is None:
        return ["-", "", ""]
    return [str(figure.count), str(figure.failed) if figure.failed else "", str(figure.tokens or "")]


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: Sequence[int]) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from phoenix.cli.documents import new_console
    from phoenix.cli.escape import one_line

    if not rows:
        new_console().print("There is nothing.")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for n, column in enumerate(columns):
        table.add_column(column, justify="left" if n in left else "right", overflow="fold")
    for row in rows:
        table.add_row(*(escape(one_line(cell)) for cell in row))
    new_console().print(table)
