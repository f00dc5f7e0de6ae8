"""The rules and people that stand between a coding agent and its tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command
from typing_extensions import TypedDict

from phoenix.agents.coder import work_on
from phoenix.agents.coding import Submission
from phoenix.agents.permitting import places_of
from phoenix.domain.approval import Decision, HumanRequest
from phoenix.domain.permissions import Place, Rule, RuleLayer, RuleSet
from phoenix.domain.work import TaskWork
from phoenix.flow.forms import check_decision
from phoenix.llm.scripted import Say
from phoenix.ports import Ports
from tests.integration.agents.conftest import Bench, MakeBench
from tests.integration.agents.test_coding import ADD, SUBMIT

ALLOW = Rule(effect="allow")
RULES = RuleSet(
    rules=[
        Rule(effect="deny", tool="bash", command="rm *", reason="Files are kept here."),
        Rule(effect="deny", path="secrets/**"),
        Rule(effect="ask", tool="bash", command="make *", reason="It takes long."),
        Rule(effect="ask", tool="read_file", path="private/**"),
        ALLOW,
    ]
)


class State(TypedDict, total=False):
    result: dict[str, object]


class Session:
    """One task of a coding agent on a thread, by these rules."""

    def __init__(self, bench: Bench, rules: RuleSet = RULES) -> None:
        bench.permissions.layers = [RuleLayer(name="service", rules=rules)]
        self.bench = bench
        self.done: list[Submission] = []
        graph = StateGraph(State, context_schema=Ports)
        graph.add_node("code", self._step)
        graph.add_edge(START, "code")
        graph.add_edge("code", END)
        self.app = graph.compile(checkpointer=InMemorySaver())
        self.thread: Any = {"configurable": {"thread_id": "t"}}

    async def _step(self, state: State, runtime: Runtime[Ports]) -> State:
        spec = await self.bench.spec("add(2, 2) returns 4")
        task = TaskWork(
            spec=spec.digest(),
            task="T1",
            title="Add",
            brief="Write add.",
            criteria=["C1"],
            base=self.bench.base,
        )
        self.done.append(await work_on(task, runtime.context, tree_name="task-T1"))
        return {}

    async def go(self, given: Any) -> None:
        await self.app.ainvoke(given, self.thread, context=self.bench.ports, durability="sync")

    async def waiting(self) -> dict[str, HumanRequest]:
        """Return what is asked, by interrupt id."""
        state = await self.app.aget_state(self.thread)
        return {i.id: HumanRequest.model_validate(i.value) for i in state.interrupts}

    async def answer(self, decision: Decision) -> None:
        """Answer the one open request."""
        ((interrupt, request),) = (await self.waiting()).items()
        check_decision(request, decision)
        await self.go(Command(resume={interrupt: decision.model_dump(mode="json")}))

    def answers(self) -> list[str]:
        """Return what the model was answered to its calls."""
        return [str(m.content) for m in self.bench.model.requests[-1].messages if m.type == "tool"]


def bash(command: str) -> Say:
    return Say(calls=[("bash", {"command": command})])


async def test_a_denied_call_never_runs(bench: MakeBench) -> None:
    """The agent reads the rule and its reason, and goes on; files are as they were, nothing was called."""
    create = Say(calls=[("edit_file", {"path": "calc.py", "old": "", "new": ADD})])
    made = await bench({"code": [create, bash("ls; bash -c 'rm calc.py'"), SUBMIT]})
    session = Session(made)
    await session.go({})
    assert session.done[0].submitted
    assert await made.ports.workspace.read(session.done[0].commit, "calc.py") == ADD.encode()
    denied = session.answers()[1]
    assert denied.startswith(
        "Denied by a permission rule (service rule 1: deny bash command rm *). Reason: Files are kept here."
    )
    assert "The tool was not run" in denied
    assert [e["tool"] for e in made.events.of("tool_called")] == ["edit_file", "submit"]


async def test_an_asked_call_waits_and_runs_when_approved(bench: MakeBench) -> None:
    """Nothing of it is done before; after it the agent goes on as if it had never waited."""
    made = await bench({"code": [bash("make 2>&1 || touch made"), SUBMIT]})
    session = Session(made)
    await session.go({})
    (request,) = (await session.waiting()).values()
    assert (request.name, request.value["tool"], request.value["task"]) == ("tool", "bash", "T1/r0")
    assert request.value["arguments"]["command"] == "make 2>&1 || touch made"
    assert request.value["reason"] == "It takes long."
    assert made.events.of("tool_called") == []
    await session.answer(Decision(verdict="approve"))
    assert session.done[0].submitted
    assert await made.ports.workspace.read(session.done[0].commit, "made") == b""
    assert len(made.model.requests) == 2


async def test_a_rejected_call_tells_the_agent_why(bench: MakeBench) -> None:
    """It does not run, and the reason is what the agent reads."""
    made = await bench({"code": [bash("make; touch made"), SUBMIT]})
    session = Session(made)
    await session.go({})
    await session.answer(Decision(verdict="reject", reason="Use the script instead."))
    assert "rejected it. Their reason: Use the script instead." in session.answers()[0]
    assert await made.ports.workspace.read(session.done[0].commit, "made") is None


async def test_an_edited_call_runs_as_edited(bench: MakeBench) -> None:
    """The agent is told what ran; fields that are not arguments cannot be edited."""
    made = await bench({"code": [bash("make"), SUBMIT]})
    session = Session(made)
    await session.go({})
    (request,) = (await session.waiting()).values()
    value = request.value | {"tool": "other", "arguments": {"command": "touch edited"}}
    await session.answer(Decision(verdict="edit", value=value))
    assert await made.ports.workspace.read(session.done[0].commit, "edited") == b""
    assert session.answers()[0].startswith(
        "[A person changed the arguments of this call to {'command': 'touch"
    )
    assert session.answers()[0].endswith("[exit code 0]")


async def test_an_edit_cannot_pass_a_deny(bench: MakeBench) -> None:
    """What a rule denies no person lets pass."""
    made = await bench({"code": [bash("make"), SUBMIT]})
    session = Session(made)
    await session.go({})
    (request,) = (await session.waiting()).values()
    value = request.value | {"arguments": {"command": "rm -f x; touch edited"}}
    await session.answer(Decision(verdict="edit", value=value))
    assert "which a permission rule denies (service rule 1" in session.answers()[0]
    assert await made.ports.workspace.read(session.done[0].commit, "edited") is None


async def test_an_edit_that_does_not_fit_is_refused(bench: MakeBench) -> None:
    """The arguments are checked against the tool's, before the run goes on."""
    made = await bench({"code": [bash("make"), SUBMIT]})
    session = Session(made)
    await session.go({})
    (request,) = (await session.waiting()).values()
    value = request.value | {"arguments": {"timeout_seconds": 5}}
    with pytest.raises(Exception, match=r"arguments\.command"):
        check_decision(request, Decision(verdict="edit", value=value))


