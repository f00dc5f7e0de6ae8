"""Who may decide an approval. Pure: rows in, a reason out."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from phoenix.domain.approval import Approval, Verdict
from phoenix.domain.identity import MAY, Principal, Role


def refusal(
    who: Principal, approval: Approval, authors: Collection[UUID], verdict: Verdict = "approve"
) -> str:
    """Return why somebody may not give a verdict; empty when they may.

    Args:
        who: Somebody of the project's organisation.
        approval: What is to be decided.
        authors: The users who had a hand in it; looked at only where four eyes are asked for.
        verdict: Anybody who may decide may reject: that lets nothing of one's own pass.
    """
    role = who.grants.get(approval.project_id, who.role)
    if not who.may("approve", approval.project_id):
        return f"Your role ({role}) may not approve in this project."
    needs = approval.needs()
    if who.email not in needs.users and not reaches(role, needs.role):
        escalated = " since it was escalated" if approval.escalated_at is not None else ""
        return f"This needs the role {needs.role}{escalated}; yours is {role}."
    if approval.rule.four_eyes and verdict != "reject" and who.user_id in authors:
        return "Four eyes are asked for here: whoever launched, edited or steered this may not approve it."
    return ""


def reaches(role: Role, least: Role) -> bool:
    """Tell whether a role may all that another may."""
    return MAY[role] >= MAY[least]


def refusal_here(approval: Approval) -> str:
    """Return why nobody can decide on the service's own machine, where names are not checked."""
    if approval.rule.four_eyes or approval.rule.quorum > 1:
        return "This gate asks who decides, and nobody is signed in here."
    return ""
