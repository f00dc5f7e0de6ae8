"""Queries on how gates are decided: a project's level and rules, and those of its organisation."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.approval import HumanRequest
from phoenix.domain.gates import GateRule, GateRules, rule_for
from phoenix.errors import NotFound, VersionConflict
from phoenix.storage.tables import organisations, projects


@dataclass(frozen=True)
class Gates:
    """How the gates of a project are decided."""

    approvals: str
    project: GateRules
    organisation: GateRules

    def rule(self, asked: HumanRequest) -> GateRule:
        """Return the rule for a request. A question is answered by one person, whatever the quorum."""
        rule = rule_for(asked.name, self.project, self.organisation)
        return rule.model_copy(update={"quorum": 1}) if asked.kind == "ask" else rule


async def of_project(connection: AsyncConnection, project_id: UUID) -> Gates:
    """Return how the gates of a project are decided now.

    Raises:
        NotFound: there is no such project.
    """
    query = (
        select(projects.c.approvals, projects.c.gate_rules, organisations.c.gate_rules.label("defaults"))
        .join(organisations, organisations.c.id == projects.c.organisation_id)
        .where(projects.c.id == project_id)
    )
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFound(f"There is no project {project_id}.")
    return Gates(
        row.approvals, GateRules.model_validate(row.gate_rules), GateRules.model_validate(row.defaults)
    )


async def of_organisation(
    connection: AsyncConnection, organisation_id: UUID, *, lock: bool = False
) -> GateRules:
    """Return an organisation's rules, its row locked where they are to be changed."""
    query = select(organisations.c.gate_rules).where(organisations.c.id == organisation_id)
    found = await connection.execute(query.with_for_update() if lock else query)
    return GateRules.model_validate(found.scalar_one())


async def change(
    connection: AsyncConnection, organisation_id: UUID, rules: GateRules, *, digest: str | None = None
) -> None:
    """Change an organisation's rules.

    Args:
        connection: The transaction.
        organisation_id: Whose.
        rules: The new ones.
        digest: Of those that are expected; None for whatever they are.

    Raises:
        VersionConflict: they are others than was expected.
    """
    before = await of_organisation(connection, organisation_id, lock=True)
    if digest is not None and before.digest() != digest:
        raise VersionConflict("The rules have changed since they were read.", hint="Read them again.")
    values = {"gate_rules": rules.model_dump(mode="json")}
    await connection.execute(
        update(organisations).where(organisations.c.id == organisation_id).values(**values)
    )
