"""The page of events: every kind with its fields and when it happens. A test compares it with the code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from manual.tables import code, table

INTRODUCTION = """# Events

What happened in a project, numbered from 1 without gap: `GET /projects/ID/events`, its stream and websocket, `phoenix watch --json`,
and, of the kinds that it names, a [webhook](../webhooks.md). Each has `seq`, `project_id`, `run_id`, `kind`, `data` and `at`. Fields of
`data` that are marked ? are not always there. New fields and new kinds may come; those that are here keep their meaning.

In `data`, `key` is the run's place (empty for the project's own, `build/1/T2` for a task's), `task` a task of the plan, `step` and `path`
where in the flow, `seconds` a time, and amounts of USD are decimal strings.

"""
ABOUT = "approval_id kind name key"


@dataclass(frozen=True)
class Kind:
    """One kind of event. A field with ? is not always there."""

    when: str
    fields: str = ""


PROJECT: Mapping[str, Kind] = {
    "project_created": Kind("a project is launched", "title flow model"),
    "project_forked": Kind(
        "a project goes on from another's checkpoint", "title from checkpoint before model reuse by"
    ),
    "project_paused": Kind("somebody paused it", "reason"),
    "project_unpaused": Kind("somebody let it go on"),
    "project_cancelled": Kind("somebody cancelled it; what is kept", "kept documents"),
    "project_delivered": Kind("the branch is there", "branch commit"),
    "project_pruned": Kind("its inner state was removed", "bytes"),
    "gates_changed": Kind("who decides where was changed while it runs", "from approvals by rules"),
    "message_sent": Kind("somebody said something to its agents", "message_id task text by from?"),
    "message_read": Kind("an agent read a message", "message_id message agent task turn"),
    "effect_failed": Kind("something outside, such as a push, failed for good", "kind error"),
}
RUNS: Mapping[str, Kind] = {
    "run_enqueued": Kind("a further run of a thread was added", "key flow behind"),
    "run_opened": Kind("a run opened a child run, such as a task's", "key flow"),
    "run_started": Kind("a worker took a run for the first time", "key flow attempt was"),
    "run_resumed": Kind("a worker took it again", "key flow attempt was"),
    "run_waiting": Kind(
        "it waits for people, for tasks, or for an organisation's budget", "key for scope? reason?"
    ),
    "run_handed_back": Kind(
        "a worker gave it back; with a reason where it was not just told to stop", "key reason?"
    ),
    "run_retried": Kind("a failed run was tried again by somebody", "key"),
    "run_finished": Kind("it is over", "key flow status error?"),
    "step_started": Kind("a step began", "step path attempt"),
    "step_finished": Kind("a step ended", "step path attempt seconds cached"),
    "step_failed": Kind("a step failed", "step path attempt seconds error will_retry"),
}
APPROVALS: Mapping[str, Kind] = {
    "approval_requested": Kind("a gate is reached", f"{ABOUT} policy needs? deadline_at?"),
    "approval_voted": Kind("somebody approved where several have to", f"{ABOUT} by votes quorum"),
    "approval_reminded": Kind("it still waits", f"{ABOUT} deadline_at number needs"),
    "approval_escalated": Kind("others decide from now on", f"{ABOUT} deadline_at needs"),
    "approval_expired": Kind("its deadline has passed", f"{ABOUT} deadline_at outcome"),
    "approval_decided": Kind(
        "it is decided, by a person, the policy or the deadline", f"{ABOUT} verdict by how reason"
    ),
    "tool_denied": Kind("a permission rule denied a call of a tool", "tool agent task rule"),
}
WORK: Mapping[str, Kind] = {
    "draft_refused": Kind(
        "an agent's document did not hold together and is written again", "agent attempt problems"
    ),
    "board_changed": Kind("tasks were given out or came back", "round tasks"),
    "task_checked": Kind("a task's own check ran", "task round problems"),
    "task_reviewed": Kind("a reviewer read a task's change", "task round blocking summary"),
    "seal_broken": Kind("a coder wrote where sealed tests belong", "task files"),
    "merge_conflicted": Kind("a merge conflicts, or its tests fail", "task files tests"),
    "merge_proposed": Kind("a merge was made and waits for approval", "task commit conflicts"),
    "task_merged": Kind("a task is in the build", "task commit resolved"),
    "task_reused": Kind("a fork took a task over", "task commit"),
    "task_continued": Kind("a fork's task goes on from its former work", "task commit changed"),
    "plan_kept": Kind("a fork keeps the plan", "changed"),
    "contract_kept": Kind("a fork keeps the contract", "commit"),
    "tests_sealed": Kind("acceptance tests are written, seen red, and hashed", "tests red files"),
    "tests_kept": Kind("a fork keeps sealed tests", "criteria written"),
    "build_verified": Kind("a clean checkout was tested", "round passed criteria tests problems"),
    "tool_called": Kind("an agent called a tool", "tool arguments result agent? task? seconds?"),
    "lessons_learned": Kind("lessons were written", "lessons kinds refused masked"),
    "lessons_missed": Kind("they could not be; the delivery stands", "reason"),
    "memory_recalled": Kind("an agent was reminded of something", "agent task items"),
    "memory_degraded": Kind("recall worked in part, or not", "agent task reason"),
    "memory_written": Kind("a delivery was remembered", "items known masked refused unindexed"),
}
MODELS: Mapping[str, Kind] = {
    "model_routed": Kind(
        "which model an agent is given, and why, where that is not plain", "agent task alias model reason"
    ),
    "model_called": Kind(
        "a model answered",
        "agent task model input_tokens output_tokens cost_usd cached_tokens recorded cached seconds tool_calls",
    ),
    "model_replayed": Kind("an answer came from the journal and was not paid again", "agent task model"),
    "model_retried": Kind(
        "a call failed and is tried again", "agent task attempt reason message wait_seconds"
    ),
    "model_fell_back": Kind("the next model is asked", "agent task model to reason message"),
    "circuit_changed": Kind("a model is left alone, probed, or asked again", "model state"),
    "structured_answered": Kind("how an answer was brought into its schema", "agent task schema tier repair"),
    "conversation_compacted": Kind(
        "old results were cut out of a conversation", "agent task results characters"
    ),
    "conversation_summarised": Kind(
        "the older part of an agent's conversation gave way to a summary", "agent task messages tokens"
    ),
    "price_unknown": Kind("budgets in USD cannot count a model", "model"),
}
BUDGETS: Mapping[str, Kind] = {
    "budget_warned": Kind("four fifths of a limit are used", "scope task measure limit used"),
    "budget_raised": Kind("a project's budget was raised", "from_usd budget_usd"),
    "limit_raised": Kind("another limit was raised", "scope measure from limit"),
    "scope_cut": Kind(
        "tasks were left out, or building was stopped, for want of budget", "tasks stop by reason"
    ),
}
GROUPS: Mapping[str, Mapping[str, Kind]] = {
    "Projects": PROJECT,
    "Runs and steps": RUNS,
    "Approvals and permissions": APPROVALS,
    "Models": MODELS,
    "Budgets": BUDGETS,
    "Work": WORK,
}
ALL: Mapping[str, Kind] = {name: kind for group in GROUPS.values() for name, kind in group.items()}


def page() -> str:
    """Return all kinds by group."""
    parts = []
    for title, group in GROUPS.items():
        rows = [
            (code(name), kind.when, ", ".join(_field(f) for f in kind.fields.split()))
            for name, kind in group.items()
        ]
        parts.append(f"## {title}\n\n{table(('kind', 'when', 'data'), rows)}")
    return INTRODUCTION + "\n".join(parts)


def _field(name: str) -> str:
    return code(name.rstrip("?")) + ("?" if name.endswith("?") else "")
