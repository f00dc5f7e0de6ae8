"""What the documentation tells users to type."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

FLOWS = Path(__file__).parents[3] / "docs" / "flows.md"


def block(language: str) -> str:
    """Return the page's first code block in a language."""
    found = re.search(rf"```{language}\n(.*?)```", FLOWS.read_text(), re.DOTALL)
    assert found
    return found[1]


@pytest.mark.slow
def test_the_flow_of_the_documentation_runs_as_it_says(
    tmp_path: Path, migrated_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command, with what it prints where that is shown; no model is needed."""
    monkeypatch.setenv("DATABASE_URL", migrated_database_url)
    monkeypatch.setenv("PHOENIX_HOME", str(tmp_path / "home"))
    (tmp_path / "greet.py").write_text(block("python"))
    for part in block("console").split("$ ")[1:]:
        line, _, shown = part.partition("\n")
        program, *arguments = shlex.split(line)
        assert program == ".venv/bin/phoenix"
        command = [sys.executable, "-m", "phoenix", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout == shown or (not shown and done.stdout)
