"""Takes away one of Phoenix's guards in this process, to see that the sweep notices."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from langgraph.pregel import Pregel

from phoenix.storage.journal import JournalRows
from tests.chaos.watched import Place

FENCE = ("__phoenix_run", "__phoenix_attempt")
"""Where a run's configuration says who writes its checkpoints."""


def _unfence(_place: Place) -> None:
    """Write checkpoints without saying which attempt of a run writes."""

    def unfenced(kwargs: dict[str, Any]) -> None:
        for name in FENCE:
            kwargs["config"]["configurable"].pop(name, None)

    _before_streams(unfenced)


def _forget(_place: Place) -> None:
    """Never find a model's answer in the journal."""

    async def find(self: JournalRows, key: object) -> None:
        return None

    JournalRows.find = find  # type: ignore[method-assign,assignment]


def _unpin(place: Place) -> None:
    """Never put a worktree back to the commit of its checkpoint."""
    place.unpinned = True


def _lazy(_place: Place) -> None:
    """Write checkpoints when a run stops, instead of after every step."""
    _before_streams(lambda kwargs: kwargs.update(durability="exit"))


def _before_streams(change: Callable[[dict[str, Any]], None]) -> None:
    """Change the arguments with which the engine streams runs' graphs."""
    inner: Any = Pregel.astream

    def astream(self: Any, given: Any, config: Any = None, **kwargs: Any) -> Any:
        if kwargs.get("durability") == "sync":
            kwargs["config"] = {**config, "configurable": dict(config["configurable"])}
            change(kwargs)
            config = kwargs.pop("config")
        return inner(self, given, config, **kwargs)

    Pregel.astream = astream  # type: ignore[method-assign]


GUARDS: Mapping[str, Callable[[Place], None]] = {
    "fence": _unfence,
    "journal": _forget,
    "pinning": _unpin,
    "sync": _lazy,
}


def remove(names: Collection[str], place: Place) -> None:
    """Take guards away."""
    for name in names:
        GUARDS[name](place)
