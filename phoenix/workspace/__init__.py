"""The project's git repository, worked on from outside: nothing in it can act on the host."""

from phoenix.workspace.repository import GitWorkspace

__all__ = ["GitWorkspace"]
