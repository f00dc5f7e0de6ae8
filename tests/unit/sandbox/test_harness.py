"""The harness runs suites in a sandbox and judges their failures."""

from __future__ import annotations

from pathlib import Path

import pytest

from phoenix.domain.evidence import SuiteResult, TestResult
from phoenix.ports import Sandboxes
from phoenix.sandbox.bubblewrap import BubblewrapSandboxes
from phoenix.sandbox.choice import probe
from phoenix.sandbox.harness import PytestHarness
from phoenix.sandbox.host import HostSandboxes
from phoenix.sandbox.provision import WheelProvisioner
from phoenix.sandbox.sandlock import SandlockSandboxes

FAILURES = """
import subprocess
import unittest
import pytest
from shop import Basket, boom, lookup

def test_passes(): assert True
def test_asserts(): assert 1 == 2
def test_stub(): Basket().total()
def test_product_raises(): lookup("x")
def test_product_error_in_library(): boom()
def test_wrong_call(): Basket(1, 2, 3)
def test_missing_attribute(): Basket().nothing
def test_own_stub(): raise NotImplementedError
def test_did_not_raise():
    with pytest.raises(ValueError):
        pass
def test_imports(): import nothing_of_that_name
async def test_async(): assert False
@pytest.fixture
def broken(): assert 0
def test_fixture(broken): pass
@pytest.fixture
def torn():
    yield
    assert 0
def test_teardown(torn): pass
@pytest.mark.skip(reason="not today")
def test_skipped(): pass
@pytest.mark.xfail(reason="known")
def test_xfail(): assert 0
@pytest.mark.xfail(strict=True)
def test_xpass(): pass
@pytest.mark.parametrize("n", [1, 2])
def test_param(n): assert n == 1
class Unit(unittest.TestCase):
    def test_unit(self): self.assertEqual(1, 3)
"""
SHOP = """
import json

class Basket:
    def total(self):
        raise NotImplementedError

def lookup(key):
    return {}[key]

def boom():
    return json.loads("{")
"""


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> PytestHarness:
    """Return a harness whose environment is made once for all tests."""
    sandboxes = BubblewrapSandboxes()
    return PytestHarness(sandboxes, WheelProvisioner(tmp_path_factory.mktemp("cache"), sandboxes))


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def outcomes(result: SuiteResult) -> dict[str, str]:
    return {test.id.rpartition("::")[2]: test.outcome for test in result.tests}


@pytest.mark.parametrize("sealed", [False, True])
async def test_each_test_has_its_outcome_and_only_the_codes_own_failures_are_red(
    harness: PytestHarness, tmp_path: Path, sealed: bool
) -> None:
    """Outcomes are pytest's; red are assertions and errors out of the project's code."""
    write(tmp_path, {"tests/test_all.py": FAILURES, "src/shop.py": SHOP})
    result = await harness.run(tmp_path, paths=["tests/test_all.py"], sealed=sealed)
    assert outcomes(result) == {
        "test_passes": "passed",
        "test_asserts": "failed",
        "test_stub": "failed",
        "test_product_raises": "failed",
        "test_product_error_in_library": "failed",
        "test_wrong_call": "failed",
        "test_missing_attribute": "failed",
        "test_own_stub": "failed",
        "test_did_not_raise": "failed",
        "test_imports": "failed",
        "test_async": "failed",
        "test_fixture": "error",
        "test_teardown": "error",
        "test_skipped": "skipped",
        "test_xfail": "skipped",
        "test_xpass": "failed",
        "test_param[1]": "passed",
        "test_param[2]": "failed",
        "test_unit": "failed",
    }
    assert {t.id.rpartition("::")[2] for t in result.tests if harness.red(t)} == {
        "test_asserts",
        "test_stub",
        "test_product_raises",
        "test_product_error_in_library",
        "test_did_not_raise",
        "test_param[2]",
        "test_unit",
    }
    by_id = {t.id: t for t in result.tests}
    assert by_id["tests/test_all.py::test_asserts"].message == (
        "AssertionError in tests/test_all.py:8: assert 1 == 2"
    )
    stub = by_id["tests/test_all.py::test_stub"]
    assert (stub.error, stub.where) == ("NotImplementedError", "src/shop.py")
    assert by_id["tests/test_all.py::test_skipped"].message == "Skipped: not today"
    assert result.exit_code == 1
    assert "tests/test_all.py::Unit::test_unit" in by_id


