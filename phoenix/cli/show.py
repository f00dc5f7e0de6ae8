"""`phoenix list` and `phoenix show`: projects as they stand. Nothing is executed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from phoenix.cli.output import print_json

if TYPE_CHECKING:
    from rich.console import Console

    from phoenix.cli.view import View
    from phoenix.domain.approval import Approval
    from phoenix.domain.run import Project, Run, Usage
    from phoenix.engine.launch import Listed, Overview

STATUS = {"success": "delivered", "pending": "queued"}


async def list_projects(*, limit: int = 50, server: str = "", as_json: bool = False) -> int:
    """Print projects, newest first."""
    from phoenix.cli.connection import open_connection
    from phoenix.cli.output import say
    from phoenix.cli.session import open_settings

    async with open_connection(open_settings(server=server), execution=False) as connection:
        found = await connection.client.projects(limit + 1)
    if as_json:
        for project in found[:limit]:
            print_json(listed(project))
    else:
        _print_list(found[:limit])
    if len(found) > limit:
        say(f"hint: There are more projects; these are the latest {limit}. Show more with --limit N.")
    return 0


def listed(found: Listed) -> dict[str, Any]:
    """Return a project as one JSON line."""
    project, cost = found.project, found.usage.cost_usd
    return {
        "project_id": str(project.id),
        "title": project.title,
        "status": status_of(project, found.run),
        "waiting_for": found.waiting_for,
        "model": project.model,
        "cost_usd": None if cost is None else float(cost),
        "created_at": project.created_at.isoformat(),
    }


def status_of(project: Project, run: Run) -> str:
    """Return a project's status in the words of the command line."""
    unfinished = run.status in ("pending", "running", "waiting")
    if project.paused_at is not None and unfinished:
        return "paused"
    return STATUS.get(run.status, run.status)


def _print_list(found: list[Listed]) -> None:
    from rich import box
    from rich.table import Table

    from phoenix.cli.documents import line, new_console
    from phoenix.cli.escape import one_line

    if not found:
        new_console().print('There are no projects yet. Start one: phoenix new "REQUIREMENT"')
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("ID", no_wrap=True, min_width=8)
    table.add_column("Status", no_wrap=True)
    table.add_column("Waiting for", overflow="fold")
    table.add_column("Cost", no_wrap=True)
    table.add_column("Started", no_wrap=True)
    table.add_column("Title", overflow="ellipsis", no_wrap=True)
    for each in found:
        cells = (
            str(each.project.id)[:8],
            status_of(each.project, each.run),
            ", ".join(each.waiting_for) or "-",
            cost_of(each.usage),
            f"{each.project.created_at.astimezone():%Y-%m-%d %H:%M}",
            one_line(each.project.title, 60),
        )
        table.add_row(*(line(cell) for cell in cells))
    new_console().print(table)


def cost_of(usage: Usage) -> str:
    """Return a cost in words."""
    return "unknown" if usage.cost_usd is None else f"${usage.cost_usd:.4f}"


async def show_project(prefix: str, *, server: str = "", as_json: bool = False) -> int:
    """Print a project: spec, plan, tasks, tests, cost, next decision."""
    from phoenix.cli.connection import open_connection
    from phoenix.cli.documents import new_console
    from phoenix.cli.follow import Follower
    from phoenix.cli.screen import JsonScreen
    from phoenix.cli.session import first_view, open_settings

    async with open_connection(open_settings(server=server), execution=False) as connection:
        overview = await connection.client.find(prefix)
        follower = Follower(connection, overview.project, JsonScreen())
        view = await follower.past(first_view(connection, overview.project))
    if as_json:
        print_json(shown(view, overview))
    else:
        _print_project(new_console(), view, overview)
    return 0


