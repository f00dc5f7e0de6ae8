"""The decomposition agent: turns a spec into a DAG of tasks."""

from __future__ import annotations

from phoenix.agents.drafting import draft
from phoenix.agents.grounding import ground
from phoenix.agents.prompting import render
from phoenix.agents.recalling import recall, reminder
from phoenix.agents.requirement import as_yaml
from phoenix.domain.plan import Plan, PlanDraft, check_plan
from phoenix.domain.project import Request
from phoenix.domain.spec import Spec
from phoenix.ports import Caller, Ports


async def decompose(value: Spec | Plan, ports: Ports, reason: str = "") -> Plan:
    """Write the plan of a spec, or revise the one that was sent back with a reason."""
    spec = value if isinstance(value, Spec) else await ports.artifacts.get(value.spec, Spec)
    digest = await ports.artifacts.put(spec)
    request = await ports.artifacts.get(spec.request, Request)
    base = await ports.workspace.prepare(request.repository)
    about = await ground(ports, base, focus=[spec.summary, *(c.text for c in spec.criteria())])
    caller = Caller("decompose")
    wanted = "\n".join([spec.title, spec.summary, *(r.text for r in spec.requirements)])
    recalled = await recall(ports, caller, wanted, ["pattern"], limit=2, max_tokens=2500)
    messages = render(
        "decompose",
        spec=as_yaml(spec),
        layout=about.layout,
        map=about.map,
        recalled=reminder(recalled),
        previous=as_yaml(value) if isinstance(value, Plan) else "",
        feedback=reason or "No reason was given.",
    )

    def check(plan: PlanDraft) -> None:
        check_plan(plan, spec)

    written = await draft(ports, caller, messages, PlanDraft, check)
    return Plan(**written.model_dump(), spec=digest)
