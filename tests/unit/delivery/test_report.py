"""The delivery: a branch's name and the evidence report."""

from __future__ import annotations

import json

import pytest

from phoenix.delivery.branch import branch_name
from phoenix.delivery.report import plain, report_json, report_markdown
from phoenix.domain.evidence import Build, CriterionEvidence, Evidence, SuiteResult, TestResult
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
