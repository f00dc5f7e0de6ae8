"""Push a branch to where a project's code came from."""

from __future__ import annotations

from urllib.parse import urlsplit

from phoenix.errors import GitFailed, InputError
from phoenix.workspace.git import Git, readable
from phoenix.workspace.source import locate

TIMEOUT_SECONDS = 600.0


def push_target(source: str | None) -> str | None:
    """Return the address that a delivery is pushed to, or None when nothing can be pushed there.

    A folder and an `ssh` address can be pushed to. So can an `https` address that holds credentials: one
    without was read anonymously, and git is given no others. A bundle is a file that is only read.
    """
    if source is None:
        return None
    try:
        where = locate(source)
    except InputError:
        return None
    if where.kind == "bundle" or (where.kind == "remote" and _is_anonymous(where.address)):
        return None
    return where.address


def shown(address: str) -> str:
    """Return an address as people may see it: a URL on one line and without credentials."""
    if "://" not in address:
        return address
    return readable(address.encode("utf-8", "replace"))


def _is_anonymous(address: str) -> bool:
    parts = urlsplit(address) if "://" in address else None
    return parts is not None and parts.scheme == "https" and not parts.username


def push(git: Git, address: str, name: str) -> None:
    """Push a branch to a remote, unless it is there already. Nothing is ever overwritten.

    Args:
        git: Has the branch.
        address: An `ssh` or `https` address.
        name: The branch.

    Raises:
        GitFailed: the remote refuses it, cannot be reached, or its branch of that name has other commits.
    """
    ref = f"refs/heads/{name}"
    remote = Git(git.repository, protocols="https:ssh")
    commit = git.run("rev-parse", "--verify", f"{ref}^{{commit}}").out.decode().strip()
    if _there(remote, address, ref) == commit:
        return
    try:
        refspec = f"{ref}:{ref}"
        remote.run("push", "--quiet", "--no-verify", "--", address, refspec, timeout_seconds=TIMEOUT_SECONDS)
    except GitFailed as error:
        # Two at once: the other one may have brought it.
        if _there(remote, address, ref) != commit:
            raise GitFailed(
                f"The branch {name} was not taken by {shown(address)}: {error.message}",
                hint="Let Phoenix push there, then resume; until then the branch is in the project's folder.",
            ) from error


def _there(remote: Git, address: str, ref: str) -> str:
    """Return the commit that a remote has under a ref; empty when it has none."""
    out = remote.run("ls-remote", "--refs", "--", address, ref, timeout_seconds=TIMEOUT_SECONDS).out.decode()
    return next((line.split("\t")[0] for line in out.splitlines() if line.endswith(f"\t{ref}")), "")
