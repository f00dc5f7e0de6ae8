"""The command line: quick to start, and clear about bad usage."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from phoenix.cli.app import app
from phoenix.cli.new import GATES, NewOptions, approvals_of, budget_of, launch_of, repository_of
from phoenix.domain.gates import BUDGET, MERGE, QUESTIONS
from phoenix.engine.policy import LEVELS
from phoenix.errors import BudgetInvalid, RepositoryUnreadable, SettingInvalid

HEAVY = [
    "langgraph",
    "langchain_core",
    "langchain",
    "sqlalchemy",
    "rich",
    "pydantic",
    "procrastinate",
    "psycopg",
    "yaml",
    "structlog",
    "httpx",
    "fastapi",
]


@pytest.fixture
def run() -> CliRunner:
    return CliRunner()


def test_help_imports_nothing_heavy() -> None:
    """Only typer stands between the user and `--help`."""
    code = f"import sys, phoenix.cli.app; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_command_has_help(run: CliRunner) -> None:
    """One line each says what it does."""
    result = run.invoke(app, ["--help"])
    assert result.exit_code == 0
    names = "demo new run resume watch pause cancel worker up workers list show graph approve models doctor"
    for name in [*names.split(), "version"]:
        assert f"\n  {name} " in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["new"], "There is no requirement."),
        (["new", ""], "The requirement is empty."),
        (["new", "  \n\t"], "The requirement is empty."),
        (["new", "x" * 100_001], "has 100001 characters"),
        (["new", "x", "-f", "y"], "Both a REQUIREMENT and a FILE"),
        (["new", "-f", "/no/such/file"], "No such file or directory"),
        (["new", "x", "--budget-usd", "0"], "--budget-usd"),
        (["new", "x", "--path", "long"], "there is no path 'long'"),
        (["new", "x", "--approve", "spec,plane"], "there is no gate 'plane'"),
        (["new", "x", "--repo", "/no/such/folder"], "does not exist"),
        (["new", "x", "--record", "/no/such/folder/file"], "cannot be written"),
        (["new", "x", "--record", "/dev/full"], "cannot be written"),
        (["run", "flows.py"], "names no flow"),
        (["run", "/no/such/flows.py:x", "1"], "There is no file"),
        (["graph", "nothing"], "There is no flow 'nothing'"),
        (["approve", "x", "--verdict", "maybe"], "there is no verdict 'maybe'"),
        (["approve", "x", "--verdict", "reject"], "A rejection needs a reason."),
        (["approve", "x", "--verdict", "edit"], "An edit needs the edited value."),
        (["resume", "x", "--budget-usd", "-1"], "not a positive amount"),
    ],
)
def test_bad_usage_is_one_message_and_exit_code_2(run: CliRunner, arguments: list[str], said: str) -> None:
    """Said on standard error, with no traceback and nothing on standard output."""
    result = run.invoke(app, arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stdout == ""
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_a_large_file_is_refused(run: CliRunner, tmp_path: Path) -> None:
    """A requirement of a megabyte is none."""
    file = tmp_path / "big.md"
    file.write_text("word " * 210_000)
    result = run.invoke(app, ["new", "-f", str(file)])
    assert result.exit_code == 2
    assert "characters; 100000 are allowed" in result.stderr


def test_a_file_that_is_no_text_is_refused(run: CliRunner, tmp_path: Path) -> None:
    """Its bytes are not guessed at."""
    file = tmp_path / "x.bin"
    file.write_bytes(b"\xff\xfe\x00")
    result = run.invoke(app, ["new", "-f", str(file)])
    assert (result.exit_code, "is not text in UTF-8" in result.stderr) == (2, True)


def test_the_requirement_comes_from_standard_input(run: CliRunner) -> None:
    """`-f -` reads it; here it is empty."""
    result = run.invoke(app, ["new", "-f", "-"], input=" \n")
    assert (result.exit_code, "The requirement is empty." in result.stderr) == (2, True)


def test_bad_usage_with_json_ends_with_the_summary(run: CliRunner) -> None:
    """A program that reads lines gets the reason as well."""
    result = run.invoke(app, ["new", "", "--json"])
    last = json.loads(result.stdout)
    assert result.exit_code == 2
    assert (last["project_id"], last["status"], last["error"]["code"]) == (
        None,
        "refused",
        "requirement_invalid",
    )


def test_an_unknown_setting_is_named(run: CliRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A typo in the environment fails at start."""
    monkeypatch.setenv("PHOENIX_HOEM", "/tmp")
    result = run.invoke(app, ["list"])
    assert (result.exit_code, "unknown setting PHOENIX_HOEM" in result.stderr) == (2, True)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "-inf", "sNaN", "five", "1e", "1,5"])
def test_a_budget_is_a_positive_amount(text: str) -> None:
    """Anything else is refused by name."""
    with pytest.raises(BudgetInvalid):
        budget_of(text)


def test_a_budget_may_be_written_with_its_sign() -> None:
    """$5 is 5."""
    assert str(budget_of("$5")) == "5"
    assert budget_of("") is None


@pytest.mark.parametrize("text", ["", ",", "ask,spec", "auto,plan", "guarded,spec", "everything"])
def test_a_policy_is_a_level_or_gates(text: str) -> None:
    """Gates cannot be mixed with levels."""
    with pytest.raises(SettingInvalid):
        approvals_of(text, ("spec", "plan"))


def test_the_command_line_knows_the_engines_levels_and_gates() -> None:
    """It names them itself, so that `--help` imports nothing."""
    for name in (*LEVELS, QUESTIONS, MERGE, BUDGET):
        assert approvals_of(name, GATES) == name


def test_gates_are_listed_without_spaces() -> None:
    """As the engine compares them."""
    assert approvals_of(" spec , plan", ("spec", "plan")) == "spec,plan"


def test_a_repository_is_a_folder_with_git_or_an_address(tmp_path: Path) -> None:
    """Relative paths become absolute: a project is resumed from anywhere."""
    with pytest.raises(RepositoryUnreadable):
        repository_of(str(tmp_path))
    (tmp_path / ".git").mkdir()
    assert repository_of(str(tmp_path)) == str(tmp_path)
    assert repository_of("https://example.org/x.git") == "https://example.org/x.git"
    assert repository_of("git@example.org:x.git") == "git@example.org:x.git"
    assert repository_of("") is None


def test_a_requirement_is_made_fit_for_the_database(tmp_path: Path) -> None:
    """PostgreSQL takes no NUL, and a byte of the command line that is no UTF-8 is no text."""
    (tmp_path / "nul.md").write_bytes(b"A\0B")
    assert launch_of(NewOptions(file=str(tmp_path / "nul.md"))).requirement == "A\ufffdB"
    launch = launch_of(NewOptions(requirement="A\udcffB\0"))
    assert (launch.requirement, launch.title) == ("A\ufffdB\ufffd", "A\ufffdB\ufffd")


def test_a_launch_holds_what_was_asked(tmp_path: Path) -> None:
    """Its title is the requirement's first line."""
    launch = launch_of(
        NewOptions(requirement="Make it\nand more", budget_usd="2.5", path="short", approvals="auto")
    )
    assert (launch.title, str(launch.budget_usd), launch.path, launch.approvals) == (
        "Make it",
        "2.5",
        "short",
        "auto",
    )
