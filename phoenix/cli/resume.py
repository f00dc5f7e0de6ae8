"""`phoenix resume`: go on with a project from its last step."""

from __future__ import annotations


async def resume(
    prefix: str, *, budget_usd: str = "", record: str = "", server: str = "", as_json: bool = False
) -> int:
    """Go on with a project, follow it, and return the exit code; an ended one is shown as it ended."""
    from phoenix.cli.new import budget_of, check_record, record_path

    budget, file = budget_of(budget_usd), record_path(record)
    from phoenix.cli.connection import open_project
    from phoenix.cli.follow import Follower
    from phoenix.cli.screen import open_screen
    from phoenix.cli.session import end, first_view, open_settings, work_on

    settings = open_settings(server=server)
    check_record(settings, file)
    async with open_project(settings, prefix, record=file) as (connection, begun):
        project = begun.project
        screen = open_screen(as_json=as_json, output_only=":" in begun.run.flow)
        if begun.run.status == "success":
            overview = begun
            view = await Follower(connection, project, screen).past(first_view(connection, project))
        else:
            view, overview = await work_on(connection, project, screen, resumed=True, budget_usd=budget)
    return end(view, overview, as_json=as_json)
