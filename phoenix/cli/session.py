"""One project worked on by this process: from its opening to what is said at its end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from phoenix.cli.board import spent
from phoenix.cli.follow import Follower, exit_code, summary
from phoenix.cli.output import print_json, say, standing
from phoenix.cli.view import View

if TYPE_CHECKING:
    from decimal import Decimal

    from phoenix.bootstrap import System
    from phoenix.cli.gates import TerminalAsker
    from phoenix.cli.screen import Screen
    from phoenix.domain.run import Project
    from phoenix.engine.launch import Overview
    from phoenix.settings import Settings


def open_settings(*, model: str = "") -> Settings:
    """Return the settings, a model named on the command line taken in; logs go to stderr.

    Raises:
        SettingInvalid: a setting is wrong.
    """
    from phoenix.settings import load_settings
    from phoenix.telemetry.logs import configure_logs

    settings = load_settings()
    # A failed run is reported as one message: its log record is for those who asked for logs.
    asked = "log_level" in settings.model_fields_set
    configure_logs(settings.log_level if asked else "error", settings.log_format)
    return settings.model_copy(update={"model": absolute_model(model)}) if model else settings


def absolute_model(model: str) -> str:
    """Return the model with its recording's path absolute: a project may be resumed from elsewhere."""
    from pathlib import Path

    scheme, colon, path = model.partition(":")
    if scheme != "recorded" or not colon:
        return model
    return f"recorded:{Path(path).expanduser().absolute()}"


async def usable_model(settings: Settings) -> str:
    """Return the model to use, checked as far as that costs nothing.

    Raises:
        NoModel, ModelUnknown, ModelRefusedKey, ModelUnavailable: why there is none.
    """
    from phoenix.bootstrap import check_model, find_model

    model = await find_model(settings)
    await check_model(settings, model)
    return absolute_model(model)


def asker_of(screen: Screen) -> TerminalAsker | None:
    """Return who is asked: the person at the terminal, or None where there is nobody."""
    from phoenix.cli.gates import TerminalAsker
    from phoenix.cli.screen import JsonScreen
    from phoenix.cli.terminal import Terminal, is_interactive

    if isinstance(screen, JsonScreen) or not is_interactive():
        return None
    return TerminalAsker(screen.console, Terminal(screen.console))


def first_view(system: System, project: Project) -> View:
    """Return a project's view before its first event."""
    return View(title=project.title, model=project.model, sandbox=system.sandbox)


async def work_on(
    system: System,
    project: Project,
    screen: Screen,
    *,
    resumed: bool = False,
    budget_usd: Decimal | None = None,
    policy: str = "",
) -> tuple[View, Overview]:
    """Work on a project, followed on a screen, until it ends or waits for somebody.

    Args:
        system: What works.
        project: What is worked on.
        screen: Where it is followed.
        resumed: It has begun before.
        budget_usd: What a resumed project may cost from now on.
        policy: Who decides in place of people, in words.
    """
    engine = system.engine
    follower = Follower(engine, project, screen, asker_of(screen), home=system.home)
    if policy:
        follower.policy = policy
    view = first_view(system, project)
    if resumed:
        view = await follower.past(view)
        # Before anything is worked on: runs that are taken look at the budget once.
        await engine.resume(project.id, budget_usd=budget_usd)
    standing.project_id = str(project.id)
    async with engine.worker():
        try:
            view = await follower.follow(view)
        except asyncio.CancelledError:
            say("stopping: what runs is handed back ...")
            raise
    return view, await engine.overview(project.id)


def end(view: View, overview: Overview, *, as_json: bool) -> int:
    """Say how a project stands, and return the exit code."""
    if as_json:
        print_json(summary(view, overview))
        return exit_code(view)
    short = str(overview.project.id)[:8]
    said = {"delivered": _delivered, "waiting": _waiting}.get(view.status, _failed)
    said(view, overview, short)
    return exit_code(view)


def _delivered(view: View, overview: Overview, short: str) -> None:
    import typer

    from phoenix.cli.escape import clean

    if overview.run.flow != "develop":
        output: Any = overview.run.output
        bare = isinstance(output, dict) and set(output) == {"value"}
        print_json(output["value"] if bare else output)
        return
    delivery = overview.artifacts.get("delivery", {})
    lines = [
        f"delivered  {overview.project.title} ({short})",
        f"branch     {delivery.get('branch', view.branch)}",
        f"commit     {delivery.get('commit', view.commit)}",
        f"repository {delivery.get('repository', '')}",
        f"evidence   {delivery.get('report', '')}",
        f"cost       {spent(view)}",
    ]
    typer.echo(clean("\n".join(lines)))


def _waiting(view: View, overview: Overview, short: str) -> None:
    names = ", ".join(a.request.name for a in overview.approvals) or "a decision"
    say(f"waiting for someone to decide: {names}")
    say(f"hint: See it with: phoenix show {short}")
    say(f"hint: Decide it with: phoenix approve {short} [--verdict approve|reject|respond|edit]")
    say(f"hint: Then go on with: phoenix resume {short}")


def _failed(view: View, overview: Overview, short: str) -> None:
    if view.status == "cancelled":
        say(f"cancelled: {overview.project.title} ({short})")
        return
    error = view.error or {}
    step = f" in step {error['step']}" if error.get("step") else ""
    say(f"error: failed{step}: {error.get('message', 'no reason was given')}")
    if error.get("code") == "budget_spent":
        say(f"hint: Give more with: phoenix resume {short} --budget-usd USD")
    else:
        say(f"hint: Nothing is lost; try again from there with: phoenix resume {short}")
