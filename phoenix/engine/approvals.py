"""Approvals as one user sees them: what waits, who is needed, and whether that is them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from phoenix.domain.approval import Approval, Needs
from phoenix.domain.gates import GateRules
from phoenix.domain.identity import Principal
from phoenix.engine.deciders import refusal
from phoenix.engine.projects import visible
from phoenix.engine.work import Work, walled
from phoenix.errors import NotFound
from phoenix.storage import approvals, audit, gate_rules, search, votes, waiting
from phoenix.storage.database import transaction
from phoenix.storage.waiting import Pile

__all__ = ["Approvals", "Pile", "SeenApproval"]

MANY = 1000


class SeenApproval(Approval):
    """An approval as one user sees it."""

    needed: Needs
    may_decide: bool
    """Whether this user may still approve it."""
    why_not: str = ""


class Approvals:
    """Reads approvals, and the rules of an organisation, for a user."""

    def __init__(self, database: AsyncEngine) -> None:
        self._database = database

    async def page(
        self,
        who: Principal,
        *,
        mine: bool = False,
        cursor: str = "",
        limit: int = 200,
        work: Work | None = None,
    ) -> tuple[list[SeenApproval], str | None]:
        """Return a page of the open approvals that a user sees, oldest first, and where the next begins.

        Args:
            who: The user.
            mine: Only those that they may decide, and have not voted on.
            cursor: Where the page begins; empty for the first.
            limit: How many at most.
            work: The request that it is a part of.

        Raises:
            PayloadInvalid: the cursor is none.
        """
        after = search.read_cursor(cursor) if cursor else None
        size = MANY if mine else limit + 1
        shown: list[SeenApproval] = []
        async with walled(self._database, who, work) as connection:
            while len(shown) <= limit:
                found = await approvals.open_in(
                    connection, who.organisation_id, only=_only(who), after=after, limit=size
                )
                seen = await _seen(connection, who, found)
                shown += [one for one in seen if one.may_decide or not mine]
                if len(found) < size:
                    break
                after = found[-1].created_at, found[-1].id
        last = shown[limit - 1] if len(shown) > limit else None
        return shown[:limit], search.place_of(last.created_at, last.id) if last else None

    async def get(self, who: Principal, approval_id: UUID, *, work: Work | None = None) -> SeenApproval:
        """Return an approval.

        Raises:
            NotFound: there is none, or the user does not see its project.
        """
        async with walled(self._database, who, work) as connection:
            found = await approvals.get(connection, approval_id)
            try:
                await visible(connection, who, found.project_id)
            except NotFound as error:
                raise NotFound(f"There is no approval {approval_id}.") from error
            return (await _seen(connection, who, [found]))[0]

    async def after(self, who: Principal, approval: Approval, work: Work) -> SeenApproval:
        """Return an approval as a user sees it in the transaction in which they have just decided."""
        return (await _seen(work.connection, who, [approval]))[0]

    async def digest(self, who: Principal, *, work: Work | None = None) -> list[Pile]:
        """Return how many approvals wait in the projects that a user sees, by project and gate."""
        async with walled(self._database, who, work) as connection:
            return await waiting.piles(connection, who.organisation_id, only=_only(who))

    async def refused(self, who: Principal, approval_id: str, why: str, *, request_id: str) -> None:
        """Note in the audit log that somebody tried to decide whose role decides nothing.

        Nothing is noted of what they do not see.
        """
        try:
            found = await self.get(who, UUID(approval_id))
        except (NotFound, ValueError):
            return
        async with transaction(self._database) as connection:
            await audit.note(
                connection,
                who,
                "approval.refused",
                found.id,
                request_id=request_id,
                project_id=str(found.project_id),
                gate=found.request.name,
                why=why,
            )

    async def rules(self, who: Principal, *, work: Work | None = None) -> GateRules:
        """Return the rules of a user's organisation."""
        async with walled(self._database, who, work) as connection:
            return await gate_rules.of_organisation(connection, who.organisation_id)

    async def change_rules(self, who: Principal, rules: GateRules, *, digest: str | None, work: Work) -> None:
        """Change the rules of a user's organisation; approvals that wait already stay as they are.

        Raises:
            VersionConflict: they are others than those of the digest.
        """
        await gate_rules.change(work.connection, who.organisation_id, rules, digest=digest)
        await work.note("gates.change", who.organisation_id, rules=rules.model_dump(mode="json"))


def _only(who: Principal) -> list[UUID] | None:
    return None if who.may("read") else [p for p in who.grants if who.may("read", p)]


async def _seen(connection: AsyncConnection, who: Principal, found: Sequence[Approval]) -> list[SeenApproval]:
    authors: dict[UUID, set[UUID]] = {}
    for approval in found:
        if approval.rule.four_eyes and approval.project_id not in authors:
            authors[approval.project_id] = await votes.authors(connection, approval.project_id)
    return [_as_seen(who, one, authors.get(one.project_id, set())) for one in found]


def _as_seen(who: Principal, approval: Approval, authors: set[UUID]) -> SeenApproval:
    why = refusal(who, approval, authors)
    has_voted = any(
        vote.voter_id == who.user_id and vote.escalated == (approval.escalated_at is not None)
        for vote in approval.votes
    )
    if approval.decision is not None:
        why = "It is decided."
    elif not why and has_voted:
        why = "You have voted on it."
    fields = {name: getattr(approval, name) for name in Approval.model_fields}
    return SeenApproval(**fields, needed=approval.needs(), may_decide=not why, why_not=why)


def oldest(piles: Sequence[Pile]) -> float:
    """Return for how many seconds the oldest waits; 0 where nothing does."""
    return max((pile.oldest_seconds for pile in piles), default=0.0)


def next_deadline(piles: Sequence[Pile]) -> datetime | None:
    """Return the next deadline of all."""
    return min((p.next_deadline_at for p in piles if p.next_deadline_at is not None), default=None)
