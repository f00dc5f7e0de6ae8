"""The account PostgreSQL runs as: it refuses to be root."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from phoenix.errors import DatabaseUnavailable

CANDIDATES = ("phoenix", "postgres", "nobody")
"""Accounts that root lends to the server, best first. None is ever created."""

DAC_OVERRIDE, DAC_READ_SEARCH = 1, 2
"""Numbers of the capabilities in linux/capability.h."""


@dataclass(frozen=True)
class Account:
    """Who the server runs as. `prefix` goes before its commands; `caller` is who may connect."""

    uid: int
    gid: int
    caller: str
    prefix: tuple[str, ...]
    environment: Mapping[str, str]

    def own(self, path: Path) -> None:
        """Give the path to the account."""
        if path.stat().st_uid != self.uid:
            os.chown(path, self.uid, self.gid)


def account_for(data: Path, programs: Path) -> Account:
    """Return the account for a data folder: its owner's, else this process's own, or one that root lends.

    Root keeps every folder's mode. Instead the server gets the capability to search and read through
    folders that are closed to its account, and loses every other one.

    Raises:
        DatabaseUnavailable: no account fits.
    """
    # Nothing of the caller's environment: it holds keys, and PG* variables would change what the server does.
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
    own = os.geteuid()
    caller = _name(own)
    owner = data.stat().st_uid if data.exists() else None
    if own == 0:
        entry = _lent(owner)
        return Account(entry.pw_uid, entry.pw_gid, caller, _become(entry, programs), environment)
    if owner not in (None, own):
        raise DatabaseUnavailable(
            f"{data} belongs to another user, and this process runs as {caller}.",
            hint="Use the same account as before, or set PHOENIX_HOME to another folder.",
        )
    return Account(own, os.getegid(), caller, (), environment)


def _become(entry: pwd.struct_passwd, programs: Path) -> tuple[str, ...]:
    """Return the words that, put before a command, run it as somebody else."""
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise DatabaseUnavailable(
            "PostgreSQL refuses to run as root, and `setpriv` is not there to run it as somebody else.",
            hint="Install util-linux, start Phoenix as an ordinary user, or set DATABASE_URL.",
        )
    words = [setpriv, f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
    capability = _capability(programs / "postgres")
    if capability:
        words += [f"--inh-caps=-all,+{capability}", f"--ambient-caps=-all,+{capability}"]
    return (*words, "--no-new-privs")


def _lent(owner: int | None) -> pwd.struct_passwd:
    """Return the account that owns the data folder already, else the best of the candidates."""
    try:
        if owner:
            return pwd.getpwuid(owner)
    except KeyError as error:
        raise DatabaseUnavailable(
            f"the database belongs to user {owner}, who is not known here.",
            hint="Give its folder to a known user other than root.",
        ) from error
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in CANDIDATES:
        if name in known:
            return known[name]
    raise DatabaseUnavailable(
        "PostgreSQL refuses to run as root, and there is no account to lend it.",
        hint=f"Add one of the users {', '.join(CANDIDATES)}, or start Phoenix as an ordinary user.",
    )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError as error:
        raise DatabaseUnavailable(
            f"this process runs as user {uid}, who has no name in /etc/passwd; PostgreSQL needs one.",
            hint="Add the user, or set DATABASE_URL to use a server instead.",
        ) from error


def _capability(program: Path) -> str:
    """Return the least capability that lets the program be read and run, "" when root has none."""
    status = Path("/proc/self/status").read_text()
    line = next((line for line in status.splitlines() if line.startswith("CapPrm:")), "CapPrm: 0")
    held = int(line.split()[1], 16)
    if held >> DAC_READ_SEARCH & 1 and program.stat().st_mode & 0o001:
        return "dac_read_search"
    return "dac_override" if held >> DAC_OVERRIDE & 1 else ""
