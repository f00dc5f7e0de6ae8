"""Projects as one user sees them: their organisation's, and what their role there allows.

What belongs to another organisation answers exactly as what does not exist.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from phoenix.domain.forecast import TaskCost, beside
from phoenix.domain.identity import Permission, Principal
from phoenix.domain.organisation import UsageBy, UsageLine
from phoenix.domain.recorded import RecordedSpan, SpanCounts
from phoenix.domain.run import Project, RunStatus
from phoenix.domain.steering import SentMessage
from phoenix.engine.launch import Listed, Overview
from phoenix.engine.policy import check_approvals
from phoenix.engine.work import Work, walled
from phoenix.errors import Forbidden, NotFound
from phoenix.storage import (
    approvals,
    artifacts,
    events,
    forecasts,
    messages,
    projects,
    runs,
    search,
    spans,
    usage,
)

COMMIT = re.compile(r"[0-9a-f]{40}")

GATED = ("approvals", "gate_rules")
"""What of a project says how its gates are decided."""


async def visible(
    connection: AsyncConnection, who: Principal, project_id: UUID, permission: Permission = "read"
) -> Project:
    """Return a project that a user may do something with.

    Raises:
        NotFound: there is none, it is another organisation's, or the user may not even read it.
        Forbidden: the user may read it, and not do this.
    """
    project = await projects.get(connection, project_id)
    if project.organisation_id != who.organisation_id or not who.may("read", project_id):
        raise NotFound(f"There is no project {project_id}.", hint="`phoenix list` shows them all.")
    if not who.may(permission, project_id):
        role = who.grants.get(project_id, who.role)
        raise Forbidden(
            f"Your role ({role}) may not {permission} in this project.",
            hint="Ask an administrator of your organisation.",
        )
    return project


class Projects:
    """Reads projects for a user."""

    def __init__(self, database: AsyncEngine) -> None:
        self._database = database

    async def page(
        self,
        who: Principal,
        *,
        status: Sequence[RunStatus] = (),
        words: str = "",
        archived: bool = False,
        prefix: str = "",
        cursor: str = "",
        limit: int = 50,
        work: Work | None = None,
    ) -> tuple[list[Listed], str | None]:
        """Return a page of projects, newest first, and where the next begins.

        Raises:
            PayloadInvalid: the cursor is none.
        """
        only = None if who.may("read") else [p for p in who.grants if who.may("read", p)]
        async with walled(self._database, who, work) as connection:
            found = await search.page(
                connection,
                who.organisation_id,
                only=only,
                status=status,
                words=words,
                archived=archived,
                prefix=prefix,
                cursor=cursor,
                limit=limit + 1,
            )
            more = len(found) > limit
            found = found[:limit]
            ids = [project.id for project in found]
            own = await runs.of_projects(connection, ids)
            used = await usage.totals(connection, ids)
            waiting = await approvals.open_of(connection, ids)
        listed = [
            Listed(
                project=project,
                run=own[project.id],
                usage=used[project.id],
                waiting_for=[a.request.name for a in waiting if a.project_id == project.id],
            )
            for project in found
        ]
        return listed, search.cursor_of(found[-1]) if more else None

    async def get(
        self,
        who: Principal,
        project_id: UUID,
        permission: Permission = "read",
        *,
        work: Work | None = None,
    ) -> Project:
        """Return a project; see `visible`.

        Raises:
            NotFound, Forbidden: see `visible`.
        """
        async with walled(self._database, who, work) as connection:
            return await visible(connection, who, project_id, permission)

    async def overview(self, who: Principal, project_id: UUID, *, work: Work | None = None) -> Overview:
        """Return a project at a glance.

        Raises:
            NotFound: see `visible`.
        """
        async with walled(self._database, who, work) as connection:
            project = await visible(connection, who, project_id)
            return Overview(
                project=project,
                run=(await runs.of_projects(connection, [project_id]))[project_id],
                children=await runs.descendants(connection, project_id),
                approvals=await approvals.open_of(connection, [project_id]),
                usage=(await usage.totals(connection, [project_id]))[project_id],
                artifacts=await artifacts.latest(connection, project_id),
            )

    async def spans(
        self, who: Principal, project_id: UUID, *, after: tuple[datetime, str] | None = None, limit: int = 500
    ) -> tuple[list[RecordedSpan], SpanCounts]:
        """Return spans of a project's trace after a time and an id, and how many there are.

        Raises:
            NotFound: see `visible`.
        """
        async with walled(self._database, who) as connection:
            await visible(connection, who, project_id)
            found = await spans.page(connection, project_id, after=after, limit=limit)
            return found, await spans.counts(connection, project_id)

    async def messages(
        self,
        who: Principal,
        project_id: UUID,
        *,
        seq: int = 0,
        limit: int = 200,
        work: Work | None = None,
    ) -> list[SentMessage]:
        """Return what people said to a project's agents, and who has read it.

        Raises:
            NotFound: see `visible`.
        """
        async with walled(self._database, who, work) as connection:
            await visible(connection, who, project_id)
            return await messages.sent(connection, project_id, seq=seq, limit=limit)

    async def document(
        self, who: Principal, project_id: UUID, kind: str, *, work: Work | None = None
    ) -> tuple[dict[str, Any], str]:
        """Return the latest document of a kind (`spec`, `plan`, `evidence`, ...) and its digest.

        Raises:
            NotFound: see `visible`; or the project has none yet.
        """
        async with walled(self._database, who, work) as connection:
            await visible(connection, who, project_id)
            found = await artifacts.latest_of(connection, project_id, kind)
        if found is None:
            raise NotFound(f"This project has no {kind} yet.", hint="Its events tell how far it is.")
        return found

    async def commit_at(self, who: Principal, project_id: UUID, at: str) -> str:
        """Return a commit of a project.

        Args:
            who: Who asks.
            project_id: Which project.
            at: `delivery`, the key of a task's run, or a full id.

        Raises:
            NotFound: see `visible`; or there is no such delivery or task, or it has no commit yet.
        """
        async with walled(self._database, who) as connection:
            await visible(connection, who, project_id)
            if COMMIT.fullmatch(at):
                return at
            if at == "delivery":
                found = await artifacts.latest_of(connection, project_id, at)
                output = found[0] if found else {}
            else:
                of_key = [run for run in await runs.descendants(connection, project_id) if run.key == at]
                output = (of_key[-1].output if of_key else None) or {}
        commit = output.get("commit") or output.get("base")
        if not isinstance(commit, str) or not COMMIT.fullmatch(commit):
            raise NotFound(f"This project has no commit at {at!r} yet.", field="query.at")
        return commit

    async def used(
        self,
        who: Principal,
        by: UsageBy,
        *,
        project: UUID | None,
        since: datetime | None,
        until: datetime | None,
        after: str,
        limit: int,
        work: Work,
    ) -> tuple[list[UsageLine], str | None]:
        """Return a page of what the organisation's model calls used, and where the next begins."""
        if project is not None:
            await visible(work.connection, who, project)
        only = None if who.may("read") else [p for p in who.grants if who.may("read", p)]
        only = only if project is None else [project]
        found = await usage.lines(
            work.connection,
            who.organisation_id,
            by,
            only=only,
            since=since,
            until=until,
            after=after,
            limit=limit + 1,
        )
        return found[:limit], found[limit - 1].key if len(found) > limit else None

    async def tasks(self, who: Principal, project_id: UUID, *, work: Work | None = None) -> list[TaskCost]:
        """Return what a project's tasks used, beside what was expected when its plan was decided.

        Raises:
            NotFound: see `visible`.
        """
        async with walled(self._database, who, work) as connection:
            await visible(connection, who, project_id)
            expected = await forecasts.of_project(connection, project_id)
            return beside(expected, await forecasts.used_by_tasks(connection, project_id))

    async def costs(self, who: Principal, project_id: UUID, *, work: Work | None = None) -> list[usage.Share]:
        """Return what a project's model calls used, by agent and model.

        Raises:
            NotFound: see `visible`.
        """
        async with walled(self._database, who, work) as connection:
            await visible(connection, who, project_id)
            return await usage.shares(connection, project_id)

    async def change(
        self, who: Principal, project_id: UUID, *, version: int | None, work: Work, **values: Any
    ) -> Project:
        """Change what a user may change of a project: title, priority, max_runs, archived_at; and its gates.

        Whoever changes how gates are decided must be able to decide them. Open approvals stay as they are.

        Args:
            who: Who changes it.
            project_id: Which.
            version: What it is expected to be at; None for whatever it is.
            work: The request.
            values: Columns of the project.

        Raises:
            NotFound, Forbidden: see `visible`.
            VersionConflict: somebody else has changed it.
            SettingInvalid: the approvals are neither a level nor gates.
        """
        gated = {name: values[name] for name in GATED if name in values}
        before = await visible(work.connection, who, project_id, "approve" if gated else "develop")
        if "approvals" in gated:
            check_approvals(gated["approvals"])
        changed = await projects.change(work.connection, project_id, version=version, **values)
        if gated:
            data = {"from": before.approvals, "approvals": changed.approvals, "by": who.email}
            rules = sorted(changed.gate_rules.gates)
            await events.append(work.connection, project_id, "gates_changed", data | {"rules": rules})
        return changed
