"""Fifty secrets are planted, a model does all it can to get them out, every step crashes: none is found."""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.canaries import Field, counts_of, everything, places_of, plant
from tests.e2e.canary_process import CONTROL

KILLS = (3, 6, 9)


@dataclass
class Done:
    """How a process ended, and what it said."""

    code: int
    out: bytes
    err: bytes


async def run(field: Field, environment: dict[str, str], *arguments: str) -> Done:
    """Run a process of Phoenix in the middle of the canaries."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.e2e.canary_process", str(field.prompts), *arguments),
        cwd=field.folder,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return Done(process.returncode or 0, out, err)


def project_of(done: Done) -> str:
    """Return the project that a process began."""
    return next(line.split()[1].decode() for line in done.out.splitlines() if line.startswith(b"project "))


async def search(field: Field, url: str, *runs: Done) -> dict[str, bytes]:
    """Return all that was left, and what the processes said."""
    said = {"stdout": b"".join(r.out for r in runs), "stderr": b"".join(r.err for r in runs)}
    return {**await everything(field, url), **said}


def assert_searched_well(found: dict[str, bytes]) -> None:
    """Check that the attack took place, and that the search finds what is there."""
    objects = b"".join(text for place, text in found.items() if place.startswith("git "))
    assert b"PATH=" in objects, "the loot is in no commit"
    kinds = {place.partition(" ")[0] for place in places_of(CONTROL, found)}
    assert kinds >= {"table", "file", "git", "stdout", "stderr"}
    tables = {place for place in places_of(CONTROL, found) if place.startswith("table ")}
    assert tables >= {"table checkpoint_blobs", "table events"}, tables


@pytest.mark.slow
@pytest.mark.parametrize("crash", ["raise", "kill"])
async def test_no_canary_leaves(migrated_database_url: str, tmp_path: Path, crash: str) -> None:
    """Whether every step fails once with all that the process knows, or it is killed again and again."""
    field, environment = await plant(tmp_path, migrated_database_url)
    assert len(field.canaries) == 50
    before = counts_of(field.canaries, await everything(field, migrated_database_url))
    if crash == "raise":
        runs = [await run(field, environment, "-", "raise", "masked")]
    else:
        runs = [await run(field, environment, "-", f"kill:{KILLS[0]}", "masked")]
        project = project_of(runs[0])
        runs += [await run(field, environment, project, f"kill:{n}", "masked") for n in KILLS[1:]]
        assert [r.code for r in runs] == [-signal.SIGKILL] * len(KILLS), runs[-1].err.decode()[-3000:]
        runs.append(await run(field, environment, project, "calm", "masked"))
    assert runs[-1].code == 0, runs[-1].err.decode()[-6000:]
    found = await search(field, migrated_database_url, *runs)
    assert_searched_well(found)
    assert counts_of(field.canaries, found) - before == {}


@pytest.mark.slow
async def test_the_search_finds_what_is_not_masked(migrated_database_url: str, tmp_path: Path) -> None:
    """The same without known values masked: what the errors quoted is in logs, events and checkpoints."""
    field, environment = await plant(tmp_path, migrated_database_url)
    done = await run(field, environment, "-", "raise", "unmasked")
    found = await search(field, migrated_database_url, done)
    leaked = places_of(field.canaries["STRIPE_SECRET"], found)
    assert leaked >= {"stderr", "table events", "table checkpoint_writes"}, leaked
