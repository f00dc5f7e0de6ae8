"""The page of error codes, from the tree of errors and the statuses that the service gives them."""

from __future__ import annotations

from collections.abc import Iterator

from manual.tables import code, table
from phoenix.api.errors import STATUS, WORDS
from phoenix.errors import PhoenixError, code_of

INTRODUCTION = """# Error codes

The `code` of a problem that the service answers, of a failed run's error, and of `--json` at the command line. The text may change,
the code does not. *kind* says what to do: `input` and `conflict` are the caller's to mend, `transient` passes by itself,
`budget` and `security` are for people, `permanent` needs the log.

"""
FRAMEWORK = """
## Before a route is reached

`internal_error` (500) is what nobody foresaw: the log has it under the request's id. `refused` is any other refusal.

"""


def page() -> str:
    """Return all codes."""
    rows = [
        (code(code_of(kind)), str(_status(kind)), kind.category, (kind.__doc__ or "").strip().splitlines()[0])
        for kind in tree(PhoenixError)
    ]
    words = [(code(name), str(status), title) for status, (name, title) in WORDS.items()]
    head = ("code", "HTTP", "kind", "meaning")
    return INTRODUCTION + table(head, rows) + FRAMEWORK + table(("code", "HTTP", "meaning"), words)


def tree(kind: type[PhoenixError]) -> Iterator[type[PhoenixError]]:
    """Return a class of errors and all below it, parents first."""
    yield kind
    for below in sorted(kind.__subclasses__(), key=lambda each: each.__name__):
        if below.__module__.startswith("phoenix."):
            yield from tree(below)


def _status(kind: type[PhoenixError]) -> int:
    return next(STATUS[each] for each in kind.__mro__ if each in STATUS)
