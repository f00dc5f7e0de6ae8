"""A plan is a DAG of tasks that covers its spec, and says where it does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phoenix.domain.plan import Interface, PlanDraft, Task, check_plan
from phoenix.domain.spec import Criterion, Requirement, SpecDraft
from phoenix.errors import DomainInvalid

SPEC = SpecDraft(
    title="t",
    summary="s",
    requirements=[
        Requirement(
            id="R1",
            text="x",
            criteria=[
                Criterion(id="C1", text="one"),
                Criterion(id="C2", text="two"),
                Criterion(id="C3", text="old", already_holds=True),
            ],
        )
    ],
)


def task(name: str, *after: str, criteria: tuple[str, ...] = (), files: tuple[str, ...] = ()) -> Task:
    return Task(
        id=name,
        title=name,
        description=name,
        depends_on=list(after),
        criteria=list(criteria),
        files=list(files),
    )


def plan(*tasks: Task, interfaces: tuple[str, ...] = ()) -> PlanDraft:
    shared = [Interface(file=file, signature="f()") for file in interfaces]
    return PlanDraft(approach="a", tasks=list(tasks), interfaces=shared)


def problems(draft: PlanDraft) -> list[tuple[str, str]]:
    try:
        check_plan(draft, SPEC)
    except DomainInvalid as error:
        return error.problems
    return []


def test_a_sound_plan_passes() -> None:
    """Tasks in a diamond that cover the spec are accepted; what already holds needs no task."""
    diamond = [task("T1", criteria=("C1",)), task("T2", "T1"), task("T3", "T1"), task("T4", "T2", "T3")]
    assert problems(plan(*diamond[:3], task("T4", "T2", "T3", criteria=("C2",), files=("a/b.py",)))) == []


def test_an_uncovered_criterion_is_named() -> None:
    """A criterion without a task is named with its text."""
    assert problems(plan(task("T1", criteria=("C1",)))) == [("tasks", "no task covers criterion C2: two")]


def test_an_unknown_criterion_is_named_with_its_path() -> None:
    """A task that claims a criterion the spec has not is pointed at."""
    found = problems(plan(task("T1", criteria=("C1", "C2")), task("T2", criteria=("C9",))))
    assert found == [("tasks[1].criteria", "the spec has no criterion C9")]


def test_an_unknown_dependency_is_named_with_its_path() -> None:
    """A task that waits for one that is not there is pointed at."""
    found = problems(plan(task("T1", criteria=("C1", "C2")), task("T2", "T7")))
    assert found == [("tasks[1].depends_on", "T2 depends on unknown task T7")]


def test_an_id_used_twice_is_named() -> None:
    """Two tasks of one id are refused."""
    found = problems(plan(task("T1", criteria=("C1", "C2")), task("T1")))
    assert found == [("tasks", "id T1 is used more than once")]


@pytest.mark.parametrize(
    ("tasks", "circle"),
    [
        ([task("T1", "T1", criteria=("C1", "C2"))], "T1 -> T1"),
        ([task("T1", criteria=("C1", "C2")), task("T2", "T3"), task("T3", "T2")], "T2 -> T3 -> T2"),
        ([task("T1", "T2", criteria=("C1", "C2")), task("T2", "T3"), task("T3", "T2")], "T2 -> T3 -> T2"),
    ],
)
def test_a_circle_is_drawn(tasks: list[Task], circle: str) -> None:
    """A cycle is refused with the way around it, without what only leads to it."""
    assert problems(plan(*tasks)) == [("tasks", f"depends_on goes in a circle: {circle}")]


@pytest.mark.parametrize(
    "file",
    ["/etc/passwd", "../x.py", "a/../../x.py", "..\\x.py", ".git/hooks/pre-commit", "a/.git/config", ".."],
)
def test_files_outside_the_repository_are_refused(file: str) -> None:
    """Absolute, climbing and git's own paths are refused in tasks and interfaces, with their place."""
    draft = plan(task("T1", criteria=("C1", "C2"), files=("ok.py", file)), interfaces=(file,))
    assert [where for where, _ in problems(draft)] == ["tasks[0].files", "interfaces[0].file"]


def test_all_problems_are_told_at_once() -> None:
    """The agent that revises gets every problem in one message."""
    with pytest.raises(DomainInvalid) as caught:
        check_plan(plan(task("T1", "T9", criteria=("C8",), files=("/x",))), SPEC)
    assert len(caught.value.problems) == 5
    assert "tasks[0].depends_on: T1 depends on unknown task T9" in str(caught.value)


@given(st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8)), max_size=20))
def test_exactly_the_plans_with_an_order_pass(edges: list[tuple[int, int]]) -> None:
    """A plan passes if and only if its tasks can be put in an order."""
    after: dict[int, set[int]] = {n: set() for n in range(1, 9)}
    for task_number, dependency in edges:
        after[task_number].add(dependency)
    tasks = [
        task(f"T{n}", *(f"T{d}" for d in sorted(after[n])), criteria=("C1", "C2") if n == 1 else ())
        for n in after
    ]
    left = dict(after)
    while free := [n for n, needs in left.items() if not needs & left.keys()]:
        for n in free:
            del left[n]
    assert (problems(plan(*tasks)) == []) == (not left)


def test_a_long_chain_is_checked() -> None:
    """Forty tasks one after the other are no circle."""
    chain = [task(f"T{n}", *([f"T{n - 1}"] if n > 1 else []), criteria=("C1", "C2")) for n in range(1, 41)]
    assert problems(plan(*chain)) == []


def test_a_task_is_found_by_its_id() -> None:
    """A known id gives the task, an unknown one an error."""
    draft = plan(task("T1"), task("T2"))
    assert draft.task("T2").title == "T2"
    with pytest.raises(DomainInvalid, match="no task T3"):
        draft.task("T3")