def shown(view: View, overview: Overview) -> dict[str, Any]:
    """Return all that is known of a project as one JSON value."""
    from phoenix.cli.follow import summary

    found = summary(view, overview)
    error = overview.run.error
    return (
        found
        | {"status": status_of(overview.project, overview.run), "title": overview.project.title}
        | ({"error": error.model_dump(mode="json")} if error else {})
        | {
            "requirement": overview.project.requirement,
            "model": overview.project.model,
            "forked_from": origin(overview.project),
            "usage": overview.usage.model_dump(mode="json"),
            "budget_usd": None if overview.project.budget_usd is None else str(overview.project.budget_usd),
            "limits": overview.project.limits.model_dump(mode="json"),
            "artifacts": overview.artifacts,
            "approvals": [a.model_dump(mode="json") for a in overview.approvals],
        }
    )


def origin(project: Project) -> dict[str, Any] | None:
    """Return what a fork was forked from; None for a project of its own."""
    if not project.forked_at:
        return None
    source = None if project.forked_from is None else str(project.forked_from)
    return {"project_id": source, "checkpoint": project.forked_at}


def tokens_of(usage: Usage) -> str:
    """Return the calls and tokens that were used, in words."""
    cached = f" ({usage.cached_tokens:,} cached by the provider)" if usage.cached_tokens else ""
    return f"{usage.calls} model calls, {usage.input_tokens:,} tokens in{cached}, {usage.output_tokens:,} out"


def _print_project(console: Console, view: View, overview: Overview) -> None:
    from phoenix.cli.budgets import limits_text
    from phoenix.cli.documents import line, of_kind, tasks_table
    from phoenix.cli.screen import present

    project, usage = overview.project, overview.usage
    present(console, f"{project.title}  ({str(project.id)[:8]}, {status_of(project, overview.run)})")
    if project.forked_at:
        source = str(project.forked_from)[:8] if project.forked_from else "a project that is gone"
        console.print(line(f"forked from {source} at {project.forked_at[-8:]}"))
    for kind in ("spec", "plan"):
        if kind in overview.artifacts:
            present(console, kind.capitalize(), of_kind(kind, overview.artifacts[kind]))
    if view.tasks:
        rows = [(t.task, t.title, t.status, t.said) for t in view.tasks]
        present(console, "Tasks", tasks_table(rows))
    if "evidence" in overview.artifacts:
        present(console, "Tests", of_kind("evidence", overview.artifacts["evidence"]))
    elif view.tests:
        present(console, "Tests", line(view.tests))
    present(console, "Cost", line(f"{cost_of(usage)}; {tokens_of(usage)}; model {project.model}"))
    present(console, "Budget", line(limits_text(project.budget_usd, project.limits) or "none"))
    delivery = overview.artifacts.get("delivery")
    if delivery:
        rows_ = [f"{name}: {delivery.get(name, '')}" for name in ("branch", "commit", "repository", "report")]
        present(console, "Delivery", line("\n".join(rows_)))
    if "lessons" in overview.artifacts:
        present(console, "Lessons", of_kind("lessons", overview.artifacts["lessons"]))
    if overview.run.error is not None:
        where = f" in {overview.run.error.step}" if overview.run.error.step else ""
        present(console, f"Failed{where}", line(overview.run.error.message))
    _print_next(console, overview)


def _print_next(console: Console, overview: Overview) -> None:
    from phoenix.cli.documents import line
    from phoenix.cli.screen import present

    short = str(overview.project.id)[:8]
    if overview.approvals:
        _print_decision(console, overview.approvals[0], short)
    elif overview.run.status in ("failed", "running", "pending"):
        present(console, "Next", line(f"phoenix resume {short}"))


def _print_decision(console: Console, approval: Approval, short: str) -> None:
    from phoenix.cli.documents import document, forecast_text, line
    from phoenix.cli.forms import form_of, questions_of
    from phoenix.cli.screen import present

    request = approval.request
    present(console, f"To decide: {request.name}")
    if questions_of(request) is not None:
        console.print(line(form_of(request)), soft_wrap=True)
        text = f"phoenix approve {short} (takes the defaults), or with --file ANSWERS.yaml as above"
    else:
        if request.name not in ("spec", "plan"):
            console.print(document(request))
        elif "forecast" in request.notes:
            console.print(forecast_text(request.notes["forecast"]))
        text = f"phoenix approve {short} [--verdict {'|'.join(request.verdicts)}]"
    present(console, "Next", line(f"{text}, then phoenix resume {short}"))
