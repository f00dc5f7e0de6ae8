"""The tree of commands. Only typer is imported here; each command imports what it needs."""

from __future__ import annotations

from typing import Annotated

import typer

from phoenix.cli.config_tree import config
from phoenix.cli.lens_tree import lens
from phoenix.cli.memory_tree import memory
from phoenix.cli.options import (
    AT_HELP,
    Approvals,
    AsJson,
    Budget,
    BudgetCalls,
    BudgetMinutes,
    BudgetTokens,
    Concurrency,
    Detach,
    Flows,
    Model,
    Overrides,
    ProbePort,
    ProjectId,
    Queues,
    Record,
    Server,
)
from phoenix.cli.policy_tree import policy
from phoenix.cli.upgrade_tree import upgrade
from phoenix.cli.upkeep_tree import delete, migrate, prune

app = typer.Typer(
    name="phoenix",
    help="Turn a written requirement into delivered, verified software, deciding where you want to.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(policy)
app.add_typer(lens)
app.add_typer(memory)
app.add_typer(config)
app.add_typer(upgrade)


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
    budget_tokens: BudgetTokens = None,
    budget_calls: BudgetCalls = None,
    budget_minutes: BudgetMinutes = None,
    rules: Annotated[
        str,
        typer.Option("--rules", metavar="FILE", help="Permission rules for its agents' tools, as YAML."),
    ] = "",
    record: Record = "",
    overrides: Overrides = None,
    detach: Detach = False,
    server: Server = "",
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
        budget_tokens=budget_tokens,
        budget_calls=budget_calls,
        budget_minutes=budget_minutes,
        rules=rules,
        record=record,
        overrides=tuple(overrides or ()),
        detach=detach,
        server=server,
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
    detach: Detach = False,
    server: Server = "",
    as_json: AsJson = False,
) -> None:
    """Run any flow durably, and print its output as JSON."""
    from phoenix.cli.output import finish
    from phoenix.cli.run_flow import RunOptions, run_flow

    options = RunOptions(
        target=target,
        value=value,
        model=model,
        approvals=approve,
        budget_usd=budget_usd,
        detach=detach,
        server=server,
        as_json=as_json,
    )
    finish(run_flow(options), as_json=as_json)


@app.command()
def resume(
    project: ProjectId,
    budget_usd: Budget = "",
    record: Record = "",
    server: Server = "",
    as_json: AsJson = False,
) -> None:
    """Go on with a project from its last step, and follow it."""
    from phoenix.cli.output import finish
    from phoenix.cli.resume import resume as command

    going = command(project, budget_usd=budget_usd, record=record, server=server, as_json=as_json)
    finish(going, as_json=as_json)


@app.command()
def watch(project: ProjectId, server: Server = "", as_json: AsJson = False) -> None:
    """Follow a project that workers work on, and decide where it waits for you."""
    from phoenix.cli.output import finish
    from phoenix.cli.steer import watch as command

    finish(command(project, server=server, as_json=as_json), as_json=as_json)


@app.command()
def pause(
    project: ProjectId,
    reason: Annotated[str, typer.Option("--reason", help="Why: it is shown.")] = "",
    server: Server = "",
    as_json: AsJson = False,
) -> None:
    """Pause a project after the steps that run; `resume` lets it go on."""
    from phoenix.cli.output import finish
    from phoenix.cli.steer import pause as command

    finish(command(project, reason=reason, server=server, as_json=as_json), as_json=as_json)


@app.command()
def cancel(project: ProjectId, server: Server = "", as_json: AsJson = False) -> None:
    """Cancel a project and all its tasks, for good."""
    from phoenix.cli.output import finish
    from phoenix.cli.steer import cancel as command

    finish(command(project, server=server, as_json=as_json), as_json=as_json)


@app.command()
def message(
    project: ProjectId,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to say; - is stdin.")],
    task: Annotated[
        str, typer.Option("--task", metavar="TASK", help="Such as T2: only its agents; else all of them.")
    ] = "",
    server: Server = "",
    as_json: AsJson = False,
) -> None:
    """Say something to the agents of a project that works; they read it before their next model call."""
    from phoenix.cli.output import finish
    from phoenix.cli.steer import message as command

    finish(command(project, text, task=task, server=server, as_json=as_json), as_json=as_json)


@app.command()
def worker(
    concurrency: Concurrency = None,
    queues: Queues = None,
    flow: Flows = None,
    probe_port: ProbePort = None,
    overrides: Overrides = None,
) -> None:
    """Work on whatever is due in the database, until stopped; Ctrl-C or SIGTERM drains."""
    from phoenix.cli.output import finish
    from phoenix.cli.work import names, work

    working = work(
        concurrency=concurrency,
        queues=names(queues),
        flows=flow or (),
        probe_port=probe_port,
        overrides=overrides or (),
    )
    finish(working)


@app.command()
def up(
    host: Annotated[str | None, typer.Option("--host", metavar="HOST", help="Where to listen.")] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", metavar="PORT", min=0, max=65535, help="On which port; 0 takes any."),
    ] = None,
    concurrency: Concurrency = None,
    flow: Flows = None,
    probe_port: ProbePort = None,
    overrides: Overrides = None,
) -> None:
    """Run Phoenix in one process: HTTP service, worker, and the database where none is configured."""
    from phoenix.cli.output import finish, quick_loop
    from phoenix.cli.work import up as command

    serving = command(
        concurrency=concurrency,
        flows=flow or (),
        host=host,
        port=port,
        probe_port=probe_port,
        overrides=overrides or (),
    )
    finish(serving, loop=quick_loop)


