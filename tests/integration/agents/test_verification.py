"""Fresh verification of a commit: what is missing turns red, and nothing else does."""

from __future__ import annotations

import hashlib

import pytest

from phoenix.domain.evidence import Build, Sealed, SealedFile, SealedTest
from phoenix.domain.plan import Plan, Task
from phoenix.workflows.verification import prove
from tests.integration.agents.conftest import Bench, MakeBench

PATH = "tests/acceptance/test_acceptance_calc.py"
SEALED = (
    "from calc import add, mul\n\n\ndef test_add():\n    assert add(2, 2) == 4\n\n\n"
    "def test_mul():\n    assert mul(2, 3) == 6\n"
)
GOOD = {
    "calc.py": "def add(a, b):\n    return a + b\n\n\ndef mul(a, b):\n    return a * b\n",
    "tests/test_own.py": "from calc import add\n\n\ndef test_own():\n    assert add(1, 1) == 2\n",
}


async def built(bench: Bench, files: dict[str, str]) -> Build:
    """Store spec, plan and sealed tests, commit the files, and return the build to verify."""
    spec = await bench.spec("add(2, 2) returns 4", "mul(2, 3) returns 6")
    tasks = [Task(id=f"T{n}", title="t", description="d", criteria=[f"C{n}"]) for n in (1, 2)]
    plan = Plan(approach="a", tasks=tasks, spec=spec.digest())
    sha256 = hashlib.sha256(SEALED.encode()).hexdigest()
    sealed = Sealed(
        contract=spec.digest(),
        base=bench.base,
        files=[SealedFile(path=PATH, content=SEALED, sha256=sha256)],
        tests=[
            SealedTest(id=f"{PATH}::test_add", criterion="C1", red=True),
            SealedTest(id=f"{PATH}::test_mul", criterion="C2", red=True),
        ],
    )
    workspace = bench.ports.workspace
    tree = await workspace.worktree("given", bench.base)
    await tree.restore(bench.base)
    sandbox = bench.ports.sandboxes.open(tree.path)
    await sandbox.upload({path: text.encode() for path, text in files.items()})
    commit = await workspace.commit("given", message="Given", parents=[bench.base])
    return Build(
        spec=spec.digest(),
        plan=await bench.artifacts.put(plan),
        sealed=await bench.artifacts.put(sealed),
        base=bench.base,
        commit=commit,
    )


async def test_deleting_a_criterions_code_turns_it_red_and_no_other(bench: MakeBench) -> None:
    """Each criterion stands on its own code alone."""
    made = await bench({})
    good = await prove(await built(made, GOOD), made.ports)
    assert good.passed
    assert [c.holds for c in good.criteria] == [True, True]
    without = GOOD | {"calc.py": GOOD["calc.py"].replace("return a * b", "raise NotImplementedError")}
    evidence = await prove(await built(made, without), made.ports)
    assert not evidence.passed
    assert {c.criterion: c.holds for c in evidence.criteria} == {"C1": True, "C2": False}
    assert evidence.problems == []


async def test_what_is_delivered_holds_the_sealed_tests(bench: MakeBench) -> None:
    """The verified commit is the build with the acceptance tests on top."""
    made = await bench({})
    build = await built(made, GOOD)
    evidence = await prove(build, made.ports)
    assert evidence.commit != build.commit
    assert await made.ports.workspace.read(evidence.commit, PATH) == SEALED.encode()
    assert await made.ports.workspace.read(build.commit, PATH) is None


@pytest.mark.parametrize(
    "trick",
    [
        {"conftest.py": "import pytest\n\ndef pytest_runtest_call(item):\n    item.obj = lambda: None\n"},
        {"conftest.py": "collect_ignore_glob = ['*']\n"},
        {"pytest.ini": "[pytest]\naddopts = --deselect tests/acceptance\n"},
        {"pyproject.toml": "[tool.pytest.ini_options]\naddopts = '--collect-only'\n"},
        {PATH: "def test_add():\n    pass\n\n\ndef test_mul():\n    pass\n"},
        {"pytest.py": "def main(*a):\n    return 0\n", "conftest.py": "import os\nos._exit(0)\n"},
    ],
)
async def test_tricks_do_not_turn_a_red_criterion_green(bench: MakeBench, trick: dict[str, str]) -> None:
    """Whatever the repository brings along, sealed tests run as they were sealed."""
    made = await bench({})
    stub = {"calc.py": GOOD["calc.py"].replace("return a * b", "return 0")}
    evidence = await prove(await built(made, stub | trick), made.ports)
    assert not evidence.passed
    assert not next(c for c in evidence.criteria if c.criterion == "C2").holds


async def test_a_failing_test_of_the_repository_is_a_problem(bench: MakeBench) -> None:
    """Green criteria are not enough when the build breaks a test of its own."""
    made = await bench({})
    broken = GOOD | {"tests/test_own.py": "def test_own():\n    assert False\n"}
    evidence = await prove(await built(made, broken), made.ports)
    assert all(c.holds for c in evidence.criteria)
    assert not evidence.passed
    assert evidence.problems[0].startswith("tests/test_own.py::test_own failed")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"pytest.ini": "[pytest]\naddopts = --co\n"}, "none ran"),
        ({"conftest.py": "def pytest_collection_modifyitems(items):\n    items.clear()\n"}, "none ran"),
        ({"conftest.py": "import os\nos._exit(0)\n"}, "ended with exit code 0"),
        ({".gitattributes": "*.py working-tree-encoding=UTF-16\n"}, "working-tree-encoding"),
    ],
)
async def test_what_hides_tests_or_bytes_is_a_problem(
    bench: MakeBench, files: dict[str, str], said: str
) -> None:
    """A build whose own tests are kept from running, or whose checkout would differ, does not pass."""
    made = await bench({})
    evidence = await prove(await built(made, GOOD | files), made.ports)
    assert all(c.holds for c in evidence.criteria)
    assert not evidence.passed
    assert said in "\n".join(evidence.problems)
