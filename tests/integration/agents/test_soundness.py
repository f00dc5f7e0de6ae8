"""What makes a green verification mean less than it says: each rule on its own, over a real repository."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from phoenix.domain.evidence import Sealed, SuiteResult, TestResult
from phoenix.workflows.soundness import unsound
from tests.integration.agents.conftest import Bench, MakeBench

DIGEST = "sha256:" + "0" * 64
PASSED = SuiteResult(
    command="pytest", exit_code=0, tests=[TestResult(id="tests/test_a.py::test_a", outcome="passed")]
)
NOTHING = SuiteResult(command="pytest", exit_code=5, output="no tests ran")
CRASHED = PASSED.model_copy(update={"exit_code": 3, "output": "internal error"})
TEST = {"tests/test_a.py": "def test_a():\n    assert True\n"}


async def found(
    bench: Bench,
    files: Mapping[str, str],
    *,
    before: Mapping[str, str] | None = None,
    suite: SuiteResult = PASSED,
    decided: SuiteResult = PASSED,
) -> list[str]:
    """Return what is said of a verification of these files, begun with those before."""
    sealed = Sealed(contract=DIGEST, base=bench.base)
    origin = await commit(bench, "origin", before) if before else bench.base
    after = await commit(bench, "after", {**(before or {}), **files})
    return await unsound(bench.ports, after, origin, suite=suite, decided=decided, sealed=sealed)


async def commit(bench: Bench, name: str, files: Mapping[str, str]) -> str:
    """Commit files to the project."""
    tree = await bench.ports.workspace.worktree(name, bench.base)
    for path, text in files.items():
        target = tree.path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return await bench.ports.workspace.commit(name, message=name, parents=[bench.base])


async def test_a_sound_verification_has_no_problem(bench: MakeBench) -> None:
    """Nothing is found where nothing is wrong."""
    assert await found(await bench({}), TEST) == []


async def test_an_acceptance_run_that_was_cut_short_is_a_problem(bench: MakeBench) -> None:
    """An error of a whole file is no test's own; one of a test is the test's result."""
    whole = TestResult(id="tests/acceptance/test_x.py", outcome="error", message="ended early")
    single = TestResult(id="tests/acceptance/test_x.py::test_x", outcome="error", message="broke")
    decided = SuiteResult(command="pytest", exit_code=1, tests=[whole, single])
    (problem,) = await found(await bench({}), TEST, decided=decided)
    assert problem == "The run of the acceptance tests was cut short: ended early"


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("*.py filter=evil", True),
        ("*.py text eol=crlf", True),
        ("*.py working-tree-encoding=UTF-16", True),
        ("*.py ident", True),
        ("# no filter here", False),
        ("*.png binary", False),
    ],
)
async def test_attributes_that_change_a_checkout_are_a_problem(
    line: str, wrong: bool, bench: MakeBench
) -> None:
    """In any folder; comments and harmless ones are none."""
    problems = await found(await bench({}), {**TEST, "src/.gitattributes": f"{line}\n"})
    assert [line in problem for problem in problems] == ([True] if wrong else [])


async def test_attributes_that_were_there_before_may_stay(bench: MakeBench) -> None:
    """They are the repository's own."""
    assert await found(await bench({}), TEST, before={".gitattributes": "* text=auto\n"}) == []


async def test_tests_of_which_none_ran_are_a_problem(bench: MakeBench) -> None:
    """The files are there, and the run says nothing of them."""
    (problem,) = await found(await bench({}), TEST, suite=NOTHING)
    assert problem.startswith("There are tests, but none ran")


async def test_without_tests_of_its_own_nothing_has_to_run(bench: MakeBench) -> None:
    """The sealed tests are not the repository's."""
    sealed = {"tests/acceptance/test_x.py": "def test_x():\n    assert True\n", "a.py": "A = 1\n"}
    assert await found(await bench({}), sealed, suite=NOTHING) == []


@pytest.mark.parametrize("suite", [NOTHING, CRASHED], ids=["silent", "crashed"])
async def test_tests_that_ran_before_must_still_run(suite: SuiteResult, bench: MakeBench) -> None:
    """A project that had running tests may not end with tests that do not run."""
    (problem,) = await found(await bench({}), {"a.py": "A = 1\n"}, before=TEST, suite=suite)
    assert problem.startswith("The tests do not run any more")


async def test_tests_that_never_ran_may_stay_so(bench: MakeBench) -> None:
    """What the project found broken is not held against the change."""
    made = await bench({})
    never = {**TEST, "pytest.ini": "[pytest]\naddopts = --no-such\n"}
    tree = await made.ports.workspace.worktree("was", await commit(made, "broken", never))
    was = await made.ports.harness.run(tree.path)
    assert (was.exit_code, [t.id for t in was.tests]) == (4, ["pytest"])
    assert await found(made, {"a.py": "A = 1\n"}, before=never, suite=was) == []


async def test_another_way_of_not_running_is_a_problem(bench: MakeBench) -> None:
    """Broken before by its options, and by something else now."""
    never = {**TEST, "pytest.ini": "[pytest]\naddopts = --no-such\n"}
    (problem,) = await found(await bench({}), {"a.py": "A = 1\n"}, before=never, suite=CRASHED)
    assert problem.startswith("The tests do not run any more")
