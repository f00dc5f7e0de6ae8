"""`phoenix migrate`: the schema of the database, up, down, or looked at."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from phoenix.cli.output import DELIVERED, FAILED, print_json, say
from phoenix.errors import SettingInvalid

if TYPE_CHECKING:
    from phoenix.domain.upkeep import Migrated


async def migrate(
    *, to: str = "head", down: str = "", check: bool = False, yes: bool = False, as_json: bool = False
) -> int:
    """Migrate and say what was done; with `check`, return 1 when this version cannot work before it migrates.

    Raises:
        SettingInvalid: the options exclude each other, or nobody agreed to lose what `down` removes.
    """
    from phoenix.bootstrap import migrate_database
    from phoenix.cli.session import open_settings

    if down and (check or to != "head"):
        raise SettingInvalid("--down goes with neither --to nor --check.", hint="Give one of them.")
    if down and not agreed(f"Undo migrations down to {down}? What they added is lost.", yes=yes):
        say("nothing was changed")
        return FAILED
    done = await migrate_database(open_settings(), to=to, down=down, check_only=check)
    _report(done, check=check, as_json=as_json)
    return FAILED if check and done.is_needed else DELIVERED


def agreed(question: str, *, yes: bool) -> bool:
    """Ask a person before something is lost.

    Raises:
        SettingInvalid: nobody can be asked and `--yes` was not given.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise SettingInvalid("This loses data, and nobody can be asked.", hint="Give --yes.")
    return typer.confirm(question, default=False, err=True)


def _report(done: Migrated, *, check: bool, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "before": done.before,
                "revision": done.after,
                "queue": list(done.queue),
                "waiting": list(done.waiting),
                "reason": done.reason,
            }
        )
        return
    if done.before == done.after:
        typer.echo(f"the schema is at {done.after or 'none'}" + ("" if done.waiting else ": up to date"))
    else:
        typer.echo(f"the schema went from {done.before or 'none'} to {done.after or 'none'}")
    for name in done.queue:
        typer.echo(f"queue: applied {name}")
    if done.waiting:
        later = "" if done.is_needed or not check else ", once no older version works"
        typer.echo(f"to be done{later}: {', '.join(done.waiting)}")
    if done.reason:
        say(done.reason)
    if check and done.waiting:
        say("hint: Run `phoenix migrate`.")