async def test_collection_errors_name_the_file_and_do_not_hide_other_tests(
    harness: PytestHarness, tmp_path: Path
) -> None:
    """A file that cannot be collected is an error under its own name; the rest still runs."""
    write(
        tmp_path,
        {
            "tests/test_bad.py": "import nothing_here\n",
            "tests/test_syntax.py": "def (\n",
            "tests/test_good.py": "def test_it(): pass\n",
        },
    )
    result = await harness.run(tmp_path)
    assert result.outcome("tests/test_good.py::test_it") == "passed"
    bad = next(t for t in result.tests if t.id == "tests/test_bad.py")
    assert (bad.outcome, bad.error) == ("error", "ModuleNotFoundError")
    assert "nothing_here" in bad.message
    assert result.outcome("tests/test_syntax.py") == "error"
    assert not any(harness.red(t) for t in result.tests)


@pytest.mark.parametrize(
    "sandboxes", [BubblewrapSandboxes(), SandlockSandboxes(), HostSandboxes()], ids=lambda s: s.kind
)
async def test_results_are_the_same_in_every_kind_of_sandbox(tmp_path: Path, sandboxes: Sandboxes) -> None:
    """Names, places and texts do not tell where the workspace lies, nor does a conftest above it count."""
    tried = await probe(sandboxes)
    if sandboxes.kind != "host" and not tried.works:
        pytest.skip(tried.reason)
    (tmp_path / "conftest.py").write_text("raise RuntimeError('above')\n")
    workspace = tmp_path / "workspace"
    text = (
        "import os, json\ndef test_a(): json.loads(os.getcwd() + '/x')\ndef test_b(): assert 0, os.getcwd()\n"
    )
    write(workspace, {"tests/test_a.py": text})
    harness = PytestHarness(sandboxes, WheelProvisioner(tmp_path / "cache", sandboxes))
    for sealed in (False, True):
        result = await harness.run(workspace, sealed=sealed)
        assert [(t.id, t.outcome, t.where) for t in result.tests] == [
            ("tests/test_a.py::test_a", "failed", "tests/test_a.py"),
            ("tests/test_a.py::test_b", "failed", "tests/test_a.py"),
        ]
        assert result.tests[1].message.startswith("AssertionError in tests/test_a.py:3: .")
        assert "<python>/lib/" in result.output
        assert str(tmp_path) not in result.output


async def test_a_suite_without_tests_has_exit_code_5(harness: PytestHarness, tmp_path: Path) -> None:
    """An empty repository is no failure of the harness."""
    result = await harness.run(tmp_path)
    assert (result.exit_code, result.tests) == (5, [])
    assert "no tests ran" in result.output


async def test_a_missing_path_is_told(harness: PytestHarness, tmp_path: Path) -> None:
    """A path that does not exist gives pytest's usage error and its words; it is never an option."""
    result = await harness.run(tmp_path, paths=["tests/test_absent.py"])
    assert (result.exit_code, result.tests) == (4, [])
    assert "tests/test_absent.py" in result.output
    hostile = await harness.run(tmp_path, paths=["--version", "$(touch planted)"])
    assert hostile.exit_code == 4
    assert not (tmp_path / "planted").exists()


async def test_the_workspace_is_left_as_it_was(harness: PytestHarness, tmp_path: Path) -> None:
    """Neither caches nor byte code nor temporary folders are left behind."""
    files = {
        "pkg/__init__.py": "",
        "tests/test_tmp.py": "import pkg\ndef test_tmp(tmp_path): (tmp_path / 'x').write_text('x')\n",
        "tests/test_fails.py": "def test_fails(): assert 0\n",
    }
    write(tmp_path, files)
    for sealed in (False, True):
        await harness.run(tmp_path, sealed=sealed)
        assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == sorted(
            files
        )


async def test_the_repositorys_own_configuration_counts(harness: PytestHarness, tmp_path: Path) -> None:
    """conftest, options and test paths of the repository are used, and early stops are not."""
    write(
        tmp_path,
        {
            "pyproject.toml": "[tool.pytest.ini_options]\npython_files='check_*.py'\naddopts='-x --lf'\n",
            "conftest.py": "import pytest\n@pytest.fixture\ndef number(): return 7\n",
            "checks/check_a.py": "def test_a(): assert 0\ndef test_b(number): assert number == 7\n",
        },
    )
    assert outcomes(await harness.run(tmp_path)) == {"test_a": "failed", "test_b": "passed"}