async def test_of_calls_made_together_each_is_decided_by_itself(bench: MakeBench) -> None:
    """Those that need nobody have run, and each open one has an interrupt of its own."""
    calls = [("read_file", {"path": f"private/{n}"}) for n in range(2)]
    made = await bench({"code": [Say(calls=[*calls, ("read_file", {"path": "open"})]), SUBMIT]})
    session = Session(made)
    await session.go({})
    asked = await session.waiting()
    assert sorted(r.value["arguments"]["path"] for r in asked.values()) == ["private/0", "private/1"]
    second = next(i for i, r in asked.items() if r.value["arguments"]["path"] == "private/1")
    reject = Decision(verdict="reject", reason="No.").model_dump(mode="json")
    await session.go(Command(resume={second: reject}))
    assert len(made.model.requests) == 1
    await session.answer(Decision(verdict="approve"))
    first, other, plain = session.answers()
    assert (first, plain) == ("There is no file private/0.", "There is no file open.")
    assert "Their reason: No." in other
    assert len(made.permissions.rulings) == 4


async def test_links_are_followed_before_rules_look(bench: MakeBench) -> None:
    """A link into a forbidden folder is that folder, however the agent made it."""
    made = await bench({"code": [bash("ln -s sec''rets look"), bash("cat look/key"), SUBMIT]})
    session = Session(made, RuleSet(rules=[Rule(effect="deny", path="secrets/*"), ALLOW]))
    await session.go({})
    assert "exit code 0" in session.answers()[0]
    assert session.answers()[1].startswith("Denied by a permission rule")


async def test_calls_that_cannot_run_are_asked_of_nobody(bench: MakeBench) -> None:
    """Unknown tools and wrong arguments are answered at once, and leave no decision."""
    made = await bench({"code": [Say(calls=[("deploy", {})]), Say(calls=[("bash", {"x": 1})]), SUBMIT]})
    session = Session(made, RuleSet(rules=[Rule(effect="allow", tool="submit")]))
    await session.go({})
    assert session.done[0].submitted
    assert [call.tool for call, _ in made.permissions.rulings.values()] == ["submit"]


def test_places_of_paths_in_a_worktree(tmp_path: Path) -> None:
    """Links are followed, also those that name the repository as commands see it; what leaves is absolute."""
    (tmp_path / "src").mkdir()
    (tmp_path / "inside").symlink_to("src")
    (tmp_path / "seen").symlink_to("/workspace/src")
    (tmp_path / "outside").symlink_to("/etc")
    (tmp_path / "loop").symlink_to("loop")
    paths = ["src", "inside/a", "seen", "outside/passwd", "missing", "../x", "/etc/passwd", "loop"]
    found = places_of(tmp_path, paths, ["/workspace"])
    assert found["src"] == Place(real="src", is_folder=True)
    assert found["inside/a"] == Place(real="src/a")
    assert found["seen"].real == "src"
    assert found["outside/passwd"] == Place(real="/etc/passwd")
    assert found["missing"] == Place(real="missing")
    assert found["../x"].real == str(tmp_path.parent / "x")
    assert "/etc/passwd" not in found
