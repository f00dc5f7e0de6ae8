"""What events count for, and that no label grows without end."""

from __future__ import annotations

from typing import Any

import pytest

from phoenix.telemetry.metrics import REGISTRY, Bounded
from phoenix.telemetry.observing import observe

CALL: dict[str, Any] = {
    "model": "openai:counted",
    "agent": "code",
    "input_tokens": 1200,
    "output_tokens": 34,
    "cost_usd": "0.0125",
    "seconds": 2.5,
    "recorded": False,
    "tool_calls": ["edit_file", "edit_file", "submit"],
}


def value(name: str, **labels: str) -> float:
    """Return what a metric stands at; 0 where nothing was counted."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_a_call_counts_with_tokens_cost_and_tools() -> None:
    """Once each."""
    before = {tool: value("phoenix_tool_calls_total", tool=tool) for tool in ("edit_file", "submit")}
    observe("model_called", CALL)
    observe("model_called", CALL | {"cost_usd": None})
    model = {"model": "openai:counted"}
    assert value("phoenix_model_calls_total", **model, kind="live") == 2
    assert value("phoenix_model_tokens_total", **model, direction="input") == 2400
    assert value("phoenix_model_tokens_total", **model, direction="output") == 68
    assert value("phoenix_model_usd_total", **model) == pytest.approx(0.0125)
    assert value("phoenix_model_call_seconds_sum", **model) == 5.0
    assert value("phoenix_tool_calls_total", tool="edit_file") == before["edit_file"] + 4
    assert value("phoenix_tool_calls_total", tool="submit") == before["submit"] + 2


def test_a_recorded_call_costs_nothing() -> None:
    """It is counted apart, without tokens, time and cost."""
    observe("model_called", CALL | {"model": "openai:replayed", "recorded": True})
    assert value("phoenix_model_calls_total", model="openai:replayed", kind="recorded") == 1
    assert value("phoenix_model_usd_total", model="openai:replayed") == 0
    assert value("phoenix_model_tokens_total", model="openai:replayed", direction="input") == 0


def test_a_cached_answer_is_no_call() -> None:
    """It is counted apart."""
    observe("model_called", CALL | {"model": "openai:cached", "cached": True, "cost_usd": "0"})
    assert value("phoenix_model_calls_total", model="openai:cached", kind="cached") == 1
    assert value("phoenix_model_call_seconds_count", model="openai:cached") == 0


def test_what_happens_beside_answers_is_counted_by_kind_and_reason() -> None:
    """Whatever event of a call it is."""
    before = value("phoenix_model_events_total", kind="retried", reason="model_unavailable")
    observe("model_retried", {"reason": "model_unavailable", "message": "never a label"})
    assert value("phoenix_model_events_total", kind="retried", reason="model_unavailable") == before + 1
    observe("project_delivered", {"branch": "phoenix/x"})


def test_a_label_has_so_many_values_and_no_more() -> None:
    """Later ones share one."""
    bounded = Bounded(2)
    assert [bounded(name) for name in ("a", "b", "c", "a", "d")] == ["a", "b", "other", "a", "other"]
