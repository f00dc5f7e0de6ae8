"""Small workflows that between them cross every boundary Phoenix has.

Each step notes when it begins. Commands append to a file, so one that is done twice shows in what they leave.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from langchain_core.messages import HumanMessage, SystemMessage
from langgraph.runtime import Runtime

from phoenix.agents.coding import code
from phoenix.agents.desk import Desk
from phoenix.delivery.branch import BranchOutlet
from phoenix.domain.frozen import Frozen
from phoenix.domain.run import FINISHED, Project
from phoenix.errors import FlowError
from phoenix.flow import Flow, Step, approve, loop_until, parallel, step, wait
from phoenix.ports import Caller, ChildSpec, Effect, Ports
from tests.chaos.outside import ask
from tests.chaos.watched import place, watched

COMMAND_SECONDS = 30.0
CHILDREN = 2
EFFECT = "chaos"


class Work(Frozen):
    """What the workflows take and give. `line` names a child or a branch within the workflow `id`."""

    id: str
    line: str = ""
    said: list[str] = []
    commit: str = ""
    over: bool = False

    def then(self, word: str) -> Work:
        return self.model_copy(update={"said": [*self.said, word]})


def begin(work: Work, name: str) -> None:
    """Note that a step begins."""
    place().ledger.note("begin", work=work.id, line=work.line, step=name)


async def perform(_project: Project, effect: Effect) -> dict[str, Any]:
    """Do an effect: the receiver does one thing for each key, however often it comes."""
    boundaries = place().boundaries
    boundaries.watch("effect", "effect", "before")
    await ask(place().socket, "effect", effect.payload["work"], effect.payload["key"])
    boundaries.watch("effect", "effect", "after")
    return {}


def plain(name: str) -> Step[Work, Work]:
    """Return a step that does nothing but say so."""

    @step(name=name)
    async def plainly(work: Work) -> Work:
        begin(work, name)
        return work.then(name)

    return plainly


def thinking(name: str) -> Step[Work, Work]:
    """Return a step that asks a model once."""

    @step(name=name)
    async def think(work: Work, runtime: Runtime[Ports]) -> Work:
        begin(work, name)
        model = runtime.context.models.chat(Caller(name, f"{work.id}/{work.line}"))
        answer = await model.ainvoke([HumanMessage(f"{name} of {work.id} {work.line}")])
        return work.then(str(answer.text))

    return think


def acting(name: str, *, waits: bool = True) -> Step[Work, Work]:
    """Return a step that has one effect on the world outside: now, or soon and by whichever worker."""

    @step(name=name)
    async def act(work: Work, runtime: Runtime[Ports]) -> Work:
        begin(work, name)
        key = f"{name}/{work.line}"
        effect = Effect(EFFECT, f"{work.id}/{key}", {"work": work.id, "key": key})
        outbox = cast("BranchOutlet", runtime.context.outlet).outbox
        await (outbox.perform(effect) if waits else outbox.post(effect))
        return work.then(name)

    return act


@step
async def open_children(work: Work, runtime: Runtime[Ports]) -> Work:
    """Open the child runs."""
    begin(work, "open_children")
    made = [
        ChildSpec(key=f"child/{n}", flow="chaos_child", input=Work(id=work.id, line=f"child {n}"))
        for n in range(CHILDREN)
    ]
    await runtime.context.children.open(made)
    return work


@step
async def absorb(work: Work, runtime: Runtime[Ports]) -> Work:
    """Take in what the children came to, once all have ended."""
    children = await runtime.context.children.read("child/")
    if any(child.status not in FINISHED for child in children):
        return work
    if bad := [child.key for child in children if child.status != "success"]:
        raise FlowError(f"{', '.join(bad)} failed.")
    said = [" ".join((child.output or {})["said"]) for child in children]
    return work.model_copy(update={"said": [*work.said, *said], "over": True})


def over(work: Work) -> bool:
    """Tell whether the children are taken in."""
    return work.over


def on(line: str) -> Step[Work, Work]:
    """Return a step that names the branch that follows."""

    @step(name=f"on_{line}")
    async def turn(work: Work) -> Work:
        return work.model_copy(update={"line": line})

    return turn


@step
async def join(works: dict[str, Work]) -> Work:
    """Take what two branches said."""
    left, right = works["left"], works["right"]
    begin(left.model_copy(update={"line": ""}), "join")
    return left.model_copy(update={"line": "", "said": [*left.said, *right.said]})


@step
async def prepare(work: Work, runtime: Runtime[Ports]) -> Work:
    """Make the project's repository."""
    begin(work, "prepare")
    return work.model_copy(update={"commit": await watched(runtime.context).workspace.prepare(None)})


