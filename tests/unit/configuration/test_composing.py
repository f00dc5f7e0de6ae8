"""Folders of YAML are composed as Hydra does, and nothing else happens in them."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from phoenix.configuration.composing import Composed, compose, is_composed
from phoenix.errors import DomainInvalid

CONFIG = """\
defaults:
  - provider: openai
  - provider@backup: local
  - _self_
cache_hours: 12
name: ${models.fast.model}-x
"""
FILES = {
    "config.yaml": CONFIG,
    "provider/openai.yaml": "# @package _global_\nmodels:\n  fast:\n    model: openai:a\n    price: 0.25\n",
    "provider/azure.yaml": "# @package _global_\nmodels:\n  fast:\n    model: azure:b\n",
    "provider/local.yaml": "url: http://h\nflag: no\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with groups, packages and interpolation."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def problems(folder: Path, *overrides: str, environment: tuple[str, ...] = ()) -> str:
    """Return what is wrong."""
    with pytest.raises(DomainInvalid) as caught:
        compose(folder, overrides, environment=environment)
    return str(caught.value)


def test_defaults_packages_and_interpolation(folder: Path) -> None:
    """Values come from several files, every scalar as text, and each knows file and line."""
    found = compose(folder)
    assert found.values == {
        "models": {"fast": {"model": "openai:a", "price": "0.25"}},
        "backup": {"url": "http://h", "flag": "false"},
        "cache_hours": "12",
        "name": "openai:a-x",
    }
    assert found.origin("models.fast.price") == f"{folder}/provider/openai.yaml, line 5"
    assert found.origin("backup.url") == f"{folder}/provider/local.yaml, line 1"
    assert found.origin("cache_hours") == f"{folder}/config.yaml, line 5"


def test_overrides(folder: Path) -> None:
    """Values and groups are replaced, added and taken away; the override is where the value comes from."""
    found = compose(folder, ["cache_hours=1", "provider=azure", "+models.new.model=x:y", "~backup"])
    assert found.values["cache_hours"] == "1"
    assert found.values["models"] == {"fast": {"model": "azure:b"}, "new": {"model": "x:y"}}
    assert "backup" not in found.values
    assert found.origin("cache_hours") == "override cache_hours=1"
    assert found.origin("models.new.model") == "override +models.new.model=x:y"
    assert found.origin("models.fast.model") == f"{folder}/provider/azure.yaml, line 4"


def test_a_file_is_composed_from_its_folder(folder: Path) -> None:
    """A file with a defaults list, or with overrides, is composed; a plain one need not be."""
    (folder / "plain.yaml").write_text("a: 1\n")
    assert not is_composed(folder / "plain.yaml")
    assert is_composed(folder / "config.yaml")
    assert is_composed(folder)
    assert compose(folder / "plain.yaml", ["a=2"]).values == {"a": "2"}


def test_variables_that_are_allowed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`oc.env` reads what it may, and its default where that is not set."""
    monkeypatch.setenv("REGION", "eu")
    (folder / "config.yaml").write_text("a: ${oc.env:REGION}\nb: ${oc.env:STAGE,test}\n")
    found = compose(folder, environment=["REGION", "STAGE"])
    assert found.values == {"a": "eu", "b": "test"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: ${oc.env:OPENAI_API_KEY}\n", "config.yaml, line 2, b: OPENAI_API_KEY may not be read"),
        ("a: ${oc.${b}:OPENAI_API_KEY}\nb: env\n", "only \\${path"),
        ("a: ${oc.env:${b}}\nb: OPENAI_API_KEY\n", "only \\${path"),
        ('a: "\\x24{oc.env:OPENAI_API_KEY}"\n', "OPENAI_API_KEY may not be read"),
        ("a: ${now:%Y}\n", "only \\${path"),
        ("a: ${hydra:runtime.cwd}\n", "only \\${path"),
        ("a: ${oc.decode:x}\n", "only \\${path"),
        ("m:\n  _target_: os.system\n", "config.yaml, line 2, m._target_: _target_ is not allowed"),
        ("hydra:\n  searchpath: [file:///etc]\n", "Hydra's own configuration"),
        ("a: &x 1\nb: *x\n", "line 2: aliases are not allowed"),
        ("a: 1\na: 2\n", "line 2, a: it is given twice"),
        ("a: [\n", "config.yaml, line 2"),
        ("a: !!python/object/apply:os.system [id]\n", "config.yaml"),
        ("defaults: [provider: none]\n", "Could not find 'provider/none' Available options"),
        ("defaults: [../outside]\n", "outside"),
        ("a: ${b.c}\n", "Interpolation key 'b.c' not found"),
        ("a: ???\n", "Missing mandatory value"),
        ("- a\n", "it must hold a mapping"),
    ],
)
def test_what_is_wrong_in_a_file(tmp_path: Path, text: str, said: str) -> None:
    """File, line and path are named, and nothing is read or made."""
    (tmp_path / "outside.yaml").write_text("secret: 1\n")
    folder = tmp_path / "in"
    (folder / "provider").mkdir(parents=True)
    (folder / "provider" / "a.yaml").write_text("x: 1\n")
    (folder / "config.yaml").write_text(text)
    found = problems(folder)
    assert said.replace("\\$", "$") in found
    assert str(folder) in found


def test_what_is_wrong_in_a_file_that_is_drawn_in(folder: Path) -> None:
    """Not only the first file is looked at."""
    (folder / "provider" / "local.yaml").write_text("url: x\nkey: ${oc.env:HOME}\n")
    assert f"{folder}/provider/local.yaml, line 2, key: HOME may not be read" in problems(folder)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("cach_hours=1", "Could not override 'cach_hours'"),
        ("provider=none", "Could not find 'provider/none'"),
        ("cache_hours=1,2", "Ambiguous value"),
        ("cache_hours=[", "no viable alternative"),
        ("cache_hours", "PATH=VALUE"),
        ("cache_hours=${oc.env:OPENAI_API_KEY}", "OPENAI_API_KEY may not be read"),
        ("hydra.searchpath=[file:///etc]", "Hydra's own configuration"),
        ("+hydra/job_logging=none", "Hydra's own configuration"),
        ("+models._target_=os.system", "nothing is made"),
    ],
)
def test_what_is_wrong_in_an_override(folder: Path, override: str, said: str) -> None:
    """The override is refused with a reason."""
    assert said in problems(folder, override)


def test_composing_side_by_side(folder: Path) -> None:
    """Hydra's globals are one thread's at a time, and are clean afterwards."""
    found: list[Composed] = []
    threads = [
        threading.Thread(target=lambda n=n: found.append(compose(folder, [f"cache_hours={n}"])))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.values["cache_hours"] for one in found) == [str(n) for n in range(8)]
    from hydra.core.global_hydra import GlobalHydra

    assert not GlobalHydra.instance().is_initialized()
