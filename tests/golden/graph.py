"""A small flow over domain models whose checkpoints are kept from release to release."""

from __future__ import annotations

from operator import add
from typing import Annotated, Any, TypedDict

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langgraph.graph import END, START, StateGraph, add_messages
from langgraph.types import Send, interrupt

from phoenix.domain.evidence import TaskResult
from phoenix.domain.plan import Interface, Plan, Task, check_plan
from phoenix.domain.project import Request, Sized
from phoenix.domain.run import Usage
from phoenix.domain.spec import Criterion, Requirement, Spec

THREAD = "golden"
REQUEST = Request(text="Count words.", path="full")
SPEC = Spec(
    title="Word count",
    summary="Counts words in a file.",
    requirements=[
        Requirement(id="R1", text="Count", criteria=[Criterion(id="C1", text="Two words give 2.")]),
        Requirement(
            id="R2",
            text="Stay",
            criteria=[Criterion(id="C2", text="Empty gives 0.", already_holds=True)],
        ),
    ],
    non_goals=["Counting lines"],
    assumptions=["UTF-8"],
    request=REQUEST.digest(),
)
PLAN = Plan(
    approach="One function.",
    interfaces=[Interface(file="count.py", signature="def count(text: str) -> int")],
    tasks=[
        Task(id="T1", title="Count", description="Write it.", criteria=["C1"], files=["count.py"]),
        Task(id="T2", title="Command", description="Wrap it.", depends_on=["T1"], size="S", check="true"),
    ],
    spec=SPEC.digest(),
)


class State(TypedDict, total=False):
    request: Request
    sized: Sized
    spec: Spec
    plan: Plan
    usage: Usage
    results: Annotated[list[TaskResult], add]
    messages: Annotated[list[AnyMessage], add_messages]
    answer: dict[str, Any]


def triage(state: State) -> State:
    sized = Sized(request=state["request"].digest(), size="large", reason="two parts")
    return {"sized": sized, "messages": [HumanMessage(state["request"].text, id="m1")]}


def specify(state: State) -> State:
    call = {"name": "read_file", "args": {"path": "README.md", "lines": [1, 9]}, "id": "call_1"}
    messages = [
        AIMessage("", id="m2", tool_calls=[call]),
        ToolMessage("# Words", tool_call_id="call_1", id="m3"),
    ]
    return {"spec": SPEC, "usage": Usage(calls=1, input_tokens=10, output_tokens=5), "messages": messages}


def approve(state: State) -> State:
    return {"answer": interrupt({"spec": state["spec"].model_dump(mode="json")})}


def decompose(state: State) -> State:
    check_plan(PLAN, state["spec"])
    return {"plan": PLAN, "usage": state["usage"].plus(Usage(calls=1, cost_usd=None))}


def fan_out(state: State) -> list[Send]:
    return [Send("build", {"plan": state["plan"], "task": task}) for task in state["plan"].tasks]


def build(work: dict[str, Any]) -> State:
    """Do one task; the second one waits for a person."""
    if work["task"].id == "T2":
        interrupt({"task": "T2"})
    return {"results": [TaskResult(task=work["task"].id, status="done", commit="a" * 40)]}


def golden_graph() -> StateGraph[State]:
    """Return the flow: triage, spec, approval, plan, and its tasks side by side."""
    graph = StateGraph(State)
    for name, node in (
        ("triage", triage),
        ("specify", specify),
        ("approve", approve),
        ("decompose", decompose),
    ):
        graph.add_node(name, node)
    graph.add_node("build", build)
    graph.add_edge(START, "triage")
    graph.add_edge("triage", "specify")
    graph.add_edge("specify", "approve")
    graph.add_edge("approve", "decompose")
    graph.add_conditional_edges("decompose", fan_out, ["build"])
    graph.add_edge("build", END)
    return graph
