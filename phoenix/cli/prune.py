"""`phoenix prune` and `phoenix delete`: giving space back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from phoenix.cli.migrate import agreed
from phoenix.cli.output import DELIVERED, FAILED, print_json, say

if TYPE_CHECKING:
    from phoenix.domain.upkeep import Pruned, UpkeepReport
    from phoenix.settings import Settings


async def prune(
    *, dry_run: bool = False, older_than: float | None = None, server: str = "", as_json: bool = False
) -> int:
    """Remove what is due, and say what went.

    At a service that is what is due of the organisation whose key is used; here it is all there is, with
    what belongs to no organisation: whoever runs this process runs the database.
    """
    from phoenix.cli.session import open_settings

    settings = open_settings(server=server)
    if settings.server:
        report = await _at_service(settings, dry_run=dry_run, older_than=older_than)
    else:
        from phoenix.bootstrap import open_system

        async with open_system(settings, execution=False) as system:
            report = await system.upkeep.prune(days=older_than, dry_run=dry_run)
    if as_json:
        found = report.model_dump(mode="json")
        print_json({"dry_run": dry_run, **found, "total_bytes": report.total_bytes})
    else:
        _print(report, dry_run=dry_run)
    return DELIVERED


async def _at_service(settings: Settings, *, dry_run: bool, older_than: float | None) -> UpkeepReport:
    """Ask again as long as more is due; of a rehearsal the first part is shown."""
    from phoenix.cli.connection import open_connection
    from phoenix.domain.upkeep import UpkeepReport

    done: list[Pruned] = []
    async with open_connection(settings) as connection:
        while True:
            report = await connection.client.prune(older_than_days=older_than, dry_run=dry_run)
            done += report.projects
            # Where nothing went though more is due, asking again would change nothing.
            if dry_run or not report.has_more or not report.projects:
                return UpkeepReport(projects=done, has_more=report.has_more)


def _print(report: UpkeepReport, *, dry_run: bool) -> None:
    from phoenix.cli.escape import one_line

    for project in report.projects:
        size = megabytes(project.database_bytes + project.disk_bytes)
        ended = f"{project.finished_at.astimezone():%Y-%m-%d}"
        typer.echo(f"{str(project.project_id)[:8]}  ended {ended}  {size}  {one_line(project.title, 60)}")
    if report.environments:
        typer.echo(f"{report.environments} unused environments  {megabytes(report.environment_bytes)}")
    if report.jobs:
        typer.echo(f"{report.jobs} ended jobs of the queue")
    if report.effects:
        typer.echo(f"{report.effects} effects outside of Phoenix that are over")
    if report.forks:
        typer.echo(f"{report.forks} forks that were never made")
    size, how = megabytes(report.total_bytes), "would go" if dry_run else "gone"
    found = (report.projects, report.environments, report.jobs, report.effects, report.forks)
    typer.echo(f"{size} {how}" if any(found) else "nothing is due")
    if report.has_more:
        say("More is due." if dry_run else "More is due, which could not be removed: see the service's log.")


def megabytes(size: int) -> str:
    """Return a size for people."""
    return f"{size / 1024**2:.1f} MB"


async def delete(prefix: str, *, yes: bool = False, server: str = "", as_json: bool = False) -> int:
    """Delete a project when somebody agrees.

    Raises:
        NotFound: there is no such project.
        DeleteRefused: it is being worked on.
    """
    from phoenix.cli.connection import open_connection
    from phoenix.cli.escape import one_line
    from phoenix.cli.session import open_settings

    async with open_connection(open_settings(server=server), execution=False) as connection:
        project = (await connection.client.find(prefix)).project
        named = f"{one_line(project.title, 60)} ({str(project.id)[:8]})"
        if not agreed(f"Delete {named} with its repository, report and history?", yes=yes):
            say("nothing was changed")
            return FAILED
        await connection.client.delete(project.id)
    if as_json:
        print_json({"project_id": str(project.id), "status": "deleted"})
    else:
        typer.echo(f"deleted  {named}")
    return DELIVERED
