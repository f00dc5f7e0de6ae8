"""Orders and sets that a build derives from its plan."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from phoenix.domain.plan import Plan, Task
from phoenix.domain.work import TaskWork
from phoenix.workflows.building import in_order
from phoenix.workflows.task import decidable

DIGEST = "sha256:" + "0" * 64
COMMIT = "0" * 40


def make_plan(edges: dict[int, list[int]], criteria: dict[int, list[str]] | None = None) -> Plan:
    """Return a plan of numbered tasks and what each depends on."""
    tasks = [
        Task(
            id=f"T{n}",
            title="t",
            description="d",
            depends_on=[f"T{d}" for d in after],
            criteria=(criteria or {}).get(n, []),
        )
        for n, after in edges.items()
    ]
    return Plan(approach="a", tasks=tasks, spec=DIGEST)


def work(task: str, criteria: list[str]) -> TaskWork:
    """Return a task at work."""
    return TaskWork(spec=DIGEST, task=task, title="t", brief="b", criteria=criteria, base=COMMIT)


@given(st.data())
def test_each_task_comes_after_what_it_depends_on(data: st.DataObject) -> None:
    """The merge queue's order respects every dependency, and holds each task once."""
    size = data.draw(st.integers(1, 8))
    numbers = data.draw(st.permutations(range(1, size + 1)))
    edges = {
        n: data.draw(st.lists(st.sampled_from(numbers[:i]), unique=True)) if i else []
        for i, n in enumerate(numbers)
    }
    shuffled = dict(data.draw(st.permutations(sorted(edges.items()))))
    order = in_order(make_plan(shuffled))
    assert sorted(order) == sorted(f"T{n}" for n in numbers)
    for n, after in edges.items():
        assert all(order.index(f"T{d}") < order.index(f"T{n}") for d in after)


def test_independent_tasks_keep_the_order_of_the_plan() -> None:
    """Ties are broken by the plan, so that the order is always the same."""
    assert in_order(make_plan({2: [], 1: [], 3: [2]})) == ["T2", "T1", "T3"]


def test_a_criterion_is_decidable_when_nobody_else_has_a_part_in_it() -> None:
    """A task is judged by the criteria that it completes with what it stands on."""
    plan = make_plan({1: [], 2: [], 3: [1, 2]}, {1: ["C1", "C3"], 2: ["C2"], 3: ["C3"]})
    assert decidable(plan, work("T1", ["C1", "C3"])) == {"C1"}
    assert decidable(plan, work("T3", ["C3"])) == {"C3"}
    assert decidable(plan, work("R2", ["C1", "C2"])) == {"C1", "C2"}
