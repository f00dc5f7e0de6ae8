"""Apply file changes that a model wrote, inside a workspace and nowhere else."""

from __future__ import annotations

import difflib
import posixpath
from collections.abc import Sequence

from phoenix.domain.work import FileChange
from phoenix.errors import DomainInvalid, PathRefused
from phoenix.ports import Sandbox


def clean_path(path: str) -> str:
    """Return a path relative to the repository, normalised.

    Raises:
        PathRefused: it is absolute, leaves the repository, or names git's own folder.
    """
    clean = posixpath.normpath(path.strip().replace("\\", "/"))
    parts = clean.split("/")
    if not path.strip() or clean.startswith("/") or ".." in parts or ".git" in parts or clean == ".":
        raise PathRefused(f"{path!r} is not a path inside the repository.", hint="Use a relative path.")
    return clean


def replace_once(text: str, old: str, new: str, path: str) -> str:
    """Replace the one occurrence of `old`.

    Raises:
        DomainInvalid: it occurs never or more than once; says how often.
    """
    count = text.count(old) if old else 0
    if count != 1:
        what = "is empty" if not old else "does not occur" if count == 0 else f"occurs {count} times"
        near = _nearest(text, old) if count == 0 and old else ""
        raise DomainInvalid([(path, f"`old` {what} in the file; give text that occurs exactly once{near}")])
    return text.replace(old, new)


def _nearest(text: str, old: str) -> str:
    """Show the lines of the file that look most like the text that was not found."""
    wanted, lines = old.strip("\n").splitlines(), text.splitlines()
    first = next((line.strip() for line in wanted if line.strip()), "")
    close = difflib.get_close_matches(first, [line.strip() for line in lines], n=1, cutoff=0.4)
    if not close:
        return ""
    start = next(n for n, line in enumerate(lines) if line.strip() == close[0])
    shown = "\n".join(lines[start : start + min(len(wanted) + 1, 8)])
    return f". The nearest is at line {start + 1}:\n{shown}"


async def apply_changes(sandbox: Sandbox, changes: Sequence[FileChange]) -> list[str]:
    """Write all changes, or none, and return the paths.

    Raises:
        DomainInvalid: names each change that cannot be applied.
    """
    problems: list[tuple[str, str]] = []
    result: dict[str, bytes] = {}
    for change in changes:
        try:
            path = clean_path(change.path)
            if change.content is not None:
                result[path] = change.content.encode("utf-8", "replace")
                continue
            found = result.get(path) or (await sandbox.download([path])).get(path)
            if found is None:
                problems.append((path, "there is no such file to edit; give its content"))
                continue
            text = found.decode("utf-8", "replace")
            for edit in change.edits:
                text = replace_once(text, edit.old, edit.new, path)
            result[path] = text.encode()
        except PathRefused as error:
            problems.append((change.path, str(error)))
        except DomainInvalid as error:
            problems.extend(error.problems)
    if problems:
        raise DomainInvalid(problems)
    await sandbox.upload(result)
    return sorted(result)
