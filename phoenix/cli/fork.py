"""`phoenix fork`: a new project that goes on from a checkpoint of another, followed to its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uuid import UUID

    from phoenix.client.api import Client

EDITED_GATE = "spec"
"""What `--edit` without `--at` means."""


@dataclass(frozen=True)
class ForkOptions:
    """What the command line said."""

    project: str
    at: str = ""
    edit: str = ""
    title: str = ""
    model: str = ""
    approvals: str = ""
    budget_usd: str = ""
    record: str = ""
    reuse: bool | None = None
    """None: when something is edited."""
    server: str = ""
    as_json: bool = False


async def fork(options: ForkOptions) -> int:
    """Fork a project, follow the fork, and return the exit code."""
    from phoenix.cli.new import GATES, approvals_of, budget_of, check_record, read_text, record_path

    text = read_text(options.edit) if options.edit else None
    at = options.at or (EDITED_GATE if options.edit else "")
    budget, record = budget_of(options.budget_usd), record_path(options.record)
    from phoenix.cli.connection import open_project
    from phoenix.cli.screen import open_screen
    from phoenix.cli.session import end, open_settings, usable_model, work_on
    from phoenix.domain.history import ForkOrder

    settings = open_settings(model=options.model, server=options.server)
    check_record(settings, record)
    model = await usable_model(settings, named=True) if options.model else ""
    async with open_project(settings, options.project, record=record) as (connection, found):
        client, project = connection.client, found.project
        own = ":" in found.run.flow
        screen = open_screen(as_json=options.as_json, output_only=own)
        order = ForkOrder(
            title=options.title,
            model=model,
            approvals=approvals_of(options.approvals, () if own else GATES) if options.approvals else "",
            budget_usd=budget,
            edit=None if text is None else await _edited(client, project.id, at, text),
            reuse=text is not None if options.reuse is None else options.reuse,
        )
        made = await client.fork(project.id, at, order)
        view, overview = await work_on(connection, made, screen)
    return end(view, overview, as_json=options.as_json)


async def _edited(client: Client, project_id: UUID, at: str, text: str) -> dict[str, Any]:
    """Return the value that an edited form stands for; what it may be is the fork's to check."""
    from phoenix.cli.forms import decision_from, parse_yaml

    for request in (await client.checkpoint(project_id, at)).requests:
        if "edit" in request.verdicts:
            return decision_from(request, text).value or {}
    value = parse_yaml(text)
    return value if isinstance(value, dict) else {"value": value}
