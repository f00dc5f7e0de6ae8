"""The page of the metrics, from the registries that a process exposes."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from manual.tables import code, table
from phoenix.api.exposition import _Gauges
from phoenix.domain.fleet import Fleet, Lag
from phoenix.telemetry.metrics import REGISTRY

INTRODUCTION = """# Metrics

What `/metrics` of the probe port answers. Counters and histograms are the process's own; gauges are the installation's, but for
those of connections and circuits. What they are for, dashboards and alerts: [Monitoring](../monitoring.md).

"""


def page() -> str:
    """Return all metrics with type, labels and meaning."""
    rows = [(code(name), kind, labels, about) for name, kind, labels, about in sorted(rows_of_all())]
    return INTRODUCTION + table(("metric", "type", "labels", "what"), rows)


def rows_of_all() -> Iterator[tuple[str, str, str, str]]:
    """Return name, type, labels and meaning of each metric."""
    for collector in set(REGISTRY._names_to_collectors.values()):
        for family in collector.collect():
            yield _row(family, getattr(collector, "_labelnames", ()))
    whole = CollectorRegistry()
    lag = {"default": Lag(count=1)}
    gauges = _Gauges(
        Fleet(runs={"waiting": 1}, due=lag, workers={"active": 1}, approvals=lag), (2, 1), {"a:b": "open"}
    )
    whole.register(_AsCollector(gauges))
    for family in gauges.collect():
        yield _row(family, tuple(family.samples[0].labels) if family.samples else ())


class _AsCollector(Collector):
    def __init__(self, inner: Collector) -> None:
        self._inner = inner

    def collect(self) -> Iterator[Metric]:
        yield from self._inner.collect()


def _row(family: Metric, labels: tuple[str, ...]) -> tuple[str, str, str, str]:
    end = "_total" if family.type == "counter" else ""
    return family.name + end, family.type, ", ".join(labels), family.documentation
