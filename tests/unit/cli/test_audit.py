"""`phoenix audit verify` on a database of this machine."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest
from click.testing import Result
from typer.testing import CliRunner

from phoenix.cli.app import app


def phoenix(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def test_a_whole_log_is_told_from_a_changed_one(
    migrated_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With how much was checked, and the last hash to keep elsewhere; exit code 1 when it is broken."""
    monkeypatch.setenv("DATABASE_URL", migrated_database_url)
    monkeypatch.setenv("PHOENIX_HOME", str(tmp_path / "home"))
    model = tmp_path / "none.jsonl"
    model.write_text('{"format":"phoenix-recording","version":1,"model":"none"}\n')
    empty = json.loads(phoenix("audit", "verify", "--json").stdout)
    assert empty == {"checked": 0, "broken_at": None, "why": "", "last_hash": ""}
    new = phoenix("new", "Build it.", "--detach", "--model", f"recorded:{model}")
    project = new.stdout.strip()
    assert phoenix("cancel", project).exit_code == 0

    whole = json.loads(phoenix("audit", "verify", "--json").stdout)
    assert (whole["checked"], whole["broken_at"], len(whole["last_hash"])) == (2, None, 64)
    said = phoenix("audit", "verify")
    assert said.stdout == f"whole: 2 entries verified\nlast hash {whole['last_hash']}\n"

    with psycopg.connect(migrated_database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE audit DISABLE TRIGGER USER")
        connection.execute("UPDATE audit SET actor = 'nobody@localhost' WHERE position = 2")
    broken = phoenix("audit", "verify")
    assert (broken.exit_code, broken.stdout) == (1, "")
    assert "broken at entry 2: a row was changed; 1 before it are verified" in broken.stderr
    as_json = phoenix("audit", "verify", "--json")
    assert (as_json.exit_code, json.loads(as_json.stdout)["broken_at"]) == (1, 2)
