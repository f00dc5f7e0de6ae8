"""The tree of `phoenix memory`. Only typer is imported here; each command imports what it needs."""

from __future__ import annotations

from typing import Annotated

import typer

memory = typer.Typer(
    name="memory",
    help="What your organisation remembers of its projects, and what it is worth.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]
Server = Annotated[
    str, typer.Option("--server", metavar="URL", help="The service to speak to; else one in this process.")
]
MemoryId = Annotated[str, typer.Argument(metavar="ID", help="A memory's id.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


@memory.command()
def search(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What it should be about.")],
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", metavar="KIND", help="pattern, snippet, debugging or requirement."),
    ] = None,
    language: Annotated[
        str, typer.Option("--language", metavar="NAME", help="Of programming, such as python.")
    ] = "",
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=50, help="The most.")] = 10,
    server: Server = "",
    as_json: AsJson = False,
) -> None:
    """Search by meaning and by words, the best first."""
    from phoenix.cli.memory import search as command
    from phoenix.cli.output import finish

    found = command(text, kinds=kind or (), language=language, limit=limit, server=server, as_json=as_json)
    finish(found, as_json=as_json)


@memory.command("list")
def list_(
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="The most.")] = 20,
    server: Server = "",
    as_json: AsJson = False,
) -> None:
    """List memories, newest first."""
    from phoenix.cli.memory import list_ as command
    from phoenix.cli.output import finish

    finish(command(limit=limit, server=server, as_json=as_json), as_json=as_json)


@memory.command()
def show(memory_id: MemoryId, server: Server = "", as_json: AsJson = False) -> None:
    """Show a memory: its text, where it comes from, and what came of it."""
    from phoenix.cli.memory import show as command
    from phoenix.cli.output import finish

    finish(command(memory_id, server=server, as_json=as_json), as_json=as_json)


@memory.command()
def pin(
    memory_id: MemoryId,
    undo: Annotated[bool, typer.Option("--undo", help="Unpin it.")] = False,
    server: Server = "",
    as_json: AsJson = False,
) -> None:
    """Keep a memory for good, and before others like it."""
    from phoenix.cli.memory import change
    from phoenix.cli.output import finish

    finish(change(memory_id, {"pinned": not undo}, server=server, as_json=as_json), as_json=as_json)


@memory.command()
def correct(
    memory_id: MemoryId,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What it says from now on; - is stdin.")],
    server: Server = "",
    as_json: AsJson = False,
) -> None:
    """Give a memory another text."""
    from phoenix.cli.memory import correct as command
    from phoenix.cli.output import finish

    finish(command(memory_id, text, server=server, as_json=as_json), as_json=as_json)


@memory.command()
def forget(memory_id: MemoryId, yes: Yes = False, server: Server = "", as_json: AsJson = False) -> None:
    """Remove a memory for good: text, vector, and what projects quote of it."""
    from phoenix.cli.memory import forget as command
    from phoenix.cli.output import finish

    finish(command(memory_id, yes=yes, server=server, as_json=as_json), as_json=as_json)


@memory.command("export")
def export_(server: Server = "") -> None:
    """Print everything as JSON lines, as `import` takes it."""
    from phoenix.cli.memory import export
    from phoenix.cli.output import finish

    finish(export(server=server))


@memory.command("import")
def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON lines, as of export; - is stdin.")],
    server: Server = "",
    as_json: AsJson = False,
) -> None:
    """Bring memories; they count as foreign where they do not say that they are your own."""
    from phoenix.cli.memory import bring
    from phoenix.cli.output import finish

    finish(bring(file, server=server, as_json=as_json), as_json=as_json)


@memory.command()
def report(server: Server = "", as_json: AsJson = False) -> None:
    """Tell what memory is worth: first-try success, calls and cost, beside projects held out."""
    from phoenix.cli.memory import report as command
    from phoenix.cli.output import finish

    finish(command(server=server, as_json=as_json), as_json=as_json)


@memory.command()
def rebuild(server: Server = "", as_json: AsJson = False) -> None:
    """Make all vectors anew from the texts, also where they cannot be read any more."""
    from phoenix.cli.memory import rebuild as command
    from phoenix.cli.output import finish

    finish(command(server=server, as_json=as_json), as_json=as_json)
