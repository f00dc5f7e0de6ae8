"""`phoenix costs`: what model calls used, and what was expected."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast, get_args

from phoenix.errors import SettingInvalid

if TYPE_CHECKING:
    from phoenix.client.costs import Costs
    from phoenix.domain.organisation import UsageLine
    from phoenix.domain.run import Project

COLUMNS = ("Calls", "Tokens in", "Tokens out", "Cost")


async def costs(prefix: str, *, by: str = "", server: str = "", as_json: bool = False) -> int:
    """Show what a project used, task by task beside what was expected; without one what all have used."""
    from phoenix.cli.connection import open_connection
    from phoenix.cli.output import print_json
    from phoenix.cli.session import open_settings
    from phoenix.domain.organisation import UsageBy

    known = get_args(UsageBy)
    if by and by not in known:
        hint = f"Give one of {', '.join(known)}."
        raise SettingInvalid(f"costs cannot be shown by {by!r}.", field="--by", hint=hint)
    if by == "task" and not prefix:
        hint = "Name the project as well."
        raise SettingInvalid("tasks are those of one project.", field="--by", hint=hint)
    keys = cast("UsageBy", by or ("agent" if prefix else "project"))
    async with open_connection(open_settings(server=server), execution=False) as connection:
        client = connection.client
        project = (await client.find(prefix)).project if prefix else None
        whose = None if project is None else project.id
        lines = await client.usage(keys, project_id=whose)
        found = None if whose is None else await client.costs(whose)
    if as_json:
        items = [line.model_dump(mode="json") for line in lines]
        print_json({"lines": items, "project": None if found is None else found.model_dump(mode="json")})
        return 0
    _print(keys, lines)
    if found is not None and project is not None:
        _print_tasks(found)
        _print_limits(project)
    return 0


def usd(amount: object) -> str:
    """Return an amount as the tables show it; all its digits are in `--json`."""
    from decimal import Decimal

    return f"${amount:.4f}" if isinstance(amount, Decimal) else "unknown"


def _print(by: str, lines: list[UsageLine]) -> None:
    from rich import box
    from rich.table import Table

    from phoenix.cli.documents import line, new_console
    from phoenix.domain.run import Usage

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_footer=len(lines) > 1)
    total = Usage()
    for one in lines:
        total = total.plus(one.usage)
    foot = (f"{total.calls}", f"{total.input_tokens}", f"{total.output_tokens}", usd(total.cost_usd))
    table.add_column(by.capitalize(), footer="all", overflow="fold")
    for name, sum_ in zip(COLUMNS, foot, strict=True):
        table.add_column(name, footer=sum_, justify="right", no_wrap=True)
    for one in lines:
        used = one.usage
        counts = (f"{used.calls}", f"{used.input_tokens}", f"{used.output_tokens}")
        cells = (one.key, *counts, usd(used.cost_usd))
        table.add_row(*(line(cell) for cell in cells))
    new_console().print(table if lines else line("No model was called."))


def _print_tasks(found: Costs) -> None:
    from rich import box
    from rich.table import Table

    from phoenix.cli.documents import line, new_console

    if found.tasks:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for name in ("Task", "Cost", "Expected", "Range", "From"):
            table.add_column(name, justify="left" if name in ("Task", "From") else "right")
        for one in found.tasks:
            expected = one.expected
            cells = [one.task, usd(one.usage.cost_usd), "-", "-", ""]
            if expected is not None:
                basis = f"{expected.tasks} past tasks" if expected.tasks else "assumed"
                cells[2:] = [usd(expected.usd), f"{usd(expected.low)} to {usd(expected.high)}", basis]
            table.add_row(*(line(cell) for cell in cells))
        new_console().print(table)


def _print_limits(project: Project) -> None:
    from phoenix.cli.budgets import limits_text
    from phoenix.cli.documents import line, new_console

    limits = limits_text(project.budget_usd, project.limits)
    if limits:
        new_console().print(line(f"Budget: {limits}"))
