"""The content address of a task: all that decides what it comes to, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from phoenix.domain.evidence import Sealed, SealedFile, SealedTest
from phoenix.domain.plan import Interface, Plan, Task
from phoenix.domain.spec import Criterion, Requirement, Spec
from phoenix.domain.work import TaskWork
from phoenix.workflows.reuse import Readings

DIGEST = "sha256:" + "0" * 64
COMMIT, TREE = "0" * 40, "1" * 40
FILE = "tests/acceptance/test_acceptance_all.py"
TESTS = "def test_one():\n    assert one()\n\n\ndef test_two():\n    assert two()\n"


def readings(**changes: Any) -> Readings:
    """Return what two tasks read; changes are texts by name."""
    texts = {"C1": "one", "C2": "two", "tests": TESTS, "signature": "def one() -> int"} | changes
    criteria = [Criterion(id=i, text=texts[i]) for i in ("C1", "C2")]
    spec = Spec(
        title="t",
        summary=texts.get("summary", "s"),
        requirements=[Requirement(id="R1", text="r", criteria=criteria)],
        request=DIGEST,
    )
    plan = Plan(
        approach=texts.get("approach", "a"),
        interfaces=[Interface(file="a.py", signature=texts["signature"])],
        tasks=[
            Task(id="T1", title="t", description="d", criteria=["C1"]),
            Task(id="T2", title="t", description="d", criteria=["C2"]),
        ],
        spec=DIGEST,
    )
    sealed = Sealed(
        contract=DIGEST,
        base=COMMIT,
        files=[SealedFile(path=FILE, content=texts["tests"], sha256="0" * 64)],
        tests=[
            SealedTest(id=f"{FILE}::test_{name}", criterion=c, red=True)
            for name, c in (("one", "C1"), ("two", "C2"))
            if f"test_{name}" in texts["tests"]
        ],
    )
    return Readings(spec, plan, sealed)


WORK = TaskWork(
    spec=DIGEST,
    plan=DIGEST,
    sealed=DIGEST,
    task="T1",
    title="t",
    brief="d",
    criteria=["C1"],
    files=["a.py"],
    check="true",
    base=COMMIT,
)
ADDRESS = readings().address(WORK, TREE)


@pytest.mark.parametrize(
    "changes",
    [
        {"C1": "another one"},
        {"signature": "def one(n: int) -> int"},
        {"tests": TESTS.replace("assert one()", "assert one() == 1")},
        {"tests": f"import os\n{TESTS}"},
    ],
)
def test_what_a_task_reads_changes_its_address(changes: dict[str, str]) -> None:
    """Its criteria, interfaces and sealed tests, and what those tests share."""
    assert readings(**changes).address(WORK, TREE) != ADDRESS


@pytest.mark.parametrize(
    "changes",
    [
        {"C2": "another two"},
        {"summary": "in other words"},
        {"approach": "said otherwise"},
        {"tests": TESTS.replace("assert two()", "assert two() == 2")},
        {"tests": TESTS[: TESTS.index("\n\ndef test_two")]},
        {"tests": f"# a comment\n{TESTS}"},
    ],
)
def test_what_only_others_read_does_not(changes: dict[str, str]) -> None:
    """Other criteria and their tests, in the same file or gone from it, and how things are worded."""
    assert readings(**changes).address(WORK, TREE) == ADDRESS


@pytest.mark.parametrize(
    "update", [{"task": "T2"}, {"title": "x"}, {"brief": "x"}, {"files": []}, {"check": ""}, {"criteria": []}]
)
def test_its_definition_changes_it(update: dict[str, Any]) -> None:
    """Each part of it."""
    assert readings().address(WORK.model_copy(update=update), TREE) != ADDRESS


def test_files_decide_and_commits_do_not() -> None:
    """The same files under another commit, or documents stored under other digests, are the same reading."""
    other = WORK.model_copy(update={"base": "2" * 40, "spec": "sha256:" + "1" * 64, "round": 2})
    assert readings().address(other, TREE) == ADDRESS
    assert readings().address(WORK, "3" * 40) != ADDRESS
