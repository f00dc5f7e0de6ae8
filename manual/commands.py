"""The page of the command line, from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer.main
from typer.core import TyperArgument, TyperGroup

from manual.tables import code, table
from phoenix.cli.app import app

INTRODUCTION = """# Commands

`phoenix COMMAND --help` says the same. Exit codes: 0 done or delivered, 1 failed with a reason, 2 bad usage, 3 waiting for
somebody. Errors go to standard error. `--json` prints one JSON object a line, for programs.

"""


def page() -> str:
    """Return all commands with their arguments and options."""
    parts = []
    for path, command in commands():
        shown = [p for p in command.params if not p.hidden and p.name != "help"]
        words = [_name(p) if isinstance(p, TyperArgument) else "" for p in shown]
        options = "[OPTIONS]" if "" in words else ""
        usage = " ".join(word for word in ("phoenix", *path, options, *words) if word)
        about = " ".join((command.help or "").split())
        rows = [(code(_name(p)), _default(p), p.help or "") for p in shown]
        given = "\n" + table(("option", "default", "meaning"), rows) if rows else ""
        parts.append(f"## phoenix {' '.join(path)}\n\n{about}\n\n`{usage}`\n{given}")
    return INTRODUCTION + "\n".join(parts)


def commands() -> Iterator[tuple[tuple[str, ...], Any]]:
    """Return all commands that are shown, each with its words, by name."""
    found = typer.main.get_command(app)
    assert isinstance(found, TyperGroup)
    yield from _below(found, ())


def _below(group: TyperGroup, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in sorted(group.commands.items()):
        if command.hidden:
            continue
        if isinstance(command, TyperGroup):
            yield from _below(command, (*path, name))
        else:
            yield (*path, name), command


def _name(parameter: Any) -> str:
    if isinstance(parameter, TyperArgument):
        return str(parameter.metavar or (parameter.name or "").upper())
    names = ", ".join((*parameter.opts, *parameter.secondary_opts))
    return names if parameter.is_flag else f"{names} {parameter.metavar or 'TEXT'}"


def _default(parameter: Any) -> str:
    given = parameter.default
    if parameter.required or callable(given) or given in (None, "", False, (), []):
        return ""
    return code(str(given))
