"""`phoenix resume`: go on with a project from its last step."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from phoenix.bootstrap import System
    from phoenix.cli.screen import Screen
    from phoenix.cli.view import View
    from phoenix.domain.run import Project
    from phoenix.engine.launch import Overview


async def resume(prefix: str, *, budget_usd: str = "", record: str = "", as_json: bool = False) -> int:
    """Go on with a project, follow it, and return the exit code; an ended one is shown as it ended."""
    from phoenix.cli.new import budget_of, record_path

    budget, file = budget_of(budget_usd), record_path(record)
    from phoenix.bootstrap import open_system
    from phoenix.cli.screen import open_screen
    from phoenix.cli.session import end, open_settings

    settings = open_settings()
    async with open_system(settings, record=file) as system:
        project = await system.engine.find(prefix)
        overview = await system.engine.overview(project.id)
        is_own = ":" in overview.run.flow
        screen = open_screen(as_json=as_json, output_only=is_own)
        if not is_own:
            view, overview = await _go_on(system, project, overview, screen, budget)
            return end(view, overview, as_json=as_json)
    # A user's own flow: the system must know it before anything is worked on.
    from phoenix.workflows.loading import load_flow

    loaded = load_flow(overview.run.flow)
    flows = {overview.run.flow: loaded.flow}
    async with open_system(settings, record=file, flows=flows, types=loaded.types) as system:
        view, overview = await _go_on(system, project, overview, screen, budget)
    return end(view, overview, as_json=as_json)


async def _go_on(
    system: System, project: Project, overview: Overview, screen: Screen, budget: Decimal | None
) -> tuple[View, Overview]:
    from phoenix.cli.follow import Follower
    from phoenix.cli.session import first_view, work_on

    if overview.run.status == "success":
        view = await Follower(system.engine, project, screen).past(first_view(system, project))
        return view, overview
    return await work_on(system, project, screen, resumed=True, budget_usd=budget)
