"""Budgets on the command line: asked for, shown, and beside what a plan is expected to cost."""

from __future__ import annotations

import io
from decimal import Decimal
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from phoenix.cli import new as new_module
from phoenix.cli.app import app
from phoenix.cli.budgets import limits_text
from phoenix.cli.documents import document
from phoenix.cli.new import NewOptions, launch_of
from phoenix.domain.approval import HumanRequest
from phoenix.domain.budget import Budget, ProjectLimits
from phoenix.domain.forecast import ASSUMED, Range, forecast

PAST = {"S": Range(usd=Decimal("0.11"), low=Decimal("0.04"), high=Decimal("0.52"), tasks=12)}


def printed(shown: Any) -> str:
    """Return what a terminal shows."""
    out = io.StringIO()
    Console(file=out, width=120).print(shown)
    return out.getvalue()


def test_options_become_limits_of_the_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Minutes are seconds there; what is left out has no limit."""
    seen: list[NewOptions] = []

    async def caught(options: NewOptions) -> int:
        seen.append(options)
        return 0

    monkeypatch.setattr(new_module, "new", caught)
    words = ["new", "a tool", "--budget-usd", "5", "--budget-tokens", "90000", "--budget-minutes", "30"]
    assert CliRunner().invoke(app, words).exit_code == 0
    launch = launch_of(seen[0])
    assert launch.budget_usd == Decimal(5)
    assert launch.limits == ProjectLimits(tokens=90_000, wall_seconds=1800)
    assert launch_of(NewOptions("a tool", budget_calls=7)).limits == ProjectLimits(calls=7)
    assert launch_of(NewOptions("a tool")).limits == ProjectLimits()


@pytest.mark.parametrize("option", ["--budget-tokens", "--budget-calls", "--budget-minutes"])
@pytest.mark.parametrize("amount", ["0", "-1", "many"])
def test_no_such_budget_is_refused(option: str, amount: str) -> None:
    """A budget of nothing is a mistake, and never no budget."""
    assert CliRunner().invoke(app, ["new", "a tool", option, amount]).exit_code == 2


@pytest.mark.parametrize(
    ("usd", "limits", "said"),
    [
        (None, ProjectLimits(), ""),
        (Decimal(5), ProjectLimits(), "$5.00"),
        (Decimal("0.125"), ProjectLimits(calls=7), "$0.125, 7 calls"),
        (None, ProjectLimits(tokens=9, wall_seconds=120), "9 tokens, 2 minutes"),
        (
            None,
            ProjectLimits(task=Budget(usd=Decimal("1.5"), wall_seconds=61)),
            "each task $1.50, 61 seconds",
        ),
        (Decimal(1), ProjectLimits(task=Budget(calls=3)), "$1.00; each task 3 calls"),
    ],
)
def test_limits_are_said_in_words(usd: Decimal | None, limits: ProjectLimits, said: str) -> None:
    """Each with its unit; nothing where there are none."""
    assert limits_text(usd, limits) == said


def request(notes: dict[str, Any]) -> HumanRequest:
    """Return a plan that people are asked for."""
    schema = {"x-phoenix-type": "phoenix.domain.plan:Plan"}
    value = {"approach": "first"}
    return HumanRequest(
        kind="approve", name="plan", value_digest="d", value=value, answer_schema=schema, notes=notes
    )


def test_a_plan_is_shown_with_what_it_is_expected_to_cost() -> None:
    """Task by task with its range and where that is from, and the sum."""
    expected = forecast([("T1", "S"), ("T2", "L")], PAST)
    shown = printed(document(request({"forecast": expected.model_dump(mode="json")})))
    (first,) = [row for row in shown.splitlines() if row.strip().startswith("T1")]
    (second,) = [row for row in shown.splitlines() if row.strip().startswith("T2")]
    assert first.split() == ["T1", "S", "$0.11", "$0.04", "to", "$0.52", "12", "past", "tasks"]
    assert "assumed" in second
    assert f"${ASSUMED['L'].usd:.2f}" in second
    assert (
        f"Expected: ${expected.usd:.2f} for all tasks (${expected.low:.2f} to ${expected.high:.2f})." in shown
    )


def test_a_plan_without_or_with_an_unknown_forecast_is_shown_all_the_same() -> None:
    """Another version's form is shown as it is."""
    assert "Expected" not in printed(document(request({})))
    assert "guess: 7" in printed(document(request({"forecast": {"guess": 7}})))
