"""The checkpoints of a project: what had been done at each, what it had cost, and what the code was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import BaseModel

from phoenix.domain.approval import HumanRequest
from phoenix.domain.evidence import Build, Delivery, Evidence, Sealed
from phoenix.domain.history import Moment
from phoenix.domain.plan import Contract
from phoenix.domain.run import Run
from phoenix.domain.work import BuildState, TaskWork
from phoenix.engine.advance import pending
from phoenix.engine.copying import made_at, parent_of, space_of
from phoenix.engine.programs import Programs
from phoenix.errors import CheckpointUnknown
from phoenix.storage import projects, runs, spending
from phoenix.storage.database import transaction
from phoenix.storage.spending import Spending

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig
    from langgraph.checkpoint.base import BaseCheckpointSaver, CheckpointTuple
    from sqlalchemy.ext.asyncio import AsyncEngine

LEAST_CHARACTERS = 6
"""Fewer of an id's last characters are taken for a step's name."""
BRANCH = "branch:to:"
"""LangGraph's channel that starts a node."""
NAMES = {"build": "start_build"}
"""What users call a step whose first node has another name."""


@dataclass(frozen=True)
class Point:
    """A moment with what only the engine sees of it."""

    moment: Moment
    value: Any
    requests: Mapping[str, HumanRequest]
    """What is asked there, by interrupt id."""


class History:
    """Reads the checkpoints of projects; changes nothing."""

    def __init__(
        self, database: AsyncEngine, programs: Programs, checkpointer: BaseCheckpointSaver[Any]
    ) -> None:
        self._database = database
        self._programs = programs
        self._checkpointer = checkpointer

    async def moments(self, project_id: UUID, *, inner: bool = False) -> list[Moment]:
        """Return a project's checkpoints, oldest first.

        Args:
            project_id: Which.
            inner: Those within steps as well, such as each tool call of a coding agent.

        Raises:
            NotFound: one of its runs is of a flow that is not loaded.
        """
        return [point.moment for point in await self.points(project_id, inner=inner)]

    async def points(self, project_id: UUID, *, inner: bool = False) -> list[Point]:
        """Return a project's checkpoints with their values, oldest first.

        Raises:
            NotFound: there is no such project, or one of its runs is of a flow that is not loaded.
        """
        async with transaction(self._database) as connection:
            await projects.get(connection, project_id)
            own = await runs.of_projects(connection, [project_id])
            all_runs = [*own.values(), *await runs.descendants(connection, project_id)]
            spent = await spending.of_project(connection, project_id)
        found: list[Point] = []
        for run in all_runs:
            found += await self._steps(run, spent)
            if inner:
                found += await self._inner(run, spent)
        return sorted(found, key=lambda point: (point.moment.at, point.moment.checkpoint))

    async def find(self, project_id: UUID, at: str = "") -> Point:
        """Return one checkpoint.

        Args:
            project_id: Of which project.
            at: An id or its end; or the name of a step of the project's own run, which stands for the last
                checkpoint before that step (a gate's name: where it asks); empty: the last one.

        Raises:
            CheckpointUnknown: there is none such, or the end fits several.
        """
        points = await self.points(project_id)
        own = [point for point in points if point.moment.is_own]
        if not at.strip():
            if not own:
                raise CheckpointUnknown(
                    "This project has not begun, so it has no checkpoint.",
                    field="at",
                    hint="Resume it first.",
                )
            return own[-1]
        wanted = NAMES.get(at.strip(), at.strip())
        named = [p for p in own if wanted in p.moment.next]
        if named:
            return named[-1]
        fitting = _ending(points, wanted) or _ending(await self.points(project_id, inner=True), wanted)
        if len(fitting) == 1:
            return fitting[0]
        what = f"Several checkpoints end with {wanted!r}." if fitting else f"There is no checkpoint {at!r}."
        raise CheckpointUnknown(
            what, field="at", hint=f"`phoenix history {str(project_id)[:8]} --all` shows them all."
        )

    async def _steps(self, run: Run, spent: Spending) -> list[Point]:
        """Return the checkpoints between the steps of a run."""
        graph = self._programs.graph(run.flow)
        snapshots = [
            found
            async for found in graph.aget_state_history({"configurable": {"thread_id": str(run.thread_id)}})
        ]
        following = {s.config["configurable"]["checkpoint_id"]: s.next for s in snapshots}
        points = []
        for snapshot in snapshots:
            if (snapshot.metadata or {}).get("source") == "input":
                continue  # what comes right after it is the start
            above = (snapshot.parent_config or {"configurable": {}})["configurable"].get("checkpoint_id")
            done = following.get(above, ())
            value = snapshot.values.get("value") if isinstance(snapshot.values, dict) else None
            asked = {i.id: pending(i).request for i in snapshot.interrupts}
            at = datetime.fromisoformat(str(snapshot.created_at))
            calls, cost = spent.until(at)
            moment = Moment(
                checkpoint=snapshot.config["configurable"]["checkpoint_id"],
                run_id=run.id,
                key=run.key,
                step=" ".join(_plain(n) for n in done if n != "__start__") or "start",
                next=[_plain(n) for n in snapshot.next],
                asks=[request.name for request in asked.values()],
                value=type(value).__name__ if isinstance(value, BaseModel) else "",
                commit=commit_of(value),
                calls=calls,
                cost_usd=cost,
                at=at,
            )
            points.append(Point(moment, value, asked))
        return points

    async def _inner(self, run: Run, spent: Spending) -> list[Point]:
        """Return the checkpoints within the steps of a run."""
        found = [each async for each in self._checkpointer.alist(_thread(run)) if space_of(each)]
        starts = {each.checkpoint["id"] for each in found if each.metadata.get("source") == "input"}
        known = {(space_of(each), each.checkpoint["id"]): each for each in found}
        return [_inside(each, known, run, spent) for each in found if each.checkpoint["id"] not in starts]


