"""A decision is complete: a rejection says why, an edit says what."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from phoenix.domain.approval import Decision


@pytest.mark.parametrize(
    "decision",
    [
        {"verdict": "approve"},
        {"verdict": "reject", "reason": "too large"},
        {"verdict": "edit", "value": {"title": "t"}},
        {"verdict": "respond", "value": {}},
    ],
)
def test_complete_decisions_are_accepted(decision: dict[str, object]) -> None:
    """Each verdict with what it needs is a decision."""
    assert Decision.model_validate(decision).verdict == decision["verdict"]


@pytest.mark.parametrize(
    ("decision", "needs"),
    [
        ({"verdict": "reject"}, "reason"),
        ({"verdict": "reject", "reason": "  \n"}, "reason"),
        ({"verdict": "edit"}, "value"),
        ({"verdict": "respond"}, "value"),
        ({"verdict": "postpone"}, "verdict"),
        ({"verdict": "reject", "reason": "x" * 20_001}, "reason"),
    ],
)
def test_incomplete_decisions_are_refused(decision: dict[str, object], needs: str) -> None:
    """What is missing is named."""
    with pytest.raises(ValidationError, match=needs):
        Decision.model_validate(decision)
