"""`phoenix models`, and what a model's name means where there is a catalogue."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from phoenix.api.sources import Sources, no_model
from phoenix.cli.app import app
from phoenix.cli.models import models
from phoenix.errors import ModelUnknown, NoModel, PayloadInvalid
from phoenix.settings import Settings
from phoenix.shop import check_model, find_model, is_choice
from tests.unit.llm.server import Server, serving

CATALOGUE = """
models:
  fast: {{model: 'openai:gpt-4o-mini', limits: {{requests_per_minute: 60}}, fallbacks: [own]}}
  own: {{model: 'openai:mine', base_url: '{url}/v1', price: {{input: 1.50, output: 3}}}}
  local: {{model: 'ollama:llama', base_url: '{url}'}}
tiers: [fast, own]
"""


@pytest.fixture
async def server() -> Any:
    """An OpenAI-compatible server that serves one model."""
    async with serving() as running:
        yield running


def catalogue(folder: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> Path:
    """Write a catalogue, and set it."""
    path = folder / "models.yaml"
    path.write_text(CATALOGUE.format(url=url))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PHOENIX_MODELS", str(path))
    return path


def phoenix(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.stdout, done.stderr


def test_the_catalogue_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Model, price and where it is from, limits, chain, and whether the key is there; never the key."""
    catalogue(tmp_path, monkeypatch, "http://127.0.0.1:9")
    code, said, _ = phoenix("models")
    assert code == 0
    assert said.splitlines()[:5] == [
        "fast: openai:gpt-4o-mini (tier 1)",
        "  price    0.15 in, 0.6 out USD per million tokens (from the table)",
        "  limits   60 requests/min",
        "  behind   own",
        "  key      OPENAI_API_KEY (missing)",
    ]
    assert "own: openai:mine at http://127.0.0.1:9/v1 (tier 2)" in said
    assert "1.5 in, 3 out USD per million tokens (from the catalogue)" in said
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    code, said, _ = phoenix("models", "--json")
    fast = json.loads(said)["models"][0]
    assert (fast["has_key"], fast["key"], fast["price_from"]) == (True, "OPENAI_API_KEY", "table")
    assert "sk-secret" not in said


def test_no_catalogue_and_a_wrong_one_are_bad_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The setting is named; so are file, line and path."""
    monkeypatch.chdir(tmp_path)
    code, _, said = phoenix("models")
    assert (code, "PHOENIX_MODELS" in said) == (2, True)
    path = catalogue(tmp_path, monkeypatch, "http://x")
    path.write_text("models:\n  fast: {model: 'openai:m', fallbacks: [slow]}\n")
    code, _, said = phoenix("models")
    assert code == 2
    assert f"{path}: line 2, models.fast.fallbacks[0]: there is no alias 'slow'" in said


async def test_check_asks_every_provider(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A missing key, a server that answers, and a model that it does not have."""
    server.models = ["other"]
    catalogue(tmp_path, monkeypatch, server.url)
    assert await models(check=True, as_json=True) == 1
    problems = {row["alias"]: row["problem"] for row in json.loads(capsys.readouterr().out)["models"]}
    assert "needs OPENAI_API_KEY" in problems["fast"]
    assert problems["own"] == ""
    assert problems["local"] == "ollama has no model 'llama'."
    server.refuse = True
    await models(check=True)
    assert f"check    {server.url}/v1 refuses the key." in capsys.readouterr().out


async def test_the_catalogue_chooses_where_no_model_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An alias pins, a provider's model does as ever, and a missing key is told before anything begins."""
    path = catalogue(tmp_path, monkeypatch, "http://127.0.0.1:9")
    settings = Settings(home=tmp_path, models=path)
    assert await find_model(settings) == "auto"
    assert [is_choice(settings, name) for name in ("auto", "own", "auto,-own", "openai:gpt-5.2")] == [
        True,
        True,
        True,
        False,
    ]
    await check_model(settings, "own")
    with pytest.raises(NoModel, match="alias fast needs OPENAI_API_KEY"):
        await check_model(settings, "fast")
    with pytest.raises(ModelUnknown, match="no model alias 'quick'"):
        await check_model(settings, "quick")


async def test_clients_may_name_what_the_catalogue_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one, or for an alias that it has not, the name is refused."""
    settings = Settings(home=tmp_path, models=catalogue(tmp_path, monkeypatch, "http://127.0.0.1:9"))
    sources = Sources(no_model, is_local=False, is_choice=lambda name: is_choice(settings, name))
    assert await sources.model("auto,-fast") == "auto,-fast"
    assert await sources.model("openai:gpt-5.2") == "openai:gpt-5.2"
    with pytest.raises(ModelUnknown, match="quick"):
        await sources.model("quick")
    with pytest.raises(PayloadInvalid, match="no model"):
        await Sources(no_model, is_local=False).model("auto")
    with pytest.raises(PayloadInvalid, match="Recordings"):
        await sources.model("recorded:/etc/passwd")
