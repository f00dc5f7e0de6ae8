"""The tree of `phoenix lens`. Only typer is imported here; each command imports what it needs."""

from __future__ import annotations

from typing import Annotated

import typer

lens = typer.Typer(
    name="lens",
    help="Look into projects: their traces, what took long, what cost what, and where two of them differ.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
Server = Annotated[str, typer.Option("--server", metavar="URL", help="The HTTP service to ask.")]
Project = Annotated[str, typer.Argument(metavar="ID", help="The project, or the beginning of its id.")]
Status = Annotated[str, typer.Option("--status", metavar="STATUS", help="Only with this status.")]


@lens.command("list")
def list_(status: Status = "", server: Server = "", as_json: AsJson = False) -> None:
    """List projects with how long they took, what they called and what that cost."""
    from phoenix.cli.lens import list_projects
    from phoenix.cli.output import finish

    finish(list_projects(status=status, server=server, as_json=as_json), as_json=as_json)


@lens.command()
def show(project: Project, server: Server = "", as_json: AsJson = False) -> None:
    """Show what took longest in a project, and what cost most."""
    from phoenix.cli.lens import stats
    from phoenix.cli.output import finish

    finish(stats([project], server=server, as_json=as_json), as_json=as_json)


@lens.command()
def trace(
    project: Project,
    run: Annotated[
        str, typer.Option("--run", metavar="KEY", help="Only this task's, such as build/1/T1.")
    ] = "",
    calls: Annotated[bool, typer.Option("--calls/--no-calls", help="With calls of models and tools.")] = True,
    detail: Annotated[
        bool, typer.Option("--detail", help="As it was recorded: with requests, sandbox, git and SQL.")
    ] = False,
    server: Server = "",
    as_json: AsJson = False,
) -> None:
    """Print a project's trace as a tree, with times and cost."""
    from phoenix.cli.output import finish

    if detail:
        from phoenix.cli.lens_detail import detailed

        finish(detailed(project, run=run, server=server, as_json=as_json), as_json=as_json)
    from phoenix.cli.lens import tree

    finish(tree(project, run=run, calls=calls, server=server, as_json=as_json), as_json=as_json)


@lens.command()
def spans(
    project: Project,
    kind: Annotated[str, typer.Option("--kind", metavar="KIND", help="run, step, model, tool or wait.")] = "",
    name: Annotated[str, typer.Option("--name", metavar="TEXT", help="Only with this in the name.")] = "",
    slower: Annotated[float, typer.Option("--slower-than", metavar="SECONDS", min=0)] = 0.0,
    failed: Annotated[bool, typer.Option("--failed", help="Only failed and interrupted ones.")] = False,
    server: Server = "",
    as_json: AsJson = False,
) -> None:
    """List a project's spans, in order."""
    from phoenix.cli.lens import Wanted, list_spans
    from phoenix.cli.output import finish

    wanted = Wanted(kind, name, slower, failed)
    finish(list_spans(project, wanted, server=server, as_json=as_json), as_json=as_json)


@lens.command()
def stats(
    projects: Annotated[list[str], typer.Argument(metavar="ID...", help="One or several projects.")],
    server: Server = "",
    as_json: AsJson = False,
) -> None:
    """Sum up projects by step, agent and tool: how often, how long (median and 95 %), at what cost."""
    from phoenix.cli.lens import stats as command
    from phoenix.cli.output import finish

    finish(command(projects, server=server, as_json=as_json), as_json=as_json)


@lens.command()
def diff(first: Project, second: Project, server: Server = "", as_json: AsJson = False) -> None:
    """Show what two projects did not do alike. Exits 1 when there is something."""
    from phoenix.cli.lens import diff as command
    from phoenix.cli.output import finish

    finish(command(first, second, server=server, as_json=as_json), as_json=as_json)


@lens.command()
def replay(
    project: Project,
    since: Annotated[
        float, typer.Option("--since", metavar="SECONDS", min=0, help="From so long after the start.")
    ] = 0.0,
    until: Annotated[
        float, typer.Option("--until", metavar="SECONDS", min=0, help="Up to so long after the start.")
    ] = float("inf"),
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--kind", metavar="KIND", help="Only this kind of event, such as step_finished; repeat."
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also events that say nothing to a reader.")
    ] = False,
    speed: Annotated[
        float,
        typer.Option(
            "--speed", metavar="N", min=0, help="Pause as it did, N times as fast; 0 does not pause."
        ),
    ] = 0.0,
    server: Server = "",
    as_json: AsJson = False,
) -> None:
    """Play back what happened in a project, with times. Runs nothing and calls no model."""
    from phoenix.cli.output import finish
    from phoenix.cli.replay import Excerpt
    from phoenix.cli.replay import replay as command

    wanted = Excerpt(since, until, frozenset(kind or ()), everything)
    finish(command(project, wanted, speed=speed, server=server, as_json=as_json), as_json=as_json)
