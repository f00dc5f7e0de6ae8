"""Look for what would make a green verification mean less than it says."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from phoenix.agents.checking import clean_checkout
from phoenix.agents.results import cap
from phoenix.domain.evidence import Sealed, SuiteResult
from phoenix.ports import Ports

USUAL_EXITS = (0, 1, 2, 5)
"""pytest's: passed, failed, interrupted by errors that are results of their own, and no tests."""

REWRITES = re.compile(r"\b(working-tree-encoding|filter|ident|eol|text)\b")
"""Attributes by which a checkout can hold other bytes than the commit that was verified."""


async def unsound(
    ports: Ports, commit: str, origin: str, *, suite: SuiteResult, decided: SuiteResult, sealed: Sealed | None
) -> list[str]:
    """Return what is wrong with a verification, whatever its tests say.

    Args:
        ports: What the run may use.
        commit: What was verified.
        origin: What the project started from; what was so there may stay so.
        suite: The run of all tests.
        decided: The run of the sealed tests.
        sealed: The sealed tests; None on the short path.
    """
    files = await ports.workspace.contents(commit)
    before = await ports.workspace.contents(origin)
    problems = [
        f"The run of the acceptance tests was cut short: {cap(t.message, 1000)}"
        for t in decided.tests
        if t.outcome == "error" and "::" not in t.id
    ]
    problems += [
        f"{path} makes a checkout differ from what was verified: {line.strip()}"
        for path, data in files.items()
        if PurePosixPath(path).name == ".gitattributes" and data != before.get(path)
        for line in data.decode("utf-8", "replace").splitlines()
        if REWRITES.search(line) and not line.lstrip().startswith("#")
    ]
    folder = f"{sealed.folder}/" if sealed else "\0"
    silent = not suite.tests and any(is_test_file(f) and not f.startswith(folder) for f in files)
    if silent and not any(is_test_file(f) for f in before):
        problems.append(f"There are tests, but none ran:\n{cap(suite.output, 2000)}")
    elif silent or suite.exit_code not in USUAL_EXITS:
        tree = await clean_checkout(ports, "base-of-verify", origin)
        was = await ports.harness.run(tree.path)
        # What ended early has an error without a test's name: that is no test that ran.
        ran = any("::" in t.id for t in was.tests)
        if ran or was.exit_code != suite.exit_code:
            problems.append(f"The tests do not run any more:\n{cap(suite.output, 2000)}")
    return problems


def is_test_file(path: str) -> bool:
    """Tell whether pytest would collect a file by its name."""
    name = PurePosixPath(path).name
    return name.endswith(".py") and (name.startswith("test_") or name.endswith("_test.py"))
