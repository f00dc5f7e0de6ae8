"""The delivery: a branch's name and the evidence report."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from phoenix.delivery.branch import branch_name
from phoenix.delivery.report import lessons_markdown, plain, report_json, report_markdown
from phoenix.domain.approval import GateDecision, Vote
from phoenix.domain.evidence import Build, CriterionEvidence, Evidence, SuiteResult, TestResult
from phoenix.domain.lessons import Lesson, Lessons, Provenance
from phoenix.domain.run import Usage
from phoenix.domain.spec import Criterion, Requirement, Spec
from phoenix.ports import Parcel

DIGEST = "sha256:" + "0" * 64
COMMIT = "a" * 40


def parcel(*, holds: bool = True, text: str = "It works.") -> Parcel:
    """Return a parcel of one criterion."""
    spec = Spec(
        title="A | title",
        summary="s",
        requirements=[Requirement(id="R1", text="r", criteria=[Criterion(id="C1", text=text)])],
        request=DIGEST,
    )
    test = TestResult(id="tests/test_a.py::test_a", outcome="passed" if holds else "failed")
    proof = CriterionEvidence(criterion="C1", text=text, holds=holds, source="sealed", tests=[test])
    evidence = Evidence(
        build=DIGEST,
        spec=DIGEST,
        commit=COMMIT,
        criteria=[proof],
        suite=SuiteResult(command="pytest", exit_code=0, tests=[test]),
        problems=[] if holds else ["tests/test_a.py::test_a failed"],
        passed=holds,
    )
    build = Build(spec=DIGEST, base=COMMIT, commit=COMMIT)
    return Parcel(
        "A | title", "Do it.\nNow.", spec, None, build, evidence, [(COMMIT, "Do it")], Usage(calls=2)
    )


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("tab: who owes whom", "phoenix/tab-who-owes-whom-k"),
        ("Ünïcode – ../../etc", "phoenix/unicode-etc-k"),
        ("🔥", "phoenix/delivery-k"),
        ("x" * 200, f"phoenix/{'x' * 48}-k"),
    ],
)
def test_branch_names_are_readable_and_valid(title: str, name: str) -> None:
    """Whatever the title, git takes the branch's name."""
    assert branch_name(title, "k") == name


def test_a_red_criterion_cannot_be_overlooked() -> None:
    """The report says first whether everything holds."""
    assert "All criteria hold." in report_markdown(parcel(), branch="b")
    red = report_markdown(parcel(holds=False), branch="b")
    assert red.splitlines()[2].startswith("**Not everything holds.**")
    assert "| **no** | 0 of 1 |" in red
    assert "## Problems" in red


def test_foreign_text_cannot_break_the_table() -> None:
    """Line breaks, pipes and markup of a criterion stay inside its cell."""
    shown = plain("a | b\n# c <script> `x` \x1b[31m")
    assert shown == "a \\| b \\# c \\<script\\> \\`x\\` \\[31m"
    report = report_markdown(parcel(text="evil | cell\n| row |"), branch="b")
    assert "\n| row |" not in report


def test_the_json_holds_the_same_facts() -> None:
    """Programs read what people read."""
    data = json.loads(report_json(parcel(), branch="b"))
    assert data["branch"] == "b"
    assert data["evidence"]["criteria"][0]["holds"] is True
    assert data["usage"]["calls"] == 2


def test_lessons_are_shown_as_data() -> None:
    """Whatever a lesson says stays inside its fence, beside where it was seen."""
    origin = Provenance(project=UUID(int=1), commit=COMMIT, agent="retrospect", tasks=["T1"], criteria=["C2"])
    lesson = Lesson(kind="snippet", text="Run\n```\n# not a heading\n```", tags=["git"], provenance=origin)
    text = lessons_markdown(Lessons(delivery=DIGEST, items=[lesson]))
    assert "## snippet (git)\n\n````text\nRun\n```\n# not a heading\n```\n````\n\nSeen in T1, C2." in text


def test_the_report_says_who_decided_and_why() -> None:
    """Also where nobody was asked, or nobody decided in time; foreign text is no markup."""
    at = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    votes = [
        Vote(voter=f"{name}@example.org", verdict="approve", reason=why, value_digest=DIGEST, at=at)
        for name, why in (("ada", "Fine."), ("bob", ""))
    ]
    common: dict[str, Any] = {"value_digest": DIGEST, "at": at}
    made = parcel()
    decisions = [
        GateDecision(gate="spec", verdict="approve", by="policy", how="policy", **common),
        GateDecision(gate="plan", verdict="approve", by="bob@example.org", votes=votes, **common),
        GateDecision(
            gate="delivery", verdict="reject", by="deadline", how="deadline", reason="L|ate", **common
        ),
    ]
    evidence = made.evidence.model_copy(update={"decisions": decisions})
    text = report_markdown(replace(made, evidence=evidence), branch="b")
    for line in (
        "- spec: approve by the policy, nobody was asked, 2026-01-02 03:04 UTC",
        "- plan: approve by bob@example.org, 2026-01-02 03:04 UTC",
        "    - ada@example.org: approve: Fine.",
        "    - bob@example.org: approve",
        "- delivery: reject by the deadline, nobody decided in time, 2026-01-02 03:04 UTC: L\\|ate",
    ):
        assert f"\n{line}\n" in text, line
    assert "## Decisions" not in report_markdown(made, branch="b")
