"""What Prometheus scrapes: this process's metrics, and how the whole installation stands."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from phoenix import __version__
from phoenix.domain.fleet import Fleet, Lag
from phoenix.engine.fleet import FleetWatch
from phoenix.errors import DatabaseUnavailable
from phoenix.telemetry.metrics import MOST_VALUES, exposition

FRESH_SECONDS = 5.0
"""However many scrape, the database is looked at no more often."""


class Exposition:
    """Writes metrics in Prometheus' text form.

    Every process tells the same of the installation: take `max` over instances, never a sum.

    Args:
        watch: Looks at the installation.
        circuits: Tells how the circuit of each model stands, where one was looked at: `closed`, `open`,
            `half_open`.
    """

    def __init__(self, watch: FleetWatch, circuits: Callable[[], Mapping[str, str]] = dict[str, str]) -> None:
        self._watch = watch
        self._circuits = circuits
        self._fleet: Fleet | None = None
        self._looked = float("-inf")

    async def __call__(self) -> bytes:
        """Return all of it. Where the database is away it says so, and the process's own metrics stay."""
        if time.monotonic() - self._looked > FRESH_SECONDS:
            self._looked = time.monotonic()
            try:
                self._fleet = await self._watch.look()
            except DatabaseUnavailable:
                self._fleet = None
        registry = CollectorRegistry()
        registry.register(_Gauges(self._fleet, self._watch.connections, self._circuits()))
        return exposition() + generate_latest(registry)


class _Gauges(Collector):
    def __init__(
        self, fleet: Fleet | None, connections: tuple[int, int], circuits: Mapping[str, str]
    ) -> None:
        self._fleet = fleet
        self._connections = connections
        self._circuits = circuits

    def collect(self) -> Iterable[Metric]:
        yield _gauge("phoenix_info", "What runs here.", {__version__: 1}, label="version")
        yield _gauge(
            "phoenix_database_up", "Whether the database answers.", {"": int(self._fleet is not None)}
        )
        total, in_use = self._connections
        states = {"in_use": in_use, "idle": total - in_use}
        yield _gauge("phoenix_database_connections", "This process's, by state.", states, label="state")
        is_open = {
            name[:80]: int(state != "closed") for name, state in [*self._circuits.items()][:MOST_VALUES]
        }
        yield _gauge("phoenix_model_circuit_open", "Models that are left alone.", is_open, label="model")
        if self._fleet is None:
            return
        fleet = self._fleet
        yield _gauge("phoenix_runs", "Unfinished runs of the installation.", fleet.runs, label="status")
        yield _gauge("phoenix_workers", "Living workers of the installation.", fleet.workers, label="state")
        yield from _lag("phoenix_queue", "Runs that wait for a worker", fleet.due, label="queue")
        yield from _lag("phoenix_approvals", "Approvals that wait for people", fleet.approvals, label="gate")


def _lag(name: str, about: str, lags: dict[str, Lag], *, label: str) -> Iterable[Metric]:
    counts = {key: lag.count for key, lag in lags.items()}
    ages = {key: lag.oldest_seconds for key, lag in lags.items()}
    yield _gauge(f"{name}_waiting", f"{about}.", counts, label=label)
    yield _gauge(f"{name}_oldest_seconds", f"{about}: age of the oldest.", ages, label=label)


def _gauge(name: str, about: str, values: dict[str, int] | dict[str, float], *, label: str = "") -> Metric:
    family = GaugeMetricFamily(name, about, labels=[label] if label else [])
    for value, number in values.items():
        family.add_metric([value] if label else [], number)
    return family
