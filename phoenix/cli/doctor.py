"""`phoenix doctor`: what Phoenix needs of this machine, each tried for real, and how to mend it."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from phoenix.cli.output import DELIVERED, FAILED, print_json
from phoenix.errors import PhoenixError

if TYPE_CHECKING:
    from phoenix.settings import Settings

PYTHON = (3, 11)
GIT = (2, 38)
"""The first with `git merge-tree --write-tree`."""

FREE_BYTES = 1024**3
CLASHING = "arize-phoenix"


@dataclass(frozen=True)
class Check:
    """One thing looked at. `needed` ones decide the exit code."""

    name: str
    ok: bool
    said: str
    hint: str = ""
    needed: bool = True


async def doctor(*, as_json: bool = False) -> int:
    """Check everything, print it, and return 0 when all that is needed works."""
    from phoenix.cli.session import open_settings

    settings = open_settings()
    checks = [check_python(), check_git(), check_clash(), check_disk(settings.home)]
    checks += await check_sandboxes(settings)
    checks += [*await check_database(settings), await check_model(settings)]
    healthy = all(c.ok for c in checks if c.needed)
    if as_json:
        print_json({"ok": healthy, "checks": [asdict(c) for c in checks]})
    else:
        _print(checks)
    return DELIVERED if healthy else FAILED


def check_python() -> Check:
    """Look at the Python that runs this."""
    version = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info[:2] >= PYTHON
    hint = "" if ok else "Install Python 3.11 or newer: make PYTHON=python3.12 setup"
    return Check("python", ok, f"Python {version}", hint)


def check_git() -> Check:
    """Look at git's version."""
    hint = "Install git 2.38 or newer, such as: apt install git"
    try:
        done = subprocess.run(["git", "--version"], check=True, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return Check("git", False, "git was not found", hint)
    return git_check(done.stdout)


def git_check(said: str) -> Check:
    """Return the check of what `git --version` says."""
    found = re.search(r"(\d+)\.(\d+)", said)
    ok = found is not None and (int(found[1]), int(found[2])) >= GIT
    hint = "" if ok else "Install git 2.38 or newer: it finds merge conflicts beforehand."
    return Check("git", ok, said.strip() or "git names no version", hint)


def check_clash() -> Check:
    """Look for the other distribution whose package is also called `phoenix`."""
    try:
        version = metadata.version(CLASHING)
    except metadata.PackageNotFoundError:
        return Check("packages", True, f"{CLASHING} is not in this environment", needed=False)
    return Check(
        "packages",
        False,
        f"{CLASHING} {version} is in this environment, and its package is called phoenix too",
        f"Give each its own environment, or: pip uninstall {CLASHING}, then install phoenix-engine again",
    )


def check_disk(home: Path) -> Check:
    """Look at the data folder and the space in it."""
    hint = "Set PHOENIX_HOME to a folder that you can write."
    folder = home
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        return Check("disk", False, f"{home} cannot be written", hint)
    free = shutil.disk_usage(folder).free
    ok = free >= FREE_BYTES
    hint = "" if ok else "Free at least 1 GB, or set PHOENIX_HOME to a larger disk."
    return Check("disk", ok, f"{free / 1024**3:.1f} GB free for {home}", hint)


async def check_sandboxes(settings: Settings) -> list[Check]:
    """Try each kind of sandbox; one that works is enough."""
    from phoenix.bootstrap import probe_sandboxes

    probes = await probe_sandboxes(settings)
    wanted = settings.sandbox
    working = [p.kind for p in probes if p.works]
    if wanted == "host":
        chosen = Check("sandbox", True, "NONE: PHOENIX_SANDBOX=host isolates nothing", needed=True)
    else:
        usable = [k for k in working if wanted in ("auto", k)]
        hints = [p.hint for p in probes if p.hint and wanted in ("auto", p.kind)]
        hint = "" if usable else next(iter(hints), "Install bubblewrap.")
        said = f"{usable[0]} will be used" if usable else "none works, so nothing would be executed"
        chosen = Check("sandbox", bool(usable), said, hint)
    tried = [
        Check(f"sandbox {p.kind}", p.works, "works" if p.works else p.reason, p.hint, needed=False)
        for p in probes
    ]
    return [chosen, *tried]


WALLS = {
    "role": "kept apart by the database's role phoenix_tenant",
    "forced": "kept apart by the database's policies",
    "none": "kept apart by queries alone",
}


async def check_database(settings: Settings) -> list[Check]:
    """Open the database as every command does, and look how it keeps organisations apart."""
    from phoenix.bootstrap import open_system
    from phoenix.engine.work import wall_of

    try:
        async with asyncio.timeout(90), open_system(settings, execution=False) as system:
            said = f"{system.database} answers"
            wall = await wall_of(system.rows)
            away = await system.memories.standing()
            embedder = system.memories.vectors.embedder.name
            await system.traffic.breaker.looked()
            circuits = system.traffic.breaker.states()
    except PhoenixError as error:
        own = "Check DATABASE_URL and that the server runs." if settings.database_url else ""
        hint = error.hint or own or "Look at postgres.log in PHOENIX_HOME."
        return [Check("database", False, error.message, hint)]
    except TimeoutError:
        hint = "Look at postgres.log in PHOENIX_HOME."
        return [Check("database", False, "it did not answer within 90 s", hint)]
    hint = "" if wall != "none" else "Grant the role phoenix_tenant to the account, then: phoenix migrate"
    apart = Check("organisations", wall != "none", WALLS[wall], hint, needed=False)
    hint = "Runs go on by words alone. When it is back, or for broken files: phoenix memory rebuild"
    memory = Check(
        "memory", not away, away or f"Chroma answers, texts embedded by {embedder}", hint, needed=False
    )
    return [Check("database", True, said), apart, memory, *left_alone(circuits)]


def left_alone(circuits: Mapping[str, str]) -> list[Check]:
    """Return a check of each model that workers leave alone, because it failed again and again."""
    hint = "Look at the provider's status; workers try it again by themselves."
    said = {"open": "left alone for now", "half_open": "about to be tried again"}
    return [
        Check(f"model {name}", False, f"it failed again and again: {said[state]}", hint, needed=False)
        for name, state in sorted(circuits.items())
        if state in said
    ]


async def check_model(settings: Settings) -> Check:
    """Find the model that would be used, and ask its provider."""
    from phoenix.cli.session import usable_model

    try:
        return Check("model", True, f"{await usable_model(settings)} will be used")
    except PhoenixError as error:
        return Check("model", False, error.message, error.hint)


def _print(checks: list[Check]) -> None:
    from phoenix.cli.documents import line, new_console

    console = new_console()
    for check in checks:
        mark, style = ("ok  ", "green") if check.ok else ("FAIL", "bold red")
        if not check.ok and not check.needed:
            mark, style = "-   ", "dim"
        console.print(line(f"{mark}  {check.name}: {check.said}", style), soft_wrap=True)
        if check.hint and not check.ok:
            console.print(line(f"        {check.hint}"), soft_wrap=True)
