"""Fork a project: a new one that goes on from a checkpoint of another, with its state and its code.

Everything that takes long is made beforehand under ids that nothing knows yet; one transaction then
makes the fork visible. Killed before it, nothing is there but copies that belong to nobody, and a note of
them by which upkeep finds them (`phoenix.storage.forks.begin`).
"""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID, uuid4

from pydantic import BaseModel, TypeAdapter

from phoenix.domain.approval import Decision, HumanRequest
from phoenix.domain.cleaning import clean_json, clean_text
from phoenix.domain.frozen import Frozen
from phoenix.domain.history import ForkOrder
from phoenix.domain.plan import PlanDraft, check_plan
from phoenix.domain.run import FINISHED, Project
from phoenix.domain.spec import Spec
from phoenix.engine.admission import Admission, Change
from phoenix.engine.budget import check_budget
from phoenix.engine.copying import copy_thread
from phoenix.engine.history import History, Point
from phoenix.engine.launch import TITLE_CHARS
from phoenix.engine.policy import check_approvals
from phoenix.engine.quotas import check_quotas
from phoenix.engine.steer import check_kept
from phoenix.engine.steering import copy_messages
from phoenix.engine.work import Work
from phoenix.errors import ForkRefused, NotFound
from phoenix.flow import check_decision
from phoenix.ports import Repositories
from phoenix.storage import events, forks, runs
from phoenix.storage.artifacts import ArtifactRows
from phoenix.storage.database import transaction
from phoenix.storage.forks import DIGEST, Row
from phoenix.telemetry import tracing

if TYPE_CHECKING:
    from langgraph.checkpoint.base import BaseCheckpointSaver
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine


T = TypeVar("T")

NOT_COPIED = frozenset({"last_event", "retired_at", "pruned_at", "words"})


@dataclass(frozen=True)
class Copied:
    """A run of the project, and what becomes of it in the fork."""

    old: Row
    id: UUID
    has_ended: bool

    def row(self, project_id: UUID, parent: UUID | None) -> Row:
        """Return the row of the copy."""
        kept = forks.ended(self.old) if self.has_ended else forks.reopened(self.old)
        own = {"id": self.id, "thread_id": self.id, "project_id": project_id, "parent_id": parent}
        return {**forks.about(self.old), **kept, **own}


