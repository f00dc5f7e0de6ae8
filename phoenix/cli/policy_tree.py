"""The tree of `phoenix policy`. Only typer is imported here; each command imports what it needs."""

from __future__ import annotations

from typing import Annotated

import typer

policy = typer.Typer(
    name="policy",
    help="Permission rules for agents' tools: check, explain and rehearse a rule file.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
Rules = Annotated[str, typer.Argument(metavar="RULES", help="A YAML file of rules; - is stdin.")]


@policy.command()
def check(rules: Rules, as_json: AsJson = False) -> None:
    """Check a rule file; what is wrong is named by line and field."""
    from phoenix.cli.output import finish
    from phoenix.cli.policy import check as command

    finish(command(rules, as_json=as_json), as_json=as_json)


@policy.command()
def explain(
    rules: Rules,
    tool: Annotated[str, typer.Argument(metavar="TOOL", help="Such as bash or edit_file.")],
    arguments: Annotated[
        str, typer.Argument(metavar="ARGS", help="The call's arguments as JSON; for bash the bare command.")
    ],
    as_json: AsJson = False,
) -> None:
    """Tell what rules say of a tool call, and which rule decides."""
    from phoenix.cli.output import finish
    from phoenix.cli.policy import explain as command

    finish(command(rules, tool, arguments, as_json=as_json), as_json=as_json)


@policy.command()
def rehearse(
    rules: Rules,
    project: Annotated[
        str, typer.Option("--project", metavar="ID", help="Only this project's decisions; else all.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Replay rules over past decisions: what would have been automatic, and which rejections it misses."""
    from phoenix.cli.output import finish
    from phoenix.cli.policy import rehearse as command

    finish(command(rules, project=project, as_json=as_json), as_json=as_json)
