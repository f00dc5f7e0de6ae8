"""Names of files: which ones a git tree, and whoever checks it out, can hold."""

from __future__ import annotations

import re

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){0,99}")
_IGNORED_BY_HFS = re.compile("[\u200c-\u200f\u202a-\u202e\u206a-\u206f\ufeff]")
LONGEST = 255
"""Bytes in one component of a path."""


def is_repository_folder(component: str) -> bool:
    """Tell whether some file system takes this name for `.git`."""
    plain = _IGNORED_BY_HFS.sub("", component)
    plain = re.split(r"[:\\]", plain, maxsplit=1)[0].rstrip(" .").lower()
    return plain in (".git", "git~1")


def can_be_held(component: str) -> bool:
    """Tell whether a folder's entry may be stored and laid out under this name."""
    try:
        size = len(component.encode())
    except UnicodeEncodeError:  # not UTF-8, so neither a checkpoint nor an event can name it
        return False
    return (
        0 < size <= LONGEST
        and component not in (".", "..")
        and not any(c in component for c in "/\0")
        and not is_repository_folder(component)
    )


def path_can_be_held(path: str) -> bool:
    """Tell whether each component may be stored and laid out."""
    return all(can_be_held(part) for part in path.split("/"))


def is_worktree_name(name: str) -> bool:
    """Tell whether a worktree may be called so: it becomes a folder and part of a ref."""
    return bool(_NAME.fullmatch(name)) and not name.endswith((".", ".lock"))
