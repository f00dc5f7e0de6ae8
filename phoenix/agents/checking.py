"""Run a commit's tests in a clean checkout, and tell new failures from old ones."""

from __future__ import annotations

from collections.abc import Sequence

from phoenix.agents.results import cap, suite_text
from phoenix.domain.evidence import Sealed, SealedTest, SuiteResult, TestResult
from phoenix.ports import Ports, Worktree

BAD = ("failed", "error")


async def clean_checkout(ports: Ports, name: str, commit: str) -> Worktree:
    """Return a worktree that holds exactly a commit and nothing else."""
    tree = await ports.workspace.worktree(name, commit)
    await tree.restore(commit)
    return tree


async def lay_sealed(ports: Ports, tree: Worktree, sealed: Sealed) -> list[str]:
    """Put the sealed tests in their place, from their stored content, and return their paths."""
    sandbox = ports.sandboxes.open(tree.path)
    await sandbox.upload({f.path: f.content.encode("utf-8", "replace") for f in sealed.files})
    return [f.path for f in sealed.files]


async def new_failures(
    ports: Ports, suite: SuiteResult, base: str, *, name: str, apart_from: Sequence[str] = ()
) -> list[TestResult]:
    """Return the failures that the base commit does not have.

    Args:
        ports: What the run may use.
        suite: A run of the repository's tests.
        base: What it is compared with; its tests run only when there are failures.
        name: Of the worktree that the suite ran in; the base is checked out beside it.
        apart_from: Folders whose tests do not count.
    """
    bad = [
        t
        for t in suite.tests
        if t.outcome in BAD and not any(t.id.startswith(f"{folder}/") for folder in apart_from)
    ]
    if not bad:
        return []
    tree = await clean_checkout(ports, f"base-of-{name}", base)
    before = {t.id for t in (await ports.harness.run(tree.path)).tests if t.outcome in BAD}
    return [t for t in bad if t.id not in before]


def results_of(test: SealedTest, suite: SuiteResult) -> list[TestResult]:
    """Return a sealed test's results; several when it is parametrised, one `missing` when it did not run."""
    found = [t for t in suite.tests if t.id == test.id or t.id.startswith(f"{test.id}[")]
    return found or [TestResult(id=test.id, outcome="missing", message="the test did not run")]


async def tests_problem(ports: Ports, suite: SuiteResult, base: str, *, name: str) -> str:
    """Describe what is newly wrong in a suite; empty when nothing is."""
    bad = await new_failures(ports, suite, base, name=name)
    if bad:
        return suite_text(suite.model_copy(update={"tests": bad}))
    if not suite.tests and suite.exit_code not in (0, 5):
        return f"The tests could not be run:\n{cap(suite.output, 4000)}"
    return ""