@step
async def use_tools(work: Work, runtime: Runtime[Ports]) -> Work:
    """Let the coding agent run two commands, neither of which may be repeated, and hand in."""
    begin(work, "use_tools")
    ports = watched(runtime.context)
    tree = await ports.workspace.worktree("tools", work.commit)
    desk = Desk(
        ports=ports,
        tree=tree,
        sandbox=ports.sandboxes.open(tree.path),
        sealed_folder="sealed",
        base=work.commit,
    )
    messages = [SystemMessage("You append."), HumanMessage(f"Append for {work.id}.")]
    done = await code(desk, Caller("agent", f"{work.id}/"), messages, start=work.commit)
    return work.model_copy(update={"commit": done.commit}).then(done.summary)


@step
async def publish(work: Work, runtime: Runtime[Ports]) -> Work:
    """Point the project's branch at what the agent made."""
    begin(work, "publish")
    ports = watched(runtime.context)
    tree = await ports.workspace.worktree("tools", work.commit)
    if await tree.current() != work.commit:
        await tree.restore(work.commit)
    made = await ports.workspace.commit("tools", message="Work", parents=[work.commit])
    await ports.workspace.branch("work", made)
    log = await ports.workspace.read(made, "log.txt")
    return work.model_copy(update={"commit": made}).then((log or b"nothing").decode())


AGENT = (
    ("bash", {"command": "echo one >> log.txt"}),
    ("bash", {"command": "echo two >> log.txt"}),
    ("submit", {"summary": "appended", "blocked": "nothing to check"}),
)
"""What the agent's model calls, turn by turn."""

LOG = "one\ntwo\n"

FLOWS: Mapping[str, Flow[Any, Any]] = {
    "chaos_steps": (
        plain("s1") >> thinking("s2") >> plain("s3") >> acting("s4") >> plain("s5")
        >> thinking("s6") >> plain("s7") >> acting("s8", waits=False) >> thinking("s9") >> plain("s10")
    ),
    "chaos_gate": (
        thinking("g1") >> acting("g2") >> plain("g3") >> approve("gate") >> thinking("g4") >> acting("g5")
    ),
    "chaos_fan": (
        thinking("f1") >> open_children >> loop_until(over, wait("child") >> absorb, cap=20) >> acting("f2")
    ),
    "chaos_child": thinking("c1") >> acting("c2"),
    "chaos_branches": (
        parallel(
            left=on("left") >> thinking("l1") >> acting("l2"),
            right=on("right") >> thinking("r1") >> acting("r2"),
        )
        >> join
        >> plain("after")
    ),
    "chaos_tools": prepare >> use_tools >> publish >> acting("t1"),
}  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """A workflow with what it must come to: its words, effects by key, and how often it asks a person."""

    flow: str
    said: tuple[str, ...]
    effects: frozenset[str]
    approvals: int = 0
    children: int = 0


def told(name: str) -> str:
    """Return what the model answers to a step's call."""
    return f"{name} thought"


SCENES: Mapping[str, Scene] = {
    "steps": Scene(
        "chaos_steps",
        ("s1", told("s2"), "s3", "s4", "s5", told("s6"), "s7", "s8", told("s9"), "s10"),
        frozenset({"s4/", "s8/"}),
    ),
    "gate": Scene(
        "chaos_gate", (told("g1"), "g2", "g3", told("g4"), "g5"), frozenset({"g2/", "g5/"}), approvals=1
    ),
    "fan": Scene(
        "chaos_fan",
        (told("f1"), *(f"{told('c1')} c2" for _ in range(CHILDREN)), "f2"),
        frozenset({"f2/", *(f"c2/child {n}" for n in range(CHILDREN))}),
        children=CHILDREN,
    ),
    "branches": Scene(
        "chaos_branches",
        (told("l1"), "l2", told("r1"), "r2", "after"),
        frozenset({"l2/left", "r2/right"}),
    ),
    "tools": Scene("chaos_tools", ("appended", LOG, "t1"), frozenset({"t1/"})),
}

FILL: Mapping[str, int] = {"steps": 0, "gate": 4, "fan": 5, "branches": 2, "tools": 6}
"""Plain steps that bring each scene to ten, the pauses and the turning of a branch counted."""


def fillers(scene: str) -> list[str]:
    """Return the names of the steps that a scene is filled up with."""
    return [f"p{n}" for n in range(FILL[scene])]


def filled(scene: str) -> Flow[Any, Any]:
    """Return a scene's workflow with ten steps."""
    flow = FLOWS[SCENES[scene].flow]
    for name in fillers(scene):
        flow = flow >> plain(name)
    return flow


TEN: Mapping[str, Scene] = {
    name: replace(scene, flow=f"ten_{name}", said=(*scene.said, *fillers(name)))
    for name, scene in SCENES.items()
}
TEN_FLOWS: Mapping[str, Flow[Any, Any]] = {**FLOWS, **{f"ten_{name}": filled(name) for name in SCENES}}
