"""Settings come from the environment, `.env`, a YAML file and value files; mistakes are placed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from phoenix.errors import SettingInvalid
from phoenix.settings import load


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_first_source_counts(folder: Path) -> None:
    """Environment, `.env`, settings file, default; each value says where it is from."""
    (folder / "s.yaml").write_text("port: 1\nconcurrency: 2\nPHOENIX_DRAIN_SECONDS: 3\n")
    (folder / ".env").write_text("# of this machine\n\nPHOENIX_PORT=4\nPHOENIX_CONCURRENCY=5\nOTHER=x\n")
    loaded = load({"PHOENIX_PORT": "6", "PHOENIX_SETTINGS": "s.yaml"})
    assert (loaded.settings.port, loaded.settings.concurrency, loaded.settings.drain_seconds) == (6, 5, 3)
    origins = {name: given.origin for name, given in loaded.given.items()}
    assert origins == {
        "port": "environment",
        "concurrency": ".env, line 4",
        "drain_seconds": "s.yaml, line 3",
    }


def test_a_file_holds_structures_and_paths(folder: Path) -> None:
    """Lists and mappings are YAML; paths are meant from the file's folder, and so are files with values."""
    (folder / "etc").mkdir()
    (folder / "etc" / "key").write_text("sk-1\n")
    (folder / "etc" / "s.yaml").write_text(
        "cors_origins: [https://a.example]\nroute_limits: {code: 5/minute}\nmodels: models.yaml\n"
        "OPENAI_API_KEY_FILE: key\ntls: true\n"
    )
    settings = load({"PHOENIX_SETTINGS": str(folder / "etc" / "s.yaml")}).settings
    assert settings.cors_origins == ["https://a.example"]
    assert settings.route_limits == {"code": "5/minute"}
    assert settings.models == folder / "etc" / "models.yaml"
    assert settings.tls
    assert settings.openai_api_key is not None
    assert settings.openai_api_key.get_secret_value() == "sk-1"


def test_a_value_may_stand_in_a_file(folder: Path) -> None:
    """NAME_FILE gives any setting, exactly but for the line break; an empty NAME beside it is none."""
    (folder / "url").write_text("postgresql://u:p$a'ss w\"ord@h/d\n")
    loaded = load({"DATABASE_URL_FILE": str(folder / "url"), "DATABASE_URL": "", "OTHER_FILE": "/nowhere"})
    assert loaded.settings.database_url is not None
    assert loaded.settings.database_url.get_secret_value() == "postgresql://u:p$a'ss w\"ord@h/d"
    assert loaded.given["database_url"].origin == f"{folder / 'url'} (environment)"


@pytest.mark.parametrize(
    ("environ", "files", "field", "said"),
    [
        ({"PHOENIX_PROT": "1"}, {}, "PHOENIX_PROT", "Did you mean PHOENIX_PORT"),
        ({"PHOENIX_PROT_FILE": "x"}, {}, "PHOENIX_PROT_FILE", "unknown setting"),
        ({}, {".env": "A=1\nPHOENIX_PROT=1\n"}, "PHOENIX_PROT", r"\.env, line 2"),
        ({}, {".env": "A=1\n'x\n"}, ".env", "line 2 is no NAME=VALUE"),
        ({}, {".env": "\nPHOENIX_PORT=many\n"}, "PHOENIX_PORT", r"\.env, line 2"),
        ({"PHOENIX_SETTINGS": "s"}, {"s": "home: x\nprot: 1\n"}, "prot", "s, line 2"),
        ({"PHOENIX_SETTINGS": "s"}, {"s": "home: x\nport: many\n"}, "PHOENIX_PORT", "s, line 2"),
        (
            {"PHOENIX_SETTINGS": "s"},
            {"s": "port: 1\nport: 2\n"},
            "PHOENIX_SETTINGS",
            "line 2, port: it is given",
        ),
        ({"PHOENIX_SETTINGS": "s"}, {"s": "port: 1\nPHOENIX_PORT: 2\n"}, "PHOENIX_PORT", "both port and"),
        ({"PHOENIX_SETTINGS": "s"}, {"s": "port:\n"}, "port", "no value"),
        ({"PHOENIX_SETTINGS": "s"}, {"s": "- port\n"}, "PHOENIX_SETTINGS", "it must hold"),
        ({"PHOENIX_SETTINGS": "none"}, {}, "PHOENIX_SETTINGS", "cannot be read"),
        ({"DATABASE_URL_FILE": "none"}, {}, "DATABASE_URL_FILE", "cannot be read"),
        (
            {"DATABASE_URL_FILE": "s", "DATABASE_URL": "x"},
            {"s": "y"},
            "DATABASE_URL",
            "both DATABASE_URL and",
        ),
        ({"PHOENIX_CORS_ORIGINS": "a,b"}, {}, "PHOENIX_CORS_ORIGINS", "no JSON"),
        ({"PHOENIX_ROUTE_LIMITS": '{"x": "1/minute"}'}, {}, "PHOENIX_ROUTE_LIMITS", "no route"),
    ],
)
def test_a_mistake_is_placed(
    folder: Path, environ: dict[str, str], files: dict[str, str], field: str, said: str
) -> None:
    """The setting's name, and the file and line where it stands."""
    for name, text in files.items():
        (folder / name).write_text(text)
    with pytest.raises(SettingInvalid) as caught:
        load(environ)
    assert caught.value.field == field
    assert re.search(said, str(caught.value))


def test_a_wrong_secret_is_not_repeated(folder: Path) -> None:
    """No error quotes a value."""
    (folder / "s.yaml").write_text("openai_api_key: {a: sk-canary}\n")
    with pytest.raises(SettingInvalid) as caught:
        load({"PHOENIX_SETTINGS": "s.yaml"})
    assert "sk-canary" not in repr(caught.value.__cause__) + str(caught.value)
