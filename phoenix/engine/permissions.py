"""Permission rules of a run's tools: which rule sets speak, and a row for each decision."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from phoenix.domain.approval import Approval, Verdict
from phoenix.domain.cleaning import clean_json
from phoenix.domain.frozen import digest_of
from phoenix.domain.identity import Principal
from phoenix.domain.permissions import (
    Effect,
    Ground,
    Outcome,
    Rehearsal,
    RuleLayer,
    RuleSet,
    Ruling,
    ToolCall,
    ToolDecision,
)
from phoenix.domain.run import Project, Run
from phoenix.engine.policy import NOBODY, POLICY, is_tool_call
from phoenix.engine.projects import visible
from phoenix.engine.work import Work, walled
from phoenix.storage import events, permissions
from phoenix.storage.database import transaction
from phoenix.telemetry.redaction import mask_secrets
from phoenix.tools.permissions import judge
from phoenix.tools.rule_files import layers_of

MAX_KEPT_CHARS = 8000
"""Of one argument; what is longer is cut."""
BY_RULES = "rules"
OUTCOMES: dict[Effect, Outcome] = {"allow": "allowed", "ask": "asked", "deny": "denied"}
DECIDED: dict[Verdict, Outcome] = {"approve": "approved", "edit": "edited", "reject": "rejected"}
CUT = "…[cut]"


class RunPermissions:
    """The port `Permissions` of one run.

    Args:
        database: Where decisions are kept.
        project: Whose rules speak beside those of the service and of its organisation.
        run: Whose calls are judged.
        service: The service's rules.
    """

    def __init__(self, database: AsyncEngine, project: Project, run: Run, service: RuleSet) -> None:
        self._database = database
        self._project = project
        self._run = run
        self._service = service

    async def judge(self, call: ToolCall, *, key: str, ground: Ground) -> Ruling:
        """Return what the rules say of a call; see `Permissions.judge`."""
        async with transaction(self._database) as connection:
            known = await permissions.find(connection, self._run.id, key)
            layers = await self._layers(connection)
        if known is None:
            # In a thread: a long command takes a while, and other runs go on meanwhile.
            ruling, by = self._attended(await asyncio.to_thread(judge, call, layers, ground))
            known = await self._keep(self._row(call, key, ruling, by))
        return Ruling(effect=known.effect, rule=known.rule, reason=known.reason)

    async def check(self, call: ToolCall, *, ground: Ground) -> Ruling:
        """Return what the rules say of a call that a person has changed; nothing is kept."""
        async with transaction(self._database) as connection:
            layers = await self._layers(connection)
        return await asyncio.to_thread(judge, call, layers, ground)

    async def _keep(self, row: ToolDecision) -> ToolDecision:
        """Store a decision, and tell of a denial once; another attempt may have been faster."""
        async with transaction(self._database) as connection:
            known = await permissions.add(connection, row)
            if known.id == row.id and known.outcome == "denied":
                data = {"tool": row.tool, "agent": row.agent, "task": row.task, "rule": row.rule}
                await events.append(connection, row.project_id, "tool_denied", data, run_id=row.run_id)
        return known

    async def _layers(self, connection: AsyncConnection) -> list[RuleLayer]:
        organisation = await permissions.organisation_rules(connection, self._run.organisation_id)
        return layers_of(self._service, organisation, self._project.rules)

    def _attended(self, ruling: Ruling) -> tuple[Ruling, str]:
        """Deny what would be asked about where nobody is there."""
        if ruling.effect != "ask" or self._project.approvals != "auto":
            return ruling, BY_RULES
        reason = f"{NOBODY} {ruling.reason}".strip()
        return ruling.model_copy(update={"effect": "deny", "reason": reason}), POLICY

    def _row(self, call: ToolCall, key: str, ruling: Ruling, by: str) -> ToolDecision:
        arguments, cut = shown_arguments(call.arguments)
        return ToolDecision(
            id=uuid4(),
            project_id=self._run.project_id,
            run_id=self._run.id,
            call=key,
            agent=call.agent,
            task=call.task,
            tool=clean_json(call.tool),
            arguments=arguments,
            arguments_digest=digest_of(clean_json(call.arguments)),
            cut=cut,
            effect=ruling.effect,
            rule=clean_json(ruling.rule),
            reason=clean_json(ruling.reason),
            outcome=OUTCOMES[ruling.effect],
            by="" if ruling.effect == "ask" else by,
            at=datetime.now(UTC),
        )


def shown_arguments(arguments: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return arguments fit to be kept: secrets masked, long texts cut; and the names of those cut."""
    cut: set[str] = set()

    def walk(value: Any, name: str) -> Any:
        if isinstance(value, dict):
            return {key: walk(inner, name or str(key)) for key, inner in value.items()}
        if isinstance(value, list):
            return [walk(inner, name) for inner in value]
        if not isinstance(value, str):
            return value
        # Masked whole first: half a secret would no longer look like one.
        masked, _ = mask_secrets(value)
        if len(masked) <= MAX_KEPT_CHARS:
            return masked
        cut.add(name)
        return masked[:MAX_KEPT_CHARS] + CUT

    return walk(clean_json(arguments), ""), sorted(cut)


