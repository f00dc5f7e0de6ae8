"""`phoenix audit verify`: whether the record of what was done is whole."""

from __future__ import annotations

from phoenix.cli.output import DELIVERED, FAILED, print_json, say


async def verify(*, server: str = "", as_json: bool = False) -> int:
    """Check the organisation's audit log from its beginning, and return 1 when it is broken."""
    import typer

    from phoenix.cli.connection import open_connection
    from phoenix.cli.session import open_settings

    async with open_connection(open_settings(server=server), execution=False) as connection:
        found = await connection.client.verify_audit()
    if as_json:
        print_json(found.model_dump())
    elif found.broken_at is None:
        typer.echo(f"whole: {found.checked} entries verified")
        typer.echo(f"last hash {found.last_hash or '-'}")
    else:
        say(f"error: broken at entry {found.broken_at}: {found.why}; {found.checked} before it are verified")
        say("hint: Somebody with access to the database has changed it. Compare with a backup.")
    return DELIVERED if found.broken_at is None else FAILED
