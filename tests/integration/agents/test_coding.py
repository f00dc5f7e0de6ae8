"""The coding agent's loop over a real worktree and a real sandbox."""

from __future__ import annotations

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from typing_extensions import TypedDict

from phoenix.agents.coder import work_on
from phoenix.agents.coding import Submission
from phoenix.domain.work import TaskWork
from phoenix.llm.scripted import Line, Say
from phoenix.ports import Ports
from tests.integration.agents.conftest import Bench, MakeBench

ADD = "def add(a: int, b: int) -> int:\n    return a + b\n"
TEST = "from calc import add\n\n\ndef test_add():\n    assert add(2, 2) == 4\n"
SUBMIT = Say(calls=[("submit", {"summary": "Added add."})])


def submit(test: str) -> Say:
    """Return a submission that names a test."""
    declared = [{"criterion": "C1", "tests": [test]}]
    return Say(calls=[("submit", {"summary": "Added add.", "tests": declared})])


class Crash(Exception):
    """The process ends here."""


class State(TypedDict, total=False):
    result: dict[str, object]


async def work(bench: Bench) -> Submission:
    """Run the agent as a step of a graph, as the product does."""
    spec = await bench.spec("add(2, 2) returns 4")
    task = TaskWork(
        spec=spec.digest(), task="T1", title="Add", brief="Write add.", criteria=["C1"], base=bench.base
    )
    found: list[Submission] = []

    async def step(state: State, runtime: Runtime[Ports]) -> State:
        found.append(await work_on(task, runtime.context, tree_name="task-T1"))
        return {}

    graph = StateGraph(State, context_schema=Ports)
    graph.add_node("code", step)
    graph.add_edge(START, "code")
    graph.add_edge("code", END)
    await graph.compile(checkpointer=InMemorySaver()).ainvoke(
        {}, {"configurable": {"thread_id": "t"}}, context=bench.ports, durability="sync"
    )
    return found[0]


async def test_writes_tests_and_submits(bench: MakeBench) -> None:
    """A model that edits, checks and submits leaves a commit with its files."""
    lines: list[Line] = [
        Say(calls=[("edit_file", {"path": "calc.py", "old": "", "new": ADD})]),
        Say(calls=[("edit_file", {"path": "tests/test_calc.py", "old": "", "new": TEST})]),
        Say(calls=[("run_checks", {})]),
        submit("tests/test_calc.py::test_add"),
    ]
    made = await bench({"code": lines})
    done = await work(made)
    assert done.submitted
    assert done.summary == "Added add."
    assert [d.criterion for d in done.declared] == ["C1"]
    assert await made.ports.workspace.read(done.commit, "calc.py") == ADD.encode()
    results = [e["result"] for e in made.events.of("tool_called") if e["tool"] == "run_checks"]
    assert results == ["Tests: 1 passed"]


async def test_defers_a_second_writer_of_the_same_turn(bench: MakeBench) -> None:
    """Of two writing calls in one turn the first runs, and the second is asked for again."""
    lines: list[Line] = [
        Say(
            calls=[
                ("edit_file", {"path": "calc.py", "old": "", "new": ADD}),
                ("bash", {"command": "rm calc.py"}),
            ]
        ),
        SUBMIT,
    ]
    made = await bench({"code": lines})
    done = await work(made)
    assert await made.ports.workspace.read(done.commit, "calc.py") == ADD.encode()
    answers = [str(m.content) for m in made.model.requests[-1].messages if m.type == "tool"]
    assert answers[0] == "Created calc.py."
    assert answers[1].startswith("Deferred")


async def test_stops_a_model_that_goes_in_circles(bench: MakeBench) -> None:
    """The same call on the same code is refused after three times."""
    same = Say(calls=[("bash", {"command": "cat nothing"})])
    made = await bench({"code": [same, same, same, same, SUBMIT]})
    await work(made)
    answers = [str(m.content) for m in made.model.requests[-1].messages if m.type == "tool"]
    assert "exit code 1" in answers[2]
    assert answers[3].startswith("Refused: you made this same call 3 times")


async def test_reminds_a_model_that_only_talks(bench: MakeBench) -> None:
    """An answer without a tool call is followed by a reminder, three times at most."""
    made = await bench({"code": ["Sure!", "I will.", SUBMIT]})
    assert (await work(made)).submitted
    made = await bench({"code": ["a", "b", "c", "d", "e"]})
    done = await work(made)
    assert not done.submitted
    assert len(made.model.requests) == 4


async def test_answers_bad_calls_with_what_is_wrong(bench: MakeBench) -> None:
    """Paths outside, text that is not there, unknown files: the model reads why and goes on."""
    lines: list[Line] = [
        Say(calls=[("read_file", {"path": "../../etc/passwd"})]),
        Say(calls=[("edit_file", {"path": "tests/acceptance/test_x.py", "old": "", "new": "x"})]),
        Say(calls=[("edit_file", {"path": "calc.py", "old": "x", "new": "y"})]),
        Say(calls=[("read_file", {"path": "nothing.py"})]),
        Say(calls=[("read_file", {"wrong": "nothing.py"})]),
        SUBMIT,
    ]
    made = await bench({"code": lines})
    assert (await work(made)).submitted
    answers = [str(m.content) for m in made.model.requests[-1].messages if m.type == "tool"]
    assert "not a path inside the repository" in answers[0]
    assert "belongs to the acceptance tests" in answers[1]
    assert "There is no file calc.py" in answers[2]
    assert answers[3] == "There is no file nothing.py."
    assert "path" in answers[4]