@app.command()
def workers(server: Server = "", as_json: AsJson = False) -> None:
    """List the workers of the database with heartbeat, load and version."""
    from phoenix.cli.output import finish
    from phoenix.cli.work import list_workers

    finish(list_workers(server=server, as_json=as_json), as_json=as_json)


@app.command()
def costs(
    project: Annotated[str, typer.Argument(metavar="[ID]", help="A project; left out, all of them.")] = "",
    by: Annotated[str, typer.Option("--by", metavar="WHAT", help="project, agent, model, day or task.")] = "",
    server: Server = "",
    as_json: AsJson = False,
) -> None:
    """Show what model calls used, and of a project what its tasks were expected to cost."""
    from phoenix.cli.costs import costs as command
    from phoenix.cli.output import finish

    finish(command(project, by=by, server=server, as_json=as_json), as_json=as_json)


@app.command("list")
def list_(
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=100_000, help="How many at most.")
    ] = 50,
    server: Server = "",
    as_json: AsJson = False,
) -> None:
    """List projects, newest first."""
    from phoenix.cli.output import finish
    from phoenix.cli.show import list_projects

    finish(list_projects(limit=limit, server=server, as_json=as_json), as_json=as_json)


@app.command()
def show(project: ProjectId, server: Server = "", as_json: AsJson = False) -> None:
    """Show a project: spec, plan, tasks, tests, cost, and what is to be decided next."""
    from phoenix.cli.output import finish
    from phoenix.cli.show import show_project

    finish(show_project(project, server=server, as_json=as_json), as_json=as_json)


@app.command()
def history(
    project: ProjectId,
    at: Annotated[str, typer.Option("--at", metavar="CHECKPOINT", help=AT_HELP)] = "",
    yaml: Annotated[
        bool, typer.Option("--yaml", help="Print the value at --at as the YAML that fork --edit takes.")
    ] = False,
    inner: Annotated[
        bool, typer.Option("--all", help="Also those within steps, such as each tool call of a coding agent.")
    ] = False,
    server: Server = "",
    as_json: AsJson = False,
) -> None:
    """List a project's checkpoints: step, code, cost, time, and what waits."""
    from phoenix.cli.history import history as command
    from phoenix.cli.output import finish

    looking = command(project, at=at, as_yaml=yaml, inner=inner, server=server, as_json=as_json)
    finish(looking, as_json=as_json)


@app.command()
def fork(  # noqa: PLR0913, PLR0917 each is an option of the command line
    project: ProjectId,
    at: Annotated[str, typer.Option("--at", metavar="CHECKPOINT", help=AT_HELP)] = "",
    edit: Annotated[
        str,
        typer.Option(
            "--edit", metavar="YAML", help="Another spec or plan in place of the one asked about there."
        ),
    ] = "",
    title: Annotated[str, typer.Option("--title", help="Of the fork.")] = "",
    model: Model = "",
    approve: Annotated[
        str, typer.Option("--approve", metavar="POLICY", help="As in new; the project's own when left out.")
    ] = "",
    budget_usd: Budget = "",
    record: Record = "",
    reuse: Annotated[
        bool | None,
        typer.Option(
            "--reuse/--no-reuse",
            help="Take over later work that read nothing that has changed; when something is edited.",
            show_default=False,
        ),
    ] = None,
    server: Server = "",
    as_json: AsJson = False,
) -> None:
    """Go on from a checkpoint as a new project, with its state and code, and follow it."""
    from phoenix.cli.fork import ForkOptions
    from phoenix.cli.fork import fork as command
    from phoenix.cli.output import finish

    options = ForkOptions(
        project=project,
        at=at,
        edit=edit,
        title=title,
        model=model,
        approvals=approve,
        budget_usd=budget_usd,
        record=record,
        reuse=reuse,
        server=server,
        as_json=as_json,
    )
    finish(command(options), as_json=as_json)


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
    server: Server = "",
    as_json: AsJson = False,
) -> None:
    """Decide the next open approval of a project that waits."""
    from phoenix.cli.decide import approve as command
    from phoenix.cli.output import finish

    deciding = command(project, verdict=verdict, reason=reason, file=file, server=server, as_json=as_json)
    finish(deciding, as_json=as_json)


app.command()(prune)
app.command()(delete)
app.command()(migrate)


@app.command()
def models(
    check: Annotated[bool, typer.Option("--check", help="Ask the providers; exit 1 if one refuses.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the model catalogue (PHOENIX_MODELS): aliases, prices, limits, and whether keys are there."""
    from phoenix.cli.models import models as command
    from phoenix.cli.output import finish

    finish(command(check=check, as_json=as_json), as_json=as_json)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check Python, git, sandbox, database, model and disk, and say how to mend each."""
    from phoenix.cli.doctor import doctor as command
    from phoenix.cli.output import finish

    finish(command(as_json=as_json))


@app.command()
def login(server: Server = "") -> None:
    """Keep an API key for a service, asked for or read from standard input."""
    from phoenix.cli.credentials import login as command
    from phoenix.cli.output import finish

    finish(command(server=server))


audit = typer.Typer(help="The record of what was done in your organisation.", no_args_is_help=True)
app.add_typer(audit, name="audit")


@audit.command()
def verify(server: Server = "", as_json: AsJson = False) -> None:
    """Check that no entry was changed or taken away; exit with 1 when one was."""
    from phoenix.cli.audit import verify as command
    from phoenix.cli.output import finish

    finish(command(server=server, as_json=as_json), as_json=as_json)


@app.command()
def version() -> None:
    """Print Phoenix's version."""
    from phoenix import __version__

    typer.echo(f"phoenix {__version__}")


def main() -> None:
    """Run the command that the command line names."""
    app()
