"""Messages of people in the conversations of agents: each once, in its place, also after a crash."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from langchain_core.messages import HumanMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.runtime import Runtime

from phoenix.agents.coder import work_on
from phoenix.agents.drafting import draft
from phoenix.agents.steering import MARK
from phoenix.domain.steering import Message
from phoenix.domain.work import Review, TaskWork
from phoenix.errors import DomainInvalid
from phoenix.llm.scripted import Line, Say
from phoenix.ports import Caller, Ports
from tests.integration.agents.conftest import Bench, MakeBench
from tests.integration.agents.test_coding import ADD, SUBMIT, Crash, State


def said(project: UUID, seq: int, text: str, task: str = "") -> Message:
    """Return a message."""
    now = datetime.now(UTC)
    return Message(id=uuid4(), project_id=project, seq=seq, task=task, text=text, sent_by="ada", at=now)


def steering(request: Any) -> list[str]:
    """Return the messages of people in a request."""
    return [str(m.content) for m in request.messages if isinstance(m, HumanMessage) and m.name == MARK]


async def coding(made: Bench, *, times: int = 1) -> None:
    """Run the agent on one thread, going on after each crash."""
    spec = await made.spec("add(2, 2) returns 4")
    task = TaskWork(
        spec=spec.digest(), task="T1", title="A", brief="B", criteria=["C1"], base=made.base, round=1
    )

    async def step(state: State, runtime: Runtime[Ports]) -> State:
        await work_on(task, runtime.context, tree_name="task-T1")
        return {}

    graph = StateGraph(State, context_schema=Ports)
    graph.add_node("code", step)
    graph.add_edge(START, "code")
    graph.add_edge("code", END)
    app = graph.compile(checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "t"}}
    given: Any = {}
    for _ in range(times - 1):
        with pytest.raises(Crash):
            await app.ainvoke(given, thread, context=made.ports, durability="sync")
        given = None
    await app.ainvoke(given, thread, context=made.ports, durability="sync")


async def test_a_message_comes_before_the_next_model_call(bench: MakeBench) -> None:
    """After the results of the turn, marked as a person's; it stays in the conversation, once."""
    lines: list[Line] = [
        Say(calls=[("bash", {"command": "ls"})]),
        Say(calls=[("bash", {"command": "pwd"})]),
        SUBMIT,
    ]

    def script(request: object) -> Line:
        turn = sum(m.type == "ai" for m in made.model.requests[-1].messages)
        if turn == 0:
            project = made.ports.project_id
            made.steering.messages += [said(project, 7, "Be brief."), said(project, 8, "To T2.", "T2")]
        return lines[turn]

    made = await bench(script)
    await coding(made)
    seen = [steering(r) for r in made.model.requests]
    assert [len(s) for s in seen] == [0, 1, 1]
    (text,) = seen[1]
    assert text.startswith("[Message from a person, ada, to all agents of this project")
    assert "Be brief." in text
    assert made.model.requests[1].messages[-1].name == MARK
    assert [(seq, caller.task, turn) for (seq, _), (caller, turn) in made.steering.reads.items()] == [
        (7, "T1/r1", 2)
    ]


async def test_a_message_is_read_once_across_crashes(bench: MakeBench) -> None:
    """The call that is made again after a crash asks the same, message and all; no later one repeats it."""
    lines: list[Line] = [
        Say(calls=[("edit_file", {"path": "calc.py", "old": "", "new": ADD})]),
        Say(calls=[("bash", {"command": "ls"})]),
        SUBMIT,
    ]
    crashes = [1, 1]

    def script(request: object) -> Line:
        turn = sum(m.type == "ai" for m in made.model.requests[-1].messages)
        if turn == 1 and crashes:
            crashes.pop()
            # Said while the call is under way: not before the call after it.
            made.steering.messages.append(said(made.ports.project_id, 10 + len(crashes), "Late."))
            raise Crash
        return lines[turn]

    made = await bench(script)
    made.steering.messages.append(said(made.ports.project_id, 3, "Early.", "T1"))
    await coding(made, times=3)
    requests = made.model.requests
    turns = [sum(m.type == "ai" for m in r.messages) for r in requests]
    assert turns == [0, 1, 1, 1, 2]
    said_then = [[m.content for m in r.messages] for r in requests]
    assert said_then[1] == said_then[2] == said_then[3]
    assert [len(steering(r)) for r in requests] == [1, 1, 1, 1, 3]
    assert sorted(seq for seq, _ in made.steering.reads) == [3, 10, 11]


async def test_a_conversation_of_a_fork_hears_the_forks_messages(bench: MakeBench) -> None:
    """Numbers are those of one project: what the conversation heard in another says nothing here."""
    from phoenix.agents.steering import Steered

    made = await bench({})
    made.steering.messages.append(said(made.ports.project_id, 2, "For the fork."))
    hook = Steered(made.ports, Caller("code", "T1/r1"))
    elsewhere: Any = {"messages": [], "commit": "", "heard": {"project": str(uuid4()), "seq": 90}}
    found = await hook.abefore_model(elsewhere, Runtime())
    assert found is not None
    assert [m.name for m in found["messages"]] == [MARK]
    here: Any = {"messages": [], "commit": "", "heard": found["heard"]}
    assert await hook.abefore_model(here, Runtime()) is None


async def test_an_agent_without_a_loop_reads_after_its_prompt(bench: MakeBench) -> None:
    """What was said before it began, and what is said while its draft is sent back; each once."""

    def script(request: object) -> Line:
        if len(made.model.requests) == 1:
            made.steering.messages.append(said(made.ports.project_id, 9, "Second."))
        return Review(summary="Fine.")

    made = await bench(script)
    made.steering.messages += [
        said(made.ports.project_id, 4, "First."),
        said(made.ports.project_id, 5, "No.", "T2"),
    ]

    def check(_: Review) -> None:
        if len(made.model.requests) == 1:
            raise DomainInvalid([("summary", "too short")])

    await draft(made.ports, Caller("review", "T1/r1"), [HumanMessage("Review this.")], Review, check)
    heard = [[text.splitlines()[1] for text in steering(r)] for r in made.model.requests]
    assert heard == [["First."], ["First.", "Second."]]
    assert [turn for _, turn in made.steering.reads.values()] == [1, 2]
