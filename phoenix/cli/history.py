"""`phoenix history`: the checkpoints of a project, and what was decided on at one. Nothing is executed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from phoenix.cli.output import print_json
from phoenix.errors import InputError

if TYPE_CHECKING:
    from phoenix.domain.history import Looked, Moment


async def history(
    prefix: str,
    *,
    at: str = "",
    as_yaml: bool = False,
    inner: bool = False,
    server: str = "",
    as_json: bool = False,
) -> int:
    """Print a project's checkpoints, or the value at one of them."""
    if as_yaml and not at:
        raise InputError(
            "Which checkpoint's value?", field="--yaml", hint="Name it too: --at spec, --at plan, or an id."
        )
    from phoenix.cli.connection import open_project
    from phoenix.cli.session import open_settings

    settings = open_settings(server=server)
    async with open_project(settings, prefix, execution=False) as (connection, overview):
        client, project_id = connection.client, overview.project.id
        if at:
            found = await client.checkpoint(project_id, at)
            moments = [found.moment]
        else:
            moments = await client.checkpoints(project_id, inner=inner)
    if as_yaml:
        import typer

        typer.echo(yaml_of(found), nl=False)
    elif as_json:
        for moment in moments:
            print_json(listed(moment))
    else:
        _print(moments)
    return 0


def listed(moment: Moment) -> dict[str, Any]:
    """Return a checkpoint as one JSON line."""
    cost = moment.cost_usd
    return (
        {"id": moment.short}
        | moment.model_dump(mode="json")
        | {"cost_usd": None if cost is None else float(cost)}
    )


def yaml_of(found: Looked) -> str:
    """Return the value at a checkpoint as YAML: the form that `--edit` takes, where it can be edited."""
    from phoenix.cli.forms import form_of, to_yaml

    for request in found.requests:
        if "edit" in request.verdicts:
            return form_of(request)
    return to_yaml(found.value)


def _print(moments: list[Moment]) -> None:
    from rich import box
    from rich.table import Table

    from phoenix.cli.documents import line, new_console

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("ID", "Time", "Run", "Done", "Next", "Asks", "Code", "Cost"):
        table.add_column(name, overflow="fold", no_wrap=name in ("ID", "Time", "Code", "Cost"))
    for moment in moments:
        cost = "unknown" if moment.cost_usd is None else f"${moment.cost_usd:.4f}"
        cells = (
            moment.short,
            f"{moment.at.astimezone():%Y-%m-%d %H:%M:%S}",
            moment.key or "-",
            " / ".join([*moment.path, moment.step]),
            ", ".join(moment.next) or "-",
            ", ".join(moment.asks) or "-",
            moment.commit[:8] or "-",
            cost,
        )
        table.add_row(*(line(cell) for cell in cells))
    new_console().print(table if moments else line("The project has not begun: it has no checkpoint."))
