"""The tree of `phoenix upgrade`. Only typer is imported here; each command imports what it needs."""

from __future__ import annotations

from typing import Annotated

import typer

from phoenix.cli.options import AsJson

upgrade = typer.Typer(
    name="upgrade",
    help="How a new version does beside the old one.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@upgrade.callback()
def group() -> None:
    """Compare versions while one replaces the other."""


@upgrade.command()
def watch(
    new: Annotated[
        str, typer.Option("--new", metavar="VERSION", help="The new version; this program's when left out.")
    ] = "",
    old: Annotated[
        list[str] | None,
        typer.Option("--old", metavar="VERSION", help="Compare with this one only; may be given again."),
    ] = None,
    minutes: Annotated[
        float, typer.Option("--minutes", metavar="N", min=0.01, max=43_200, help="How far back to look.")
    ] = 30,
    runs: Annotated[
        int,
        typer.Option("--runs", metavar="N", min=1, help="Runs that must have ended on both sides."),
    ] = 30,
    watch_minutes: Annotated[
        float, typer.Option("--for", metavar="MINUTES", min=0, help="Watch for so long; else look once.")
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Compare failed runs and dead workers of a new version with the old; exit with 0, 3 or 4.

    0: healthy. 4: worse. 3: too few runs have ended to tell. 1 and 2 are errors of the command itself.
    """
    from phoenix.cli.output import finish
    from phoenix.cli.upgrade import watch as command

    watching = command(
        new=new,
        old=tuple(old or ()),
        minutes=minutes,
        runs=runs,
        watch_minutes=watch_minutes,
        as_json=as_json,
    )
    finish(watching, as_json=as_json)
