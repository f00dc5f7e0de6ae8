"""Prometheus metrics of this process. No label has values without end: ids and texts are never labels."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

REGISTRY: Final = CollectorRegistry()
CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
MOST_VALUES = 100
"""Values of a label that comes from outside, such as a model's name; later ones are counted as `other`."""

FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SLOW = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
SIZES = (1, 2, 5, 10, 20, 50, 100, 150)

REQUESTS: Final = Counter(
    "phoenix_http_requests", "Requests answered.", ["method", "route", "status"], registry=REGISTRY
)
REQUEST_SECONDS: Final = Histogram(
    "phoenix_http_request_seconds",
    "Time to the end of an answer; streams of events are left out.",
    ["method", "route"],
    buckets=FAST,
    registry=REGISTRY,
)
QUEUE_SECONDS: Final = Histogram(
    "phoenix_queue_wait_seconds",
    "From being due to being taken by a worker.",
    ["queue"],
    buckets=(*FAST, 30.0, 60.0, 300.0, 1800.0),
    registry=REGISTRY,
)
RUN_SECONDS: Final = Histogram(
    "phoenix_run_turn_seconds",
    "How long a worker had a run in hand, until it ended, waited or was handed back.",
    ["flow"],
    buckets=SLOW,
    registry=REGISTRY,
)
RUNS_ENDED: Final = Counter(
    "phoenix_runs_ended", "Runs ended by this process.", ["flow", "status"], registry=REGISTRY
)
STEP_SECONDS: Final = Histogram(
    "phoenix_step_seconds", "Time of one step.", ["step", "outcome"], buckets=SLOW, registry=REGISTRY
)
MODEL_CALLS: Final = Counter(
    "phoenix_model_calls",
    "Answers of models; recorded and cached ones apart.",
    ["model", "kind"],
    registry=REGISTRY,
)
MODEL_SECONDS: Final = Histogram(
    "phoenix_model_call_seconds", "Time to a whole answer.", ["model"], buckets=SLOW, registry=REGISTRY
)
MODEL_TOKENS: Final = Counter(
    "phoenix_model_tokens", "Tokens of answered calls.", ["model", "direction"], registry=REGISTRY
)
MODEL_USD: Final = Counter(
    "phoenix_model_usd", "USD of answered calls whose price is known.", ["model"], registry=REGISTRY
)
MODEL_EVENTS: Final = Counter(
    "phoenix_model_events",
    "What happened to calls beside their answers: retries, repairs, replays, fallbacks, cache hits.",
    ["kind", "reason"],
    registry=REGISTRY,
)
TOOL_CALLS: Final = Counter("phoenix_tool_calls", "Calls of tools.", ["tool"], registry=REGISTRY)
SANDBOX_COMMANDS: Final = Counter(
    "phoenix_sandbox_commands", "Commands executed in sandboxes.", ["kind", "outcome"], registry=REGISTRY
)
SANDBOX_SECONDS: Final = Histogram(
    "phoenix_sandbox_command_seconds", "Time of a command.", ["kind"], buckets=SLOW, registry=REGISTRY
)
CHECKPOINT_BATCH: Final = Histogram(
    "phoenix_checkpoint_batch_calls",
    "Calls of the checkpointer that one statement served.",
    ["what"],
    buckets=SIZES,
    registry=REGISTRY,
)
EVENT_SECONDS: Final = Histogram(
    "phoenix_event_write_seconds", "From an event to its commit.", buckets=FAST, registry=REGISTRY
)
SPANS: Final = Counter(
    "phoenix_spans",
    "Spans of traces: kept, sent, left out under load or beyond a limit, lost since nobody took them.",
    ["outcome"],
    registry=REGISTRY,
)
TRACE_LEVEL: Final = Gauge(
    "phoenix_trace_level",
    "How much is traced: 0 all, 1 without SQL, git and sandbox, 2 only runs and turns.",
    registry=REGISTRY,
)
TRACE_CHANGES: Final = Counter(
    "phoenix_trace_level_changes", "Changes of how much is traced.", ["level"], registry=REGISTRY
)


class Bounded:
    """Values of one label: the first so many are themselves, later ones `other`."""

    def __init__(self, most: int = MOST_VALUES) -> None:
        self._most = most
        self._seen: set[str] = set()

    def __call__(self, value: object) -> str:
        """Return what stands for a value."""
        text = str(value)[:80]
        if text not in self._seen:
            if len(self._seen) >= self._most:
                return "other"
            self._seen.add(text)
        return text


def exposition() -> bytes:
    """Return this process's metrics in Prometheus' text form."""
    return generate_latest(REGISTRY)
