"""Settings come from the environment, and a mistake in them is told at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from phoenix.errors import SettingInvalid
from phoenix.settings import default_home, load_settings


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work where there is no `.env`."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_nothing_needs_to_be_set() -> None:
    """Every setting has a default, and no server or key is among them."""
    settings = load_settings()
    assert settings.database_url is None
    assert settings.openai_api_key is None
    assert settings.sandbox == "auto"
    assert settings.home.is_absolute()


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names with PHOENIX_ before them, and the two that the world knows without."""
    monkeypatch.setenv("PHOENIX_CONCURRENCY", "3")
    monkeypatch.setenv("DATABASE_URL", "postgresql://h/d")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    settings = load_settings()
    assert settings.concurrency == 3
    assert settings.database_url is not None
    assert settings.database_url.get_secret_value() == "postgresql://h/d"
    assert "sk-1" not in repr(settings)


def test_a_dotenv_file_is_read(empty_folder: Path) -> None:
    """A `.env` in the current folder counts, and may hold other programs' names."""
    (empty_folder / ".env").write_text("PHOENIX_MODEL=openai:m\nOTHER=1\n")
    assert load_settings().model == "openai:m"


def test_a_misspelt_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown PHOENIX_ name is an error that lists the known ones."""
    monkeypatch.setenv("PHOENIX_SANDBOKS", "docker")
    with pytest.raises(SettingInvalid, match="PHOENIX_SANDBOX") as caught:
        load_settings()
    assert caught.value.field == "PHOENIX_SANDBOKS"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PHOENIX_SANDBOX", "chroot"),
        ("PHOENIX_CONCURRENCY", "0"),
        ("PHOENIX_CONCURRENCY", "many"),
        ("PHOENIX_LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_value_is_told(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """A wrong value names its setting."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingInvalid) as caught:
        load_settings()
    assert caught.value.field == name


@pytest.mark.parametrize(
    "name", ["Phoenix", "a-b", "a; DROP TABLE runs", "1a", "a" * 64, "pg_monitor", "phoenix_tenant"]
)
def test_a_reader_is_named_as_a_role_is(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """What is no plain name, or belongs to others, is refused with an example of one that is."""
    monkeypatch.setenv("PHOENIX_DATABASE_READER", name)
    with pytest.raises(SettingInvalid, match="such as phoenix_reader") as caught:
        load_settings()
    assert caught.value.field == "PHOENIX_DATABASE_READER"
    monkeypatch.setenv("PHOENIX_DATABASE_READER", "phoenix_reader")
    assert load_settings().database_reader == "phoenix_reader"


def test_the_home_is_made_absolute(monkeypatch: pytest.MonkeyPatch, empty_folder: Path) -> None:
    """A relative home and one with ~ are resolved when read."""
    monkeypatch.setenv("HOME", str(empty_folder))
    monkeypatch.setenv("PHOENIX_HOME", "~/data")
    assert load_settings().home == empty_folder / "data"
    monkeypatch.setenv("PHOENIX_HOME", "data")
    assert load_settings().home == empty_folder / "data"


def test_the_default_home_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root keeps data in /var/lib, everybody else in their data folder."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_home() == Path("/var/lib/phoenix")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_home() == Path("/data/phoenix")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/ada")
    assert default_home() == Path("/home/ada/.local/share/phoenix")