def _inside(
    each: CheckpointTuple, known: Mapping[tuple[str, str], CheckpointTuple], run: Run, spent: Spending
) -> Point:
    space, at = space_of(each), made_at(each)
    above = known.get((space, parent_of(each)))
    calls, cost = spent.until(at)
    values = each.checkpoint["channel_values"]
    value = values.get("value")
    moment = Moment(
        checkpoint=each.checkpoint["id"],
        run_id=run.id,
        key=run.key,
        path=[part.partition(":")[0] for part in space.split("|")],
        step=" ".join(sorted(set(_starting(above)))) or "start",
        next=sorted(set(_starting(each))),
        value=type(value).__name__ if isinstance(value, BaseModel) else "",
        commit=str(values.get("commit") or commit_of(value)),
        calls=calls,
        cost_usd=cost,
        at=at,
    )
    return Point(moment, value, {})


def _starting(found: CheckpointTuple | None) -> Iterator[str]:
    """Yield the nodes that a checkpoint starts."""
    if found is None:
        return
    values = found.checkpoint["channel_values"]
    for send in values.get("__pregel_tasks") or ():
        yield str(send.node)
    for channel in found.checkpoint.get("updated_channels") or ():
        if channel.startswith(BRANCH):
            yield channel.removeprefix(BRANCH)


def _plain(node: str) -> str:
    """Return a step's name: a flow's second node of one name has a number behind it."""
    return node.partition("#")[0]


def _ending(points: list[Point], end: str) -> list[Point]:
    if len(end) < LEAST_CHARACTERS:
        return []
    return [point for point in points if point.moment.checkpoint.endswith(end.lower())]


def commit_of(value: Any) -> str:
    """Return the commit that a value stands at; empty when it has none."""
    match value:
        case TaskWork():
            return value.commit or value.base
        case BuildState():
            return value.head
        case Contract() | Build() | Evidence() | Delivery():
            return value.commit
        case Sealed():
            return value.base
    return ""


def _thread(run: Run) -> RunnableConfig:
    return {"configurable": {"thread_id": str(run.thread_id)}}
