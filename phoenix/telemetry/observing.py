"""What events say in numbers: each event of a run is counted once, by the worker it runs on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from phoenix.telemetry.metrics import (
    MODEL_CALLS,
    MODEL_EVENTS,
    MODEL_SECONDS,
    MODEL_TOKENS,
    MODEL_USD,
    STEP_SECONDS,
    TOOL_CALLS,
    Bounded,
)

Data = Mapping[str, Any]

_model, _step, _tool, _reason = Bounded(), Bounded(200), Bounded(), Bounded()


def _model_called(data: Data) -> None:
    model = _model(data.get("model", ""))
    kind = "recorded" if data.get("recorded") else "cached" if data.get("cached") else "live"
    MODEL_CALLS.labels(model, kind).inc()
    for name in data.get("tool_calls", ()):
        TOOL_CALLS.labels(_tool(name)).inc()
    if kind != "live":
        return
    MODEL_SECONDS.labels(model).observe(float(data.get("seconds", 0.0)))
    for direction in ("input", "output"):
        MODEL_TOKENS.labels(model, direction).inc(int(data.get(f"{direction}_tokens", 0)))
    if data.get("cost_usd") is not None:
        MODEL_USD.labels(model).inc(float(data["cost_usd"]))


def _step_ended(outcome: str) -> Callable[[Data], None]:
    def observe(data: Data) -> None:
        STEP_SECONDS.labels(_step(data.get("step", "")), outcome).observe(float(data.get("seconds", 0.0)))

    return observe


_OF: Mapping[str, Callable[[Data], None]] = {
    "model_called": _model_called,
    "step_finished": _step_ended("finished"),
    "step_failed": _step_ended("failed"),
}
_OF_CALLS = "model_"


def observe(kind: str, data: Data) -> None:
    """Count an event."""
    if (counted := _OF.get(kind)) is not None:
        counted(data)
    elif kind.startswith(_OF_CALLS):
        MODEL_EVENTS.labels(kind.removeprefix(_OF_CALLS), _reason(data.get("reason", ""))).inc()
