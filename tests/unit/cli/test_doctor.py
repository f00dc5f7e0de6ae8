"""What the doctor sees."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from phoenix.cli import doctor
from phoenix.cli.app import app


@pytest.mark.parametrize(
    ("said", "ok"),
    [
        ("git version 2.39.5", True),
        ("git version 2.38.0.windows.1", True),
        ("git version 3.0.1 (Apple Git-145)", True),
        ("git version 2.37.9", False),
        ("nonsense", False),
    ],
)
def test_git_has_to_find_conflicts_beforehand(said: str, ok: bool) -> None:
    """2.38 is the first that does."""
    check = doctor.git_check(said)
    assert check.ok is ok
    assert bool(check.hint) is not ok


def test_a_missing_git_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    check = doctor.check_git()
    assert (check.ok, check.said) == (False, "git was not found")
    assert "Install git" in check.hint


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A file stands where the data folder should be."""
    blocked = tmp_path / "file"
    blocked.write_text("")
    check = doctor.check_disk(blocked / "home")
    assert (check.ok, "PHOENIX_HOME" in check.hint) == (False, True)


def test_too_little_space_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than what Phoenix wants."""
    monkeypatch.setattr(doctor, "FREE_BYTES", 10**18)
    check = doctor.check_disk(tmp_path / "not" / "yet")
    assert (check.ok, "Free at least" in check.hint) == (False, True)
    assert not (tmp_path / "not").exists()


def test_the_distribution_of_the_same_package_name_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both cannot live in one environment."""
    assert doctor.check_clash().ok
    about = tmp_path / "arize_phoenix-9.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: arize-phoenix\nVersion: 9.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    check = doctor.check_clash()
    assert not check.ok
    assert "arize-phoenix 9.0" in check.said
    assert "environment" in check.hint


def test_a_machine_without_a_model_is_told_the_ways_to_give_one(
    migrated_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All else works here, so only the model is missing."""
    monkeypatch.setenv("DATABASE_URL", migrated_database_url)
    result = CliRunner().invoke(app, ["doctor", "--json"])
    found = json.loads(result.stdout)
    checks = {c["name"]: c for c in found["checks"]}
    assert result.exit_code == 1
    assert [name for name, c in checks.items() if c["needed"] and not c["ok"]] == ["model"]
    assert checks["memory"]["said"] == "Chroma answers, texts embedded by hashed-1"
    for way in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "Ollama", "make demo"):
        assert way in checks["model"]["hint"]


def test_a_database_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to look at."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 1
    assert "FAIL  database:" in result.stdout
    assert "Traceback" not in result.output