async def settle(connection: AsyncConnection, approval: Approval, verdict: Verdict, *, by: str) -> None:
    """Write a person's decision to the row of the call that it is about, if it is about one."""
    if is_tool_call(approval.request) and verdict in DECIDED:
        call = str(approval.request.value["call"])
        await permissions.settle(connection, approval.run_id, call, DECIDED[verdict], by=by)


class Rules:
    """Reads and sets rules for users, and replays them over past decisions.

    Args:
        database: Where they are.
        service: The service's rules.
    """

    def __init__(self, database: AsyncEngine, service: RuleSet) -> None:
        self._database = database
        self.service = service

    async def of_organisation(self, who: Principal, *, work: Work | None = None) -> RuleSet | None:
        """Return the rules of a user's organisation; None when it has set none."""
        async with walled(self._database, who, work) as connection:
            return await permissions.organisation_rules(connection, who.organisation_id)

    async def set_organisation(self, work: Work, rules: RuleSet | None) -> None:
        """Set the rules of a user's organisation, for calls from now on; None takes them away."""
        await permissions.set_organisation_rules(work.connection, work.who.organisation_id, rules)
        count = len(rules.rules) if rules else 0
        digest = rules.digest() if rules else ""
        await work.note("rules.set", work.who.organisation_id, rules=count, digest=digest)

    async def decisions(
        self,
        who: Principal,
        project_id: UUID,
        *,
        outcome: str = "",
        after: int = 0,
        limit: int = 200,
        work: Work | None = None,
    ) -> list[ToolDecision]:
        """Return a project's decisions, oldest first.

        Raises:
            NotFound: see `visible`.
        """
        async with walled(self._database, who, work) as connection:
            await visible(connection, who, project_id)
            return await permissions.page(connection, project_id, outcome=outcome, after=after, limit=limit)

    async def rehearse(self, rules: RuleSet, project_id: UUID | None = None) -> Rehearsal:
        """Replay rules over past decisions of a project, or of all."""
        async with transaction(self._database) as connection:
            found = await permissions.past(connection, project_id)
        return rehearse(layers_of(self.service, project=rules), found)


def rehearse(layers: Sequence[RuleLayer], decisions: Sequence[ToolDecision]) -> Rehearsal:
    """Return what rules would have done to decisions. A call that was cut is not known, so it is asked."""
    counted: dict[Effect, int] = {"allow": 0, "ask": 0, "deny": 0}
    missed: list[ToolDecision] = []
    stopped: list[ToolDecision] = []
    for decision in decisions:
        call = ToolCall(
            tool=decision.tool, arguments=decision.arguments, agent=decision.agent, task=decision.task
        )
        effect = judge(call, layers).effect
        if effect == "allow" and decision.cut:
            effect = "ask"
        counted[effect] += 1
        if effect == "allow" and decision.outcome == "rejected":
            missed.append(decision)
        if effect == "deny" and decision.outcome in ("approved", "edited"):
            stopped.append(decision)
    return Rehearsal(
        total=len(decisions),
        allowed=counted["allow"],
        denied=counted["deny"],
        asked=counted["ask"],
        stopped_approved=stopped,
        missed=missed,
    )
