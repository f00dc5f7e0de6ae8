"""One project worked on by this process: from its opening to what is said at its end."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from phoenix.cli.board import spent
from phoenix.cli.follow import Follower, exit_code, summary
from phoenix.cli.output import print_json, say, standing
from phoenix.cli.view import View
from phoenix.errors import SettingInvalid

if TYPE_CHECKING:
    from decimal import Decimal

    from phoenix.cli.connection import Connection
    from phoenix.cli.gates import TerminalAsker
    from phoenix.cli.screen import Screen
    from phoenix.domain.run import Project
    from phoenix.engine.launch import Overview
    from phoenix.settings import Settings


def open_settings(*, model: str = "", server: str = "", only_here: str = "") -> Settings:
    """Return the settings, with what the command line names; logs go to stderr.

    Args:
        model: The model.
        server: The service that the command speaks to.
        only_here: What a service elsewhere cannot do, such as `fork`; empty for what it can.

    Raises:
        SettingInvalid: a setting is wrong, or there is a service that cannot do this.
    """
    from phoenix.settings import load_settings
    from phoenix.telemetry.logs import configure_logs
    from phoenix.telemetry.redaction import KNOWN

    settings = load_settings()
    KNOWN.add_settings(settings)
    KNOWN.add_environment(os.environ)
    # A failed run is reported as one message: its log record is for those who asked for logs.
    asked = "log_level" in settings.model_fields_set
    configure_logs(settings.log_level if asked else "error", settings.log_format)
    given = ({"model": absolute_model(model)} if model else {}) | ({"server": server} if server else {})
    settings = settings.model_copy(update=given)
    if only_here and settings.server:
        raise SettingInvalid(
            f"`phoenix {only_here}` works in this process, not at a service.",
            field="--server" if server else "PHOENIX_SERVER",
            hint="Leave the service out.",
        )
    return settings


def absolute_model(model: str) -> str:
    """Return the model with its recording's path absolute: a project may be resumed from elsewhere."""
    from pathlib import Path

    from phoenix.domain.model_name import behind_chaos

    inner = behind_chaos(model)
    scheme, colon, path = inner.partition(":")
    if scheme != "recorded" or not colon:
        return model
    return f"{model.removesuffix(inner)}recorded:{Path(path).expanduser().absolute()}"


async def usable_model(settings: Settings, *, named: bool = False) -> str:
    """Return the model to use, checked as far as that costs nothing.

    A service elsewhere has models of its own, and checks what is named to it.

    Raises:
        NoModel, ModelUnknown, ModelRefusedKey, ModelUnavailable: why there is none.
    """
    if settings.server:
        return settings.model if named else ""
    from phoenix.shop import check_model, find_model

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


def first_view(connection: Connection, project: Project) -> View:
    """Return a project's view before its first event."""
    return View(title=project.title, model=project.model, sandbox=connection.sandbox)


async def work_on(
    connection: Connection,
    project: Project,
    screen: Screen,
    *,
    resumed: bool = False,
    budget_usd: Decimal | None = None,
    policy: str = "",
) -> tuple[View, Overview]:
    """Work on a project, or let a service do so, and follow it until it ends or waits for somebody.

    Args:
        connection: To what works.
        project: What is worked on.
        screen: Where it is followed.
        resumed: It has begun before.
        budget_usd: What a resumed project may cost from now on.
        policy: Who decides in place of people, in words.
    """
    client = connection.client
    follower = Follower(connection, project, screen, asker_of(screen))
    if policy:
        follower.policy = policy
    view = first_view(connection, project)
    if resumed:
        view = await follower.past(view)
        # Before anything is worked on: runs that are taken look at the budget once.
        await client.resume(project.id, budget_usd=budget_usd)
    standing.begin(str(project.id), is_here=connection.system is not None)
    async with connection.working():
        try:
            view = await follower.follow(view)
        except asyncio.CancelledError:
            if connection.system is not None:
                say("stopping: what runs is handed back ...")
            raise
    return view, await client.overview(project.id)


def end(view: View, overview: Overview, *, as_json: bool) -> int:
    """Say how a project stands, and return the exit code."""
    if as_json:
        print_json(summary(view, overview))
        return exit_code(view)
    short = str(overview.project.id)[:8]
    said = {"delivered": _delivered, "waiting": _waiting, "paused": _paused}.get(view.status, _failed)
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


def _paused(_view: View, overview: Overview, short: str) -> None:
    reason = overview.project.pause_reason
    say(f"paused: {overview.project.title} ({short}){f': {reason}' if reason else ''}")
    say(f"hint: Let it go on with: phoenix resume {short}")


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