async def test_keeps_a_long_output_readable(bench: MakeBench) -> None:
    """A long output is shown head and tail, and the rest can be read by line."""
    lines: list[Line] = [Say(calls=[("bash", {"command": "seq 1 20000"})])]

    def script(request: object) -> Line:
        asked = made.model.requests[-1].messages
        tools = [str(m.content) for m in asked if m.type == "tool"]
        if not tools:
            return lines[0]
        if len(tools) == 1:
            name = tools[0].split("read_file ")[1].split("]")[0]
            return Say(calls=[("read_file", {"path": name, "start": 9000, "end": 9001})])
        return SUBMIT

    made = await bench(script)
    await work(made)
    tools = [str(m.content) for m in made.model.requests[-1].messages if m.type == "tool"]
    assert len(tools[0]) < 14_000
    assert "characters left out" in tools[0]
    assert "9000  9000" in tools[1]


async def test_goes_on_from_the_last_tool_call_with_its_files(bench: MakeBench) -> None:
    """After a crash the loop resumes at the failed turn, on the files of the last finished call."""
    lines: list[Line] = [
        Say(calls=[("edit_file", {"path": "calc.py", "old": "", "new": ADD})]),
        Say(calls=[("bash", {"command": "ls"})]),
        SUBMIT,
    ]
    crashes = [1]

    def script(request: object) -> Line:
        turn = sum(m.type == "ai" for m in made.model.requests[-1].messages)
        if turn == 1 and crashes:
            crashes.pop()
            raise Crash
        return lines[turn]

    made = await bench(script)
    spec = await made.spec("add(2, 2) returns 4")
    task = TaskWork(
        spec=spec.digest(), task="T1", title="Add", brief="Write add.", criteria=["C1"], base=made.base
    )
    found: list[Submission] = []

    async def step(state: State, runtime: Runtime[Ports]) -> State:
        found.append(await work_on(task, runtime.context, tree_name="task-T1"))
        return {}

    graph = StateGraph(State, context_schema=Ports)
    graph.add_node("code", step)
    graph.add_edge(START, "code")
    graph.add_edge("code", END)
    app = graph.compile(checkpointer=InMemorySaver())
    thread = {"configurable": {"thread_id": "t"}}
    with pytest.raises(Crash):
        await app.ainvoke({}, thread, context=made.ports, durability="sync")
    tree = await made.ports.workspace.worktree("task-T1", made.base)
    (tree.path / "calc.py").write_text("half written")
    (tree.path / "scratch.txt").write_text("left over")
    await app.ainvoke(None, thread, context=made.ports, durability="sync")
    assert found[0].submitted
    turns = [sum(m.type == "ai" for m in r.messages) for r in made.model.requests]
    assert turns == [0, 1, 1, 2]
    listed = [str(m.content) for m in made.model.requests[-1].messages if m.type == "tool"][1]
    assert listed == "calc.py\n[exit code 0]"
    assert await made.ports.workspace.read(found[0].commit, "calc.py") == ADD.encode()


async def test_a_submission_must_be_green_and_name_tests_that_exist(bench: MakeBench) -> None:
    """Red checks and unknown tests are refused with the reason; who insists is taken at its word."""
    lines: list[Line] = [
        Say(calls=[("edit_file", {"path": "calc.py", "old": "", "new": ADD.replace("+", "-")})]),
        Say(calls=[("edit_file", {"path": "tests/test_calc.py", "old": "", "new": TEST})]),
        SUBMIT,
        Say(calls=[("edit_file", {"path": "calc.py", "old": "a - c", "new": "a + b"})]),
        Say(calls=[("edit_file", {"path": "calc.py", "old": "a - b", "new": "a + b"})]),
        submit("tests/test_calc.py::test_sum"),
        submit("tests/test_calc.py::test_sum"),
    ]
    made = await bench({"code": lines})
    done = await work(made)
    assert done.submitted
    answers = [e["result"] for e in made.events.of("tool_called")]
    assert "Not accepted: the checks are red" in answers[2]
    assert "FAILED tests/test_calc.py::test_add" in answers[2]
    assert "The nearest is at line 2:\n    return a - b" in answers[3]
    assert "there is no test tests/test_calc.py::test_sum" in answers[5]
    assert answers[6] == "Submitted."


async def test_what_failed_before_may_fail_on(bench: MakeBench) -> None:
    """An old failure of the repository neither hides a new one nor stands in the way."""
    old = "def test_old():\n    assert False\n"
    made = await bench({})
    workspace = made.ports.workspace
    tree = await workspace.worktree("given", made.base)
    await made.ports.sandboxes.open(tree.path).upload({"tests/test_old.py": old.encode()})
    made.base = await workspace.commit("given", message="Old", parents=[made.base])
    made.model._script = {
        "code": [Say(calls=[("edit_file", {"path": "calc.py", "old": "", "new": ADD})]), SUBMIT]
    }
    done = await work(made)
    assert done.submitted
    assert [e["result"] for e in made.events.of("tool_called")][-1] == "Submitted."
