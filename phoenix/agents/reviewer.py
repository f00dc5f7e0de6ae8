"""The reviewer: reads a green change for what tests miss."""

from __future__ import annotations

from phoenix.agents.drafting import draft
from phoenix.agents.prompting import plain_yaml, render
from phoenix.agents.requirement import as_yaml
from phoenix.domain.plan import Plan, size_in
from phoenix.domain.spec import Spec
from phoenix.domain.work import Review, TaskWork
from phoenix.ports import Caller, Ports

MAX_DIFF_CHARS = 60_000


def interfaces_text(plan: Plan | None) -> str:
    """Show a plan's shared interfaces; empty when there are none."""
    if plan is None or not plan.interfaces:
        return ""
    return plain_yaml([i.model_dump(exclude_defaults=True) for i in plan.interfaces])


async def review(work: TaskWork, commit: str, ports: Ports) -> Review:
    """Review the change from the task's base to a commit."""
    spec = await ports.artifacts.get(work.spec, Spec)
    plan = await ports.artifacts.get(work.plan, Plan) if work.plan else None
    diff = await ports.workspace.patch(work.base, commit)
    messages = render(
        "review",
        task=work,
        spec=as_yaml(spec),
        interfaces=interfaces_text(plan),
        diff=diff[:MAX_DIFF_CHARS] or "(no change)",
    )
    caller = Caller("review", f"{work.task}/r{work.round}", size_in(plan, work.task))
    return await draft(ports, caller, messages, Review)
