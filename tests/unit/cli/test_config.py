"""`phoenix config` says what is set and where it comes from, and whether a service would start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from phoenix.bootstrap import FLOWS, service_flows
from phoenix.cli.app import app
from phoenix.errors import SettingInvalid
from phoenix.llm.catalogue import read_catalogue
from phoenix.settings import Settings
from phoenix.workflows.options import compose_workflows

MODELS = "defaults:\n  - provider: a\n  - _self_\ncache_hours: 2\n"
PROVIDER = '# @package _global_\nmodels:\n  fast: {model: "openai:a", base_url: "http://u:pw@h/v1"}\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a composed catalogue, options of workflows, and a secret in `.env`."""
    (tmp_path / "models" / "provider").mkdir(parents=True)
    (tmp_path / "models" / "config.yaml").write_text(MODELS)
    (tmp_path / "models" / "provider" / "a.yaml").write_text(PROVIDER)
    (tmp_path / "flows.yaml").write_text("task:\n  rounds: 5\n")
    (tmp_path / ".env").write_text("OPENAI_API_KEY=sk-canary-1\nANTHROPIC_API_KEY=vault:a#b\n")
    monkeypatch.chdir(tmp_path)
    for name, value in (("HOME", "home"), ("MODELS", "models"), ("WORKFLOWS", "flows.yaml")):
        monkeypatch.setenv(f"PHOENIX_{name}", str(tmp_path / value))
    return tmp_path


def run(*arguments: str) -> tuple[int, str, str]:
    """Run a command; return its code and what it printed."""
    done = CliRunner().invoke(app, ["config", *arguments])
    return done.exit_code, done.stdout, done.stderr


def shown(*arguments: str) -> dict[str, dict[str, tuple[Any, str]]]:
    """Return what `show` says."""
    code, out, err = run("show", "--json", *arguments)
    assert code == 0, err
    assert "sk-canary" not in out
    return {d: {r["name"]: (r["value"], r["origin"]) for r in rows} for d, rows in json.loads(out).items()}


def test_show_names_origins_and_no_secret(folder: Path) -> None:
    """Files with lines, overrides, and where a secret is referred to."""
    found = shown("--set", "workflows.task.rounds=7")
    assert found["settings"]["OPENAI_API_KEY"] == ("***", ".env, line 1")
    assert found["settings"]["ANTHROPIC_API_KEY"] == ("vault:a#b", ".env, line 2")
    assert found["settings"]["PHOENIX_MODELS"] == (str(folder / "models"), "environment")
    assert found["models"]["models.fast.base_url"] == (
        "http://***@h/v1",
        f"{folder}/models/provider/a.yaml, line 3",
    )
    assert found["models"]["cache_hours"] == ("2", f"{folder}/models/config.yaml, line 4")
    assert found["workflows"]["task.rounds"] == ("7", "override task.rounds=7")
    assert shown("--all")["settings"]["PHOENIX_PORT"] == (8400, "default")
    code, out, _ = run("show")
    assert code == 0
    assert "OPENAI_API_KEY = ***    (.env, line 1)" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "models.nothing=1"], "Could not override 'nothing'"),
        (["--set", "+models.tiers=[x]"], "override +tiers=[x], tiers[0]: there is no alias 'x'"),
        (["--set", "models.cache_hours=x"], "override cache_hours=x, cache_hours: Input should be"),
        (["--set", "workflows.task.rounds=99"], "override task.rounds=99, task.rounds: Input should be less"),
        (["--set", "other.x=1"], "'other.x' begins with none of models, workflows"),
    ],
)
def test_check_refuses_what_a_start_would(arguments: list[str], said: str) -> None:
    """With the override, or file and line, of what is wrong."""
    code, _, err = run("check", "--offline", *arguments)
    assert code == 2
    assert said in err


def test_check(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All is well; a store is asked unless told not to; production refuses what is unsafe."""
    code, out, _ = run("check", "--offline", "--json")
    assert code == 0
    assert json.loads(out)["workflows"] is True
    code, _, err = run("check")
    assert code == 2
    assert "error: PHOENIX_VAULT_ADDRESS: There are references to Vault" in err
    monkeypatch.setenv("PHOENIX_ENVIRONMENT", "production")
    monkeypatch.setenv("PHOENIX_HOST", "0.0.0.0")
    code, _, err = run("check", "--offline")
    assert code == 2
    assert "error: PHOENIX_TLS: unsafe in production" in err


def test_up_refuses_what_is_unsafe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a database is opened."""
    monkeypatch.setenv("PHOENIX_ENVIRONMENT", "production")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-real-8372")
    done = CliRunner().invoke(app, ["up", "--host", "0.0.0.0"])
    assert done.exit_code == 2
    assert "PHOENIX_TLS: unsafe in production" in done.stderr


def test_a_composed_catalogue_is_the_strict_one(folder: Path) -> None:
    """The same models read it, and mistakes in files that are drawn in have their lines."""
    found = read_catalogue(folder / "models", ["cache_hours=5"])
    assert found.cache_hours == 5
    assert found.models["fast"].model == "openai:a"
    (folder / "models" / "provider" / "a.yaml").write_text(PROVIDER + "  slow:\n    modle: x\n")
    with pytest.raises(SettingInvalid, match=r"provider/a\.yaml, line 5, models\.slow\.modle: Extra inputs"):
        read_catalogue(folder / "models")


def test_options_change_the_workflows(folder: Path) -> None:
    """The loops' caps are what is set; without it they are as they come."""
    options, composed = compose_workflows(folder / "flows.yaml")
    assert options.task.rounds == 5
    assert composed is not None
    changed = service_flows(Settings(home=folder, workflows=folder / "flows.yaml"))
    assert changed["task"] != FLOWS["task"]
    assert "5" in changed["task"].to_mermaid() or changed["task"].to_mermaid() != FLOWS["task"].to_mermaid()
    assert service_flows(Settings(home=folder)) is FLOWS
    with pytest.raises(SettingInvalid, match="There is nothing that"):
        compose_workflows(None, ["task.rounds=1"])
