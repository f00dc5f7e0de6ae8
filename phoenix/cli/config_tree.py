"""The tree of `phoenix config`. Only typer is imported here; each command imports what it needs."""

from __future__ import annotations

from typing import Annotated

import typer

from phoenix.cli.options import AsJson, Overrides

config = typer.Typer(
    name="config",
    help="What is set, composed from all its sources, and where each value comes from.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@config.command()
def show(
    everything: Annotated[bool, typer.Option("--all", help="Also settings that have their default.")] = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Print settings, model catalogue and workflow options with their origins; secrets are not shown."""
    from phoenix.cli.config import show as command
    from phoenix.cli.output import finish

    finish(command(everything=everything, overrides=overrides or (), as_json=as_json), as_json=as_json)


@config.command()
def check(
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask the stores of secrets.")] = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Check all that is set as a start of the service would; exit with 2 when it would not start."""
    from phoenix.cli.config import check as command
    from phoenix.cli.output import finish

    finish(command(offline=offline, overrides=overrides or (), as_json=as_json), as_json=as_json)
