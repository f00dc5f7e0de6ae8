"""Queries on permission rules and on decisions about tool calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.permissions import Outcome, RuleSet, ToolDecision
from phoenix.storage.tables import CLOCK, organisations, projects, runs
from phoenix.storage.tables_people import tool_decisions

COLUMNS = [tool_decisions.c[name] for name in ToolDecision.model_fields]


def _decision(row: Row[tuple[Any, ...]]) -> ToolDecision:
    return ToolDecision(**row._mapping)


async def organisation_rules(connection: AsyncConnection, organisation_id: UUID) -> RuleSet | None:
    """Return an organisation's rules; None when it has set none."""
    query = select(organisations.c.rules).where(organisations.c.id == organisation_id)
    found = (await connection.execute(query)).scalar_one_or_none()
    return None if found is None else RuleSet.model_validate(found)


async def set_organisation_rules(
    connection: AsyncConnection, organisation_id: UUID, rules: RuleSet | None
) -> None:
    """Set an organisation's rules; None takes them away."""
    value = None if rules is None else rules.model_dump(mode="json")
    query = update(organisations).where(organisations.c.id == organisation_id).values(rules=value)
    await connection.execute(query)


async def project_rules(connection: AsyncConnection, project_id: UUID) -> RuleSet | None:
    """Return a project's rules; None when it has none of its own."""
    found = (await connection.execute(select(projects.c.rules).where(projects.c.id == project_id))).scalar()
    return None if found is None else RuleSet.model_validate(found)


async def find(connection: AsyncConnection, run_id: UUID, call: str) -> ToolDecision | None:
    """Return the decision on a call of a run; None when there is none yet."""
    query = select(*COLUMNS).where(tool_decisions.c.run_id == run_id, tool_decisions.c.call == call)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else _decision(row)


async def add(connection: AsyncConnection, decision: ToolDecision) -> ToolDecision:
    """Store a decision and return it; one that the call has already stays, and is returned instead."""
    # Its run's row before its project's, as everywhere: the foreign keys would take them in any order.
    held = select(runs.c.id).where(runs.c.id == decision.run_id).with_for_update(read=True, key_share=True)
    await connection.execute(held)
    values = decision.model_dump()
    stored = insert(tool_decisions).values(values).on_conflict_do_nothing(index_elements=["run_id", "call"])
    row = (await connection.execute(stored.returning(*COLUMNS))).one_or_none()
    if row is not None:
        return _decision(row)
    found = await find(connection, decision.run_id, decision.call)
    assert found is not None
    return found


async def settle(connection: AsyncConnection, run_id: UUID, call: str, outcome: Outcome, *, by: str) -> None:
    """Write what a person decided on a call that was asked about, once."""
    query = (
        update(tool_decisions)
        .where(
            tool_decisions.c.run_id == run_id,
            tool_decisions.c.call == call,
            tool_decisions.c.outcome == "asked",
        )
        .values(outcome=outcome, by=by, decided_at=CLOCK)
    )
    await connection.execute(query)


async def page(
    connection: AsyncConnection, project_id: UUID, *, outcome: str = "", after: int = 0, limit: int = 200
) -> list[ToolDecision]:
    """Return a project's decisions, oldest first, the first `after` of them left out."""
    query = (
        select(*COLUMNS)
        .where(tool_decisions.c.project_id == project_id)
        .order_by(tool_decisions.c.at, tool_decisions.c.id)
        .offset(after)
        .limit(limit)
    )
    if outcome:
        query = query.where(tool_decisions.c.outcome == outcome)
    return [_decision(row) for row in await connection.execute(query)]


async def past(
    connection: AsyncConnection, project_id: UUID | None = None, *, limit: int = 100_000
) -> Sequence[ToolDecision]:
    """Return decisions on record, the newest `limit` of one project or of all."""
    query = select(*COLUMNS).order_by(tool_decisions.c.at.desc(), tool_decisions.c.id).limit(limit)
    if project_id is not None:
        query = query.where(tool_decisions.c.project_id == project_id)
    return [_decision(row) for row in await connection.execute(query)]
