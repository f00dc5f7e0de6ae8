"""The tree of commands. Only typer is imported here; each command imports what it needs."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    name="phoenix",
    help="Turn a written requirement into delivered, verified software, deciding where you want to.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON lines, and nothing else, on stdout.")]
Model = Annotated[
    str,
    typer.Option("--model", metavar="MODEL", help="provider:model, or recorded:FILE to replay a recording."),
]
Budget = Annotated[
    str, typer.Option("--budget-usd", metavar="USD", help="Stop when model calls cost this much.")
]
Approvals = Annotated[
    str,
    typer.Option(
        "--approve",
        metavar="POLICY",
        help="ask (every gate), auto (none), or the gates to ask: questions,spec,plan,delivery.",
    ),
]
Record = Annotated[
    str, typer.Option("--record", metavar="FILE", help="Record the model's traffic to a file.")
]
ProjectId = Annotated[str, typer.Argument(metavar="ID", help="A project's id, or its beginning.")]


@app.command()
def demo(as_json: AsJson = False) -> None:
    """Run the bundled project from requirement to delivered branch; no key, no server."""
    from phoenix.cli.demo import demo as command
    from phoenix.cli.output import finish

    finish(command(as_json=as_json), as_json=as_json)


@app.command()
def new(  # noqa: PLR0913, PLR0917 each is an option of the command line
    requirement: Annotated[str | None, typer.Argument(metavar="[REQUIREMENT]", help="What to build.")] = None,
    file: Annotated[
        str,
        typer.Option("-f", "--file", metavar="FILE", help="Read the requirement from a file; - is stdin."),
    ] = "",
    repo: Annotated[
        str, typer.Option("--repo", metavar="PATH_OR_URL", help="Work on a copy of this git repository.")
    ] = "",
    model: Model = "",
    approve: Approvals = "ask",
    path: Annotated[
        str,
        typer.Option(
            "--path", metavar="PATH", help="auto, short (one agent loop) or full (spec, plan, tasks)."
        ),
    ] = "auto",
    budget_usd: Budget = "",
    record: Record = "",
    as_json: AsJson = False,
) -> None:
    """Start a project and follow it: REQUIREMENT in words, or -f FILE."""
    from phoenix.cli.new import NewOptions
    from phoenix.cli.new import new as command
    from phoenix.cli.output import finish

    options = NewOptions(
        requirement=requirement,
        file=file,
        repository=repo,
        model=model,
        approvals=approve,
        path=path,
        budget_usd=budget_usd,
        record=record,
        as_json=as_json,
    )
    finish(command(options), as_json=as_json)


@app.command()
def run(
    target: Annotated[
        str, typer.Argument(metavar="FILE:NAME", help="A Python file or module, and the flow in it.")
    ],
    value: Annotated[
        str | None, typer.Argument(metavar="[INPUT]", help="The flow's input as JSON; - is stdin.")
    ] = None,
    model: Model = "",
    approve: Approvals = "ask",
    budget_usd: Budget = "",
    as_json: AsJson = False,
) -> None:
    """Run any flow durably, and print its output as JSON."""
    from phoenix.cli.output import finish
    from phoenix.cli.run_flow import RunOptions, run_flow

    options = RunOptions(
        target=target, value=value, model=model, approvals=approve, budget_usd=budget_usd, as_json=as_json
    )
    finish(run_flow(options), as_json=as_json)


@app.command()
def resume(project: ProjectId, budget_usd: Budget = "", record: Record = "", as_json: AsJson = False) -> None:
    """Go on with a project from its last step, and follow it."""
    from phoenix.cli.output import finish
    from phoenix.cli.resume import resume as command

    finish(command(project, budget_usd=budget_usd, record=record, as_json=as_json), as_json=as_json)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List projects, newest first."""
    from phoenix.cli.output import finish
    from phoenix.cli.show import list_projects

    finish(list_projects(as_json=as_json), as_json=as_json)


@app.command()
def show(project: ProjectId, as_json: AsJson = False) -> None:
    """Show a project: spec, plan, tasks, tests, cost, and what is to be decided next."""
    from phoenix.cli.output import finish
    from phoenix.cli.show import show_project

    finish(show_project(project, as_json=as_json), as_json=as_json)


@app.command()
def graph(
    target: Annotated[
        str, typer.Argument(metavar="[FILE:NAME]", help="The flow to draw; develop when left out.")
    ] = "develop",
) -> None:
    """Print a flow as a Mermaid flowchart."""
    from phoenix.cli.graph import print_graph
    from phoenix.cli.output import finish

    finish(print_graph(target))


@app.command()
def approve(
    project: ProjectId,
    verdict: Annotated[
        str, typer.Option("--verdict", metavar="VERDICT", help="approve, reject, respond or edit.")
    ] = "",
    reason: Annotated[str, typer.Option("--reason", help="Why it is rejected: the agent reads it.")] = "",
    file: Annotated[
        str, typer.Option("--file", metavar="YAML", help="The edited value or the answers; - is stdin.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Decide the next open approval of a project that waits."""
    from phoenix.cli.decide import approve as command
    from phoenix.cli.output import finish

    finish(command(project, verdict=verdict, reason=reason, file=file, as_json=as_json), as_json=as_json)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check Python, git, sandbox, database, model and disk, and say how to mend each."""
    from phoenix.cli.doctor import doctor as command
    from phoenix.cli.output import finish

    finish(command(as_json=as_json))


@app.command()
def version() -> None:
    """Print Phoenix's version."""
    from phoenix import __version__

    typer.echo(f"phoenix {__version__}")


def main() -> None:
    """Run the command that the command line names."""
    app()
