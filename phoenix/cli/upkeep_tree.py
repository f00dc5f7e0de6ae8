"""The commands `prune`, `delete` and `migrate`. Only typer is imported here, as in `app`."""

from __future__ import annotations

from typing import Annotated

import typer

from phoenix.cli.options import AsJson, ProjectId, Server


def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Remove nothing; show what would go.")] = False,
    older_than: Annotated[
        float | None,
        typer.Option(
            "--older-than",
            metavar="DAYS",
            min=0,
            max=36_500,
            help="How long ago a project must have ended; PHOENIX_RETENTION_DAYS when left out.",
        ),
    ] = None,
    server: Server = "",
    as_json: AsJson = False,
) -> None:
    """Remove what finished projects no longer need; deliveries, evidence and commits stay.

    At a service these are your organisation's projects, and takes its administrator.
    """
    from phoenix.cli.output import finish
    from phoenix.cli.prune import prune as command

    pruning = command(dry_run=dry_run, older_than=older_than, server=server, as_json=as_json)
    finish(pruning, as_json=as_json)


def delete(
    project: ProjectId,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    server: Server = "",
    as_json: AsJson = False,
) -> None:
    """Delete a project with all that belongs to it; a branch published to your repository stays."""
    from phoenix.cli.output import finish
    from phoenix.cli.prune import delete as command

    finish(command(project, yes=yes, server=server, as_json=as_json), as_json=as_json)


def migrate(
    to: Annotated[
        str, typer.Option("--to", metavar="REVISION", help="The last migration to apply.")
    ] = "head",
    down: Annotated[
        str,
        typer.Option(
            "--down", metavar="REVISION", help="Undo migrations down to this one; base takes all away."
        ),
    ] = "",
    check: Annotated[
        bool,
        typer.Option("--check", help="Change nothing; exit with 1 when this version must migrate first."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before --down.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the database's schema up to date, before the processes of a new version start."""
    from phoenix.cli.migrate import migrate as command
    from phoenix.cli.output import finish

    finish(command(to=to, down=down, check=check, yes=yes, as_json=as_json), as_json=as_json)