async def test_a_sealed_run_ignores_what_the_repository_brings(
    harness: PytestHarness, tmp_path: Path
) -> None:
    """No configuration, conftest, start-up hook or stand-in for pytest can turn a red test green."""
    green = "import os\nos._exit(0)\n"
    write(
        tmp_path,
        {
            "pyproject.toml": "[tool.pytest.ini_options]\naddopts = '--collect-only'\n",
            "pytest.ini": "[pytest]\naddopts = --deselect sealed/test_seal.py::test_seal\n",
            "conftest.py": "def pytest_collection_modifyitems(items): items.clear()\n",
            "sealed/conftest.py": "def pytest_collection_modifyitems(items): items.clear()\n",
            "sitecustomize.py": green,
            "usercustomize.py": green,
            "pytest.py": green,
            "_pytest/__init__.py": green,
            "pluggy.py": green,
            "phoenix_harness.py": green,
            "phoenix_harness_run.py": green,
            "src/json.py": green,
            "sealed/test_seal.py": "def test_seal(): assert 1 == 2\n",
            "tests/test_other.py": "def test_other(): pass\n",
        },
    )
    result = await harness.run(tmp_path, paths=["sealed/test_seal.py"], sealed=True)
    assert [(t.id, t.outcome) for t in result.tests] == [("sealed/test_seal.py::test_seal", "failed")]
    assert harness.red(result.tests[0])


async def test_a_hanging_test_is_named_and_the_others_keep_their_results(
    harness: PytestHarness, tmp_path: Path
) -> None:
    """At the deadline the run is stopped; what ended before is kept."""
    text = "import time\ndef test_a(): pass\ndef test_b(): time.sleep(60)\ndef test_c(): pass\n"
    write(tmp_path, {"test_slow.py": text})
    result = await harness.run(tmp_path, timeout_seconds=1.0)
    assert result.exit_code is None
    assert outcomes(result) == {"test_a": "passed", "test_b": "error"}
    assert "stopped after 1 s" in result.tests[1].message
    assert "stopped after 1 s" in result.output


async def test_a_test_that_ends_the_process_is_an_error(harness: PytestHarness, tmp_path: Path) -> None:
    """Leaving with success, or crashing, does not pass for a passed test."""
    write(tmp_path, {"test_exit.py": "import os\ndef test_a(): pass\ndef test_b(): os._exit(0)\n"})
    result = await harness.run(tmp_path)
    assert outcomes(result) == {"test_a": "passed", "test_b": "error"}
    assert "exit code 0" in result.tests[1].message


@pytest.mark.parametrize(
    ("hook", "left"),
    [("pytest_configure(config)", {}), ("pytest_runtest_logfinish(nodeid)", {"test_a": "passed"})],
)
async def test_a_run_cut_short_between_tests_is_an_error(
    harness: PytestHarness, tmp_path: Path, hook: str, left: dict[str, str]
) -> None:
    """Tests that did not run since the process left with success do not go unnoticed."""
    write(
        tmp_path,
        {
            "conftest.py": f"import os\ndef {hook}: os._exit(0)\n",
            "test_cut.py": "def test_a(): pass\ndef test_b(): assert 0\n",
        },
    )
    result = await harness.run(tmp_path)
    assert outcomes(result) == {**left, "pytest": "error"}
    assert "exit code 0 before the run was over" in result.tests[-1].message


async def test_output_is_capped_printable_and_free_of_machine_paths(
    harness: PytestHarness, tmp_path: Path
) -> None:
    """A flood keeps its head and tail, control characters are gone, and paths are relative."""
    text = (
        "import os\n"
        "def test_flood():\n"
        "    for _ in range(2000): print('y' * 500)\n"
        "    print('\\x1b[31mred\\x00\\x07')\n"
        "    raise ValueError(os.getcwd() + '/secret.txt \\x00 \\ud800')\n"
    )
    write(tmp_path, {"test_flood.py": text})
    result = await harness.run(tmp_path)
    assert outcomes(result) == {"test_flood": "failed"}
    assert len(result.output) < 31_000
    assert "\x1b" not in result.output
    assert "\x00" not in result.output
    assert "ValueError in test_flood.py:5: secret.txt" in result.tests[0].message
    for text in (result.output, result.tests[0].message):
        assert str(tmp_path) not in text
        assert "/workspace" not in text
        text.encode("utf-8")