class Forks:
    """Forks projects; those that they come from are only read.

    Args:
        database: Where rows live.
        admission: Lets runs be worked on.
        checkpointer: LangGraph's saver.
        history: Finds checkpoints.
        repositories: Copies a project's code; None where projects have none.
    """

    def __init__(
        self,
        database: AsyncEngine,
        admission: Admission,
        checkpointer: BaseCheckpointSaver[Any],
        history: History,
        repositories: Repositories | None,
    ) -> None:
        self._database = database
        self._admission = admission
        self._checkpointer = checkpointer
        self._history = history
        self._repositories = repositories

    async def fork(
        self,
        project_id: UUID,
        at: str = "",
        order: ForkOrder | None = None,
        *,
        by: str,
        work: Work | None = None,
    ) -> Project:
        """Fork a project at a checkpoint, and return the fork, whose runs are due.

        Args:
            project_id: The project.
            at: Which checkpoint, as `History.find` reads it.
            order: What the fork shall be like.
            by: Who forks, and edits.
            work: The request that it is a part of: the fork is there when that is committed.

        Raises:
            NotFound, CheckpointUnknown: there is no such project or checkpoint.
            ForkRefused: nothing is left to do there, or nothing can be edited there.
            ResumeRefused: the project ended so long ago that its checkpoints are gone.
            DomainInvalid: the edited value does not fit.
            BudgetInvalid, SettingInvalid: an option cannot be used.
        """
        order = order or ForkOrder()
        if order.budget_usd is not None:
            check_budget(order.budget_usd)
        if order.approvals:
            check_approvals(order.approvals)
        async with transaction(self._database) as connection:
            await check_kept(connection, project_id)
        point = await _kept_alive(work, self._history.find(project_id, at))
        short = str(project_id)[:8]
        if point.moment.is_own and not point.moment.next:
            raise ForkRefused(
                f"Project {short} has ended at this checkpoint: nothing is left to do from there.",
                hint="Give an earlier one, such as --at plan.",
            )
        async with transaction(self._database) as connection:
            source = await forks.project_row(connection, project_id)
            rows = await forks.run_rows(connection, project_id)
        project = _project(source, order, point)
        edited = await self._edited(project_id, point, order.edit)
        copies = _copies(rows, point.moment.at)
        async with transaction(self._database) as connection:
            await forks.begin(connection, project.id, [copied.id for copied in copies])
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self._undone, project.id)
            values = await _kept_alive(work, self._copy(project_id, project, copies, point, undo))
            async with self._admission.transaction(work) as change:
                await self._write(change, _Fork(source, project, point, copies, values, edited, order, by))
            undo.pop_all()
        return project

    async def _undone(self, fork_id: UUID) -> None:
        async with transaction(self._database) as connection:
            await forks.end(connection, fork_id)

    async def _edited(
        self, project_id: UUID, point: Point, edit: dict[str, Any] | None
    ) -> tuple[str, HumanRequest, Decision, Any] | None:
        """Return the interrupt that an edited value answers, its request, the decision, and the value."""
        if edit is None:
            return None
        for interrupt, request in point.requests.items():
            if point.moment.is_own and "edit" in request.verdicts:
                decision = Decision(verdict="edit", value=edit)
                value = check_decision(request, decision)
                if isinstance(value, PlanDraft):
                    await self._check_plan(project_id, value)
                return interrupt, request, decision, value
        raise ForkRefused(
            "Nothing can be edited at this checkpoint.",
            hint="Give one where an approval is asked: --at spec, or --at plan.",
        )

    async def _check_plan(self, project_id: UUID, plan: PlanDraft) -> None:
        digest = getattr(plan, "spec", "")
        try:
            spec = await ArtifactRows(self._database, project_id).get(digest, Spec)
        except NotFound:
            return  # a flow of the user's own, which has plans without specs
        check_plan(plan, spec)

    async def _copy(
        self,
        source: UUID,
        project: Project,
        copies: Sequence[Copied],
        point: Point,
        undo: AsyncExitStack,
    ) -> list[Any]:
        """Copy code and threads; return the values at which the runs go on."""
        if self._repositories is not None:
            undo.push_async_callback(self._repositories.discard, project.id)
            await self._repositories.copy(source, project.id)
        values = []
        for copied in copies:
            if copied.has_ended:
                continue
            undo.push_async_callback(self._checkpointer.adelete_thread, str(copied.id))
            last = await copy_thread(
                self._checkpointer,
                copied.old["thread_id"],
                copied.id,
                until=point.moment.at,
                at=point.moment.checkpoint
                if copied.old["id"] == point.moment.run_id and not point.moment.path
                else "",
            )
            if last is not None:
                values.append(last.checkpoint["channel_values"].get("value"))
        return values

    async def _write(self, change: Change, fork: _Fork) -> None:
        """Write the fork's rows and jobs, in one transaction."""
        connection = change.connection
        project, source = fork.project, fork.source["id"]
        await check_kept(connection, source)
        await check_quotas(connection, fork.source["organisation_id"])
        if not await forks.end(connection, project.id, in_time=True):
            raise ForkRefused("It took too long to copy what this fork begins with.", hint="Fork again.")
        await forks.add_project(connection, fork.project_row())
        places = {copied.old["id"]: copied.id for copied in fork.copies}
        rows = [copied.row(project.id, places.get(copied.old["parent_id"])) for copied in fork.copies]
        await forks.add_runs(connection, rows)
        current = await forks.reachable(connection, source, _digests(fork.values))
        await forks.copy_artifacts(connection, source, project.id, current=current, inherit=fork.order.reuse)
        root = rows[0]
        data = {
            "title": project.title,
            "from": str(source),
            "checkpoint": fork.point.moment.checkpoint,
            "before": fork.point.moment.next,
            "model": project.model,
            "reuse": fork.order.reuse,
            "by": fork.by,
        }
        happened: list[tuple[str, dict[str, Any]]] = [("project_forked", data)]
        if fork.edited is not None:
            happened.append(await _answer(connection, fork, root["id"]))
        for row in rows:
            if row["status"] not in FINISHED:
                await change.due(await runs.get(connection, row["id"]))
        for kind, told in happened:
            await events.append(connection, project.id, kind, told, run_id=root["id"])
        await copy_messages(connection, source, project.id, until=fork.point.moment.at, run_id=root["id"])


