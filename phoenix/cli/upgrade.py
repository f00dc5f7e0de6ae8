"""`phoenix upgrade watch`: whether a new version does worse than those before it."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import typer

from phoenix.cli.output import DELIVERED, WAITING, print_json, say
from phoenix.errors import SettingInvalid

if TYPE_CHECKING:
    from phoenix.domain.upgrade import Finding, Verdict

WORSE = 4
LOOK_SECONDS = 5.0
"""So often it looks while it watches."""

CODES: dict[Finding, int] = {"healthy": DELIVERED, "unclear": WAITING, "worse": WORSE}


async def watch(
    *,
    new: str = "",
    old: tuple[str, ...] = (),
    minutes: float = 30,
    runs: int = 30,
    watch_minutes: float = 0,
    as_json: bool = False,
) -> int:
    """Compare until the time is over or the new version is worse; return the finding's exit code.

    Raises:
        SettingInvalid: the new version is among the old ones.
    """
    from phoenix import __version__
    from phoenix.bootstrap import open_upgrade_watch
    from phoenix.cli.session import open_settings

    version = new or __version__
    if version in old:
        raise SettingInvalid(f"{version} is both --new and --old.", hint="Give two versions.")
    end = time.monotonic() + watch_minutes * 60
    said = ""
    async with open_upgrade_watch(
        open_settings(), version=version, old=old, seconds=minutes * 60, least=runs
    ) as looking:
        while True:
            verdict = await looking.look()
            left = end - time.monotonic()
            if verdict.finding == "worse" or left <= 0:
                break
            if (line := f"{verdict.finding}: {verdict.reason}") != said:
                said = line
                say(line)
            await asyncio.sleep(min(LOOK_SECONDS, left))
    _report(verdict, as_json=as_json)
    return CODES[verdict.finding]


def _report(verdict: Verdict, *, as_json: bool) -> None:
    if as_json:
        print_json(verdict.model_dump(mode="json"))
        return
    for name, did in ((verdict.version, verdict.new), (", ".join(verdict.others) or "others", verdict.old)):
        typer.echo(
            f"{name}: {did.runs} runs ended, {did.failed} failed ({did.quarantined} in quarantine),"
            f" {did.deaths} workers died"
        )
    typer.echo(f"{verdict.finding}: {verdict.reason}")