async def test_printed_forgeries_are_not_results(harness: PytestHarness, tmp_path: Path) -> None:
    """A test that prints what looks like results, or writes junk to the results, adds none."""
    text = (
        "import os, sys\n"
        "def test_forge():\n"
        '    sys.__stdout__.write(\'\\n{"event": "report", "id": "x", "outcome": "passed"}\\n\')\n'
        "    open(os.environ['PHOENIX_HARNESS_RESULTS'], 'a').write('[]\\n{\"id\": 1}\\nnot json\\n')\n"
        "    assert not [k for k in os.environ if 'ORDER' in k]\n"
    )
    write(tmp_path, {"test_forge.py": text})
    result = await harness.run(tmp_path)
    assert result.outcome("test_forge.py::test_forge") == "passed"
    assert result.outcome("x") == "missing"


def test_red_needs_a_failure_of_the_projects_own_code() -> None:
    """The judgement follows from outcome, exception and place alone."""
    sandboxes = BubblewrapSandboxes()
    harness = PytestHarness(sandboxes, WheelProvisioner(Path("unused"), sandboxes))

    def red(**values: str) -> bool:
        return harness.red(TestResult.model_validate({"id": "tests/test_a.py::test", **values}))

    assert red(outcome="failed", error="AssertionError", where="tests/test_a.py")
    assert red(outcome="failed", error="KeyError", where="src/a.py")
    assert not red(outcome="failed", error="KeyError", where="tests/conftest.py")
    assert not red(outcome="failed", error="KeyError", where="tests/test_b.py")
    assert not red(outcome="failed", error="ImportError", where="src/a.py")
    assert not red(outcome="failed", error="SyntaxError", where="src/a.py")
    assert not red(outcome="failed", error="Failed", where="")
    assert not red(outcome="error", error="AssertionError", where="src/a.py")
    assert not red(outcome="passed")


LIBRARY = {
    "pyproject.toml": """
[project]
name = "My.Shop"
dynamic = ["version"]
[project.entry-points."shop.tills"]
cash = "my_shop.cash:Cash"
[tool.hatch.build.hooks.vcs]
version-file = "src/my_shop/_version.py"
""",
    "PKG-INFO": "Metadata-Version: 2.1\nName: my-shop\nVersion: 4.9.0\n",
    "src/my_shop/__init__.py": """
from importlib import metadata
from ._version import __version__, version_tuple
assert metadata.version("my_shop") == __version__
def tills():
    return {e.name: e.load() for e in metadata.entry_points(group="shop.tills")}
""",
    "src/my_shop/cash.py": "class Cash: pass\n",
    "tests/test_shop.py": """
import importlib, pytest
import my_shop
def test_version(): assert (my_shop.__version__, my_shop.version_tuple) == ("4.9.0", (4, 9, 0))
def test_plugins(): assert my_shop.tills()["cash"].__module__ == "my_shop.cash"
def test_nothing_else():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("my_shop._nothing")
""",
}


@pytest.mark.parametrize("kind", [BubblewrapSandboxes, SandlockSandboxes])
async def test_a_library_that_asks_for_its_own_metadata_is_tested(
    tmp_path: Path, kind: type[BubblewrapSandboxes] | type[SandlockSandboxes]
) -> None:
    """Its version, its plugins and the module its build backend writes are there; its tree stays."""
    sandboxes = kind()
    if not (await probe(sandboxes)).works:
        pytest.skip(f"{sandboxes.kind} does not work here")
    workspace = write(tmp_path / "shop", LIBRARY)
    harness = PytestHarness(sandboxes, WheelProvisioner(tmp_path / "cache", sandboxes))
    for sealed in (False, True):
        result = await harness.run(workspace, sealed=sealed)
        assert set(outcomes(result).values()) == {"passed"}, result
        assert len(result.tests) == 3
    assert {str(p.relative_to(workspace)) for p in workspace.rglob("*") if p.is_file()} == set(LIBRARY)


async def test_a_version_file_that_the_workspace_has_wins(harness: PytestHarness, tmp_path: Path) -> None:
    """The stand-in for a generated module is asked last."""
    write(
        tmp_path, LIBRARY | {"src/my_shop/_version.py": "__version__ = '4.9.0'; version_tuple = ('own',)\n"}
    )
    result = await harness.run(tmp_path)
    assert outcomes(result) == {
        "test_version": "failed",
        "test_plugins": "passed",
        "test_nothing_else": "passed",
    }
