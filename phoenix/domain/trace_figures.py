"""What traces say in sum: by step, agent and tool, and where two of them differ."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from decimal import Decimal

from phoenix.domain.frozen import Frozen
from phoenix.domain.trace import Span, Trace

PARTS = ("step", "model", "tool", "wait")


class Figure(Frozen):
    """What spans of one kind and name sum up to. Seconds."""

    kind: str
    name: str
    count: int
    failed: int
    """Failed, or interrupted."""
    total_seconds: float
    p50_seconds: float
    p95_seconds: float
    cost_usd: Decimal | None
    """None where a call's price is unknown."""
    tokens: int


class Difference(Frozen):
    """One kind and name in two traces; None where it is not in one of them."""

    kind: str
    name: str
    first: Figure | None
    second: Figure | None


def figures(traces: Iterable[Trace], *, kinds: Iterable[str] = PARTS) -> list[Figure]:
    """Return the figures of traces together, those that took longest first."""
    groups: dict[tuple[str, str], list[Span]] = {}
    wanted = frozenset(kinds)
    for trace in traces:
        for span in trace.spans:
            if span.kind in wanted:
                groups.setdefault((span.kind, span.name), []).append(span)
    found = [_figure(kind, name, spans) for (kind, name), spans in groups.items()]
    return sorted(found, key=lambda figure: (-figure.total_seconds, figure.kind, figure.name))


def differences(first: Trace, second: Trace) -> list[Difference]:
    """Return what is not alike in two traces: how often it was done, how it ended, its tokens and its cost.

    Times differ always, so they alone are no difference.
    """
    one, two = ({(f.kind, f.name): f for f in figures([trace])} for trace in (first, second))
    keys = [*one, *(key for key in two if key not in one)]
    found = (Difference(kind=k, name=n, first=one.get((k, n)), second=two.get((k, n))) for k, n in keys)
    return [each for each in found if _alike(each.first) != _alike(each.second)]


def _alike(figure: Figure | None) -> object:
    return figure and (figure.count, figure.failed, figure.tokens, figure.cost_usd)


def _figure(kind: str, name: str, spans: list[Span]) -> Figure:
    seconds = sorted(span.seconds for span in spans)
    prices = [span.cost_usd for span in spans if span.kind == "model" and not span.said.get("recorded")]
    known = [price for price in prices if price is not None]
    return Figure(
        kind=kind,
        name=name,
        count=len(spans),
        failed=sum(span.status in ("failed", "interrupted") for span in spans),
        total_seconds=round(sum(seconds), 3),
        p50_seconds=round(statistics.median(seconds), 3),
        p95_seconds=seconds[min(len(seconds) - 1, int(len(seconds) * 0.95))],
        cost_usd=None if len(known) < len(prices) else sum(known, Decimal(0)),
        tokens=sum(span.input_tokens + span.output_tokens for span in spans),
    )