async def _kept_alive(work: Work | None, doing: Coroutine[Any, Any, T]) -> T:
    return await (doing if work is None else work.during(doing))


@dataclass(frozen=True)
class _Fork:
    """All that a fork's transaction writes."""

    source: Row
    project: Project
    point: Point
    copies: Sequence[Copied]
    values: Sequence[Any]
    edited: tuple[str, HumanRequest, Decision, Any] | None
    order: ForkOrder
    by: str

    def project_row(self) -> Row:
        """Return the fork's row: its own fields, and the source's where it has none."""
        own = self.project.model_dump() | {"limits": self.project.limits.model_dump(mode="json")}
        return {k: v for k, v in self.source.items() if k not in NOT_COPIED} | own


def _project(source: Row, order: ForkOrder, point: Point) -> Project:
    title = clean_text(order.title).strip()[:TITLE_CHARS] or source["title"]
    changed = {
        "id": uuid4(),
        "title": title,
        "model": order.model or source["model"],
        "approvals": order.approvals or source["approvals"],
        "budget_usd": source["budget_usd"] if order.budget_usd is None else order.budget_usd,
        "forked_from": source["id"],
        "forked_at": point.moment.checkpoint,
        "paused_at": None,
        "pause_reason": "",
        "archived_at": None,
        "version": 1,
        "created_at": datetime.now(UTC),
    }
    changed["traceparent"] = tracing.launches(changed["id"])
    return Project(**{name: source[name] for name in Project.model_fields} | changed)


def _copies(rows: Sequence[Row], until: datetime) -> list[Copied]:
    """Return the runs that there were at a moment, the project's own first: of its thread the last."""
    roots = [row for row in rows if row["parent_id"] is None]
    root = next((row for row in reversed(roots) if row["created_at"] <= until), roots[0])
    copies: dict[UUID, Copied] = {}
    for row in rows:
        is_root = row is root
        if not is_root and (row["parent_id"] not in copies or row["created_at"] > until):
            continue
        over = row["status"] in FINISHED and row["finished_at"] is not None and row["finished_at"] <= until
        copies[row["id"]] = Copied(row, uuid4(), has_ended=over and not is_root)
    return list(copies.values())


def _digests(values: Sequence[Any]) -> set[str]:
    """Return the content addresses that values have, and those that they mention."""
    found: set[str] = set()
    for value in values:
        if isinstance(value, Frozen):
            found.add(value.digest())
        if isinstance(value, BaseModel):
            found |= set(DIGEST.findall(value.model_dump_json()))
        else:
            found |= set(DIGEST.findall(str(TypeAdapter(Any).dump_python(value, mode="json", fallback=str))))
    return found


async def _answer(connection: AsyncConnection, fork: _Fork, run_id: UUID) -> tuple[str, dict[str, Any]]:
    """Answer the gate with the edited value, as if it had been asked for; return the event."""
    assert fork.edited is not None
    interrupt, request, decision, value = fork.edited
    approval_id, now = uuid4(), datetime.now(UTC)
    await forks.add_decided(
        connection,
        {
            "id": approval_id,
            "project_id": fork.project.id,
            "run_id": run_id,
            "interrupt_id": interrupt,
            "request": clean_json(request.model_dump(mode="json")),
            "value_digest": request.value_digest,
            "decision": clean_json(decision.model_dump(mode="json")),
            "decided_by": fork.by,
            "decided_how": "person",
            "decided_at": now,
        },
    )
    if isinstance(value, Frozen):
        await forks.add_artifact(connection, fork.project.id, value)
    data = {"approval_id": str(approval_id), "kind": request.kind, "name": request.name, "key": ""}
    return "approval_decided", data | {"verdict": "edit", "by": fork.by}
