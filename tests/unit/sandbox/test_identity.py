"""A project's own name, version and entry points are read as foreign text."""

from __future__ import annotations

import asyncio
import os
from importlib import metadata
from pathlib import Path

import pytest

from phoenix.sandbox.identity import GENERATED, UNKNOWN, Identity, install_identity, read_identity

DYNAMIC = '[project]\nname = "My.Shop"\ndynamic = ["version"]\n'
SCM = "__version__: str\n__version__ = version = '4.5.6'\n"


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def identity_of(folder: Path, files: dict[str, str]) -> Identity:
    found = read_identity(write(folder, files))
    assert found is not None
    return found


def test_everything_a_project_table_says_is_read(tmp_path: Path) -> None:
    """Name, version, Python, run-time requirements and all entry points are found."""
    text = """
[project]
name = "My.Shop"
version = "1.2"
requires-python = ">=3.8"
dependencies = ["Requests >=2"]
[project.optional-dependencies]
test = ["mock"]
[project.scripts]
shop = "my_shop.cli:main"
[project.gui-scripts]
shop-window = "my_shop:App.run"
[project.entry-points."shop.tills"]
cash = "my_shop.cash"
"""
    assert identity_of(tmp_path, {"pyproject.toml": text}) == Identity(
        name="my-shop",
        version="1.2",
        requires_python=">=3.8",
        requires=("requests>=2",),
        entry_points=(
            ("console_scripts", "shop", "my_shop.cli:main"),
            ("gui_scripts", "shop-window", "my_shop:App.run"),
            ("shop.tills", "cash", "my_shop.cash"),
        ),
    )


def test_a_declarative_setup_cfg_is_enough(tmp_path: Path) -> None:
    """Projects without a project table are known as well."""
    text = """
[metadata]
name = shop
version = attr: shop.__version__
[options]
python_requires = >=3.9
install_requires =
    six
[options.entry_points]
console_scripts =
    shop = shop.cli:main
Shop.Tills =
    card = shop.card:Card [extra]
"""
    found = identity_of(tmp_path, {"setup.cfg": text, "shop/__init__.py": '__version__ = "3.1"\n'})
    assert (found.name, found.version, found.requires_python) == ("shop", "3.1", ">=3.9")
    assert found.requires == ("six",)
    assert found.entry_points == (
        ("Shop.Tills", "card", "shop.card:Card [extra]"),
        ("console_scripts", "shop", "shop.cli:main"),
    )


@pytest.mark.parametrize(
    ("files", "version"),
    [
        ({"PKG-INFO": "Name: my_shop\nVersion: 4.9.0\n\nVersion: 9\n"}, "4.9.0"),
        ({"PKG-INFO": "Name: other\nVersion: 4.9.0\n"}, UNKNOWN),
        ({"src/my_shop/__init__.py": '"""Sell."""\n__version__ = "2.0"\n'}, "2.0"),
        ({"src/my_shop/_version.py": SCM}, "4.5.6"),
        ({"my_shop/version.py": '__version__: str = "1.5"\n'}, "1.5"),
        ({"my_shop.py": '__version__ = "1.6"\n'}, "1.6"),
        ({"src/My_Shop/__init__.py": '__version__ = "1.7"\n'}, "1.7"),
        ({"src/till/__init__.py": '__version__ = "1.8"\n', "tests/__init__.py": ""}, "1.8"),
        ({"src/till/__init__.py": '__version__ = "1.8"\n', "src/bill/__init__.py": ""}, UNKNOWN),
        ({"src/my_shop/__init__.py": "__version__ = compute()\n"}, UNKNOWN),
        ({"src/my_shop/__init__.py": '__version__ = "1.0\\nEvil: yes"\n'}, UNKNOWN),
        ({}, UNKNOWN),
    ],
)
def test_a_dynamic_version_is_found_without_running_anything(
    tmp_path: Path, files: dict[str, str], version: str
) -> None:
    """It comes from the archive's own metadata, else from a literal in the package."""
    assert identity_of(tmp_path, {"pyproject.toml": DYNAMIC, **files}).version == version


def test_literal_arguments_of_setup_py_are_read_and_it_is_not_run(tmp_path: Path) -> None:
    """A trivial script tells its name and version; nothing else of it counts."""
    script = (
        "import setuptools\nopen('ran', 'w')\n"
        "setuptools.setup(name='shop', version='1.4', python_requires='>=3.7', url=compute())\n"
    )
    found = identity_of(tmp_path, {"setup.py": script})
    assert found == Identity(name="shop", version="1.4", requires_python=">=3.7")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name", ["", "../up", "a/b", "a\\nEvil: x", "-a", "a b", "\u212a", "x" * 300, "a\\u0000"]
)
def test_a_name_that_can_be_none_gives_no_identity(tmp_path: Path, name: str) -> None:
    """No path and no second line comes out of a name."""
    write(tmp_path, {"pyproject.toml": f'[project]\nname = "{name}"\nversion = "1"\n'})
    assert read_identity(tmp_path) is None


@pytest.mark.parametrize(
    "line",
    [
        'version = "1.0\\nEvil: x"',
        'version = "../../1"',
        f'version = "{"9" * 5000}"',
        "version = 3",
        'requires-python = ">=3\\nEvil: x"',
        'requires-python = "===3\\nEvil: x"',
        'dependencies = ["a\\nEvil: x", "b @ file:///etc/passwd", 3]',
        'scripts = {"a\\nEvil" = "b:c", b = "c:d\\nEvil = x", c = 3, "[Evil]" = "b:c", "#" = "b:c"}',
        'scripts = {a = "os.system(Evil)", b = "../Evil", c = "Evil-x"}',
        'entry-points = {"g]\\n[Evil" = {a = "b"}, Evil = 3}',
    ],
)
def test_nothing_injects_lines_or_paths(tmp_path: Path, line: str) -> None:
    """What does not fit its field is left out, and the metadata has only the fields meant."""
    pyproject = f'[project]\nname = "shop"\n{line}\n'
    found = identity_of(tmp_path, {"pyproject.toml": pyproject})
    site = tmp_path / "site"
    site.mkdir()
    install_identity(found, site, tmp_path, kept=())
    (folder,) = site.iterdir()
    assert folder.name == f"shop-{UNKNOWN}.dist-info"
    assert (folder / "METADATA").read_text() == f"Metadata-Version: 2.1\nName: shop\nVersion: {UNKNOWN}\n"
    assert not (folder / "entry_points.txt").exists()


@pytest.mark.parametrize(
    "text",
    [
        "-" * 90_000 + "1",
        "+".join(["a"] * 40_000),
        "a" + "()" * 40_000,
        "not " * 20_000 + "a",
        "lambda:" * 12_000 + "1",
        "if a:0\n" + "elif a:0\n" * 9_000,
        "(" * 90_000,
        "\0",
        "x = '\\d'\n",
        "#" * 10**6,
    ],
)
async def test_code_made_to_break_a_parser_breaks_nothing(tmp_path: Path, text: str) -> None:
    """Foreign code is only looked at, and what cannot be looked at says nothing."""
    files = {"pyproject.toml": DYNAMIC, "setup.py": text, "my_shop/__init__.py": text}
    write(tmp_path, files)
    found = await asyncio.to_thread(read_identity, tmp_path)
    assert found == Identity(name="my-shop")


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 5000, "[project]\nname = 'a'\nn = " + "9" * 5000, "tool = 3"]
)
def test_broken_declarations_give_no_identity(tmp_path: Path, text: str) -> None:
    """Whatever stands there, the reader returns."""
    assert read_identity(write(tmp_path, {"pyproject.toml": text, "setup.cfg": "[[\n"})) is None


def test_links_out_of_the_workspace_are_not_followed(tmp_path: Path) -> None:
    """Neither a linked file, nor a linked folder, nor a pipe is read."""
    outside = write(tmp_path / "outside", {"my_shop/__init__.py": '__version__ = "6.6"\n'})
    project = write(tmp_path / "project", {"pyproject.toml": DYNAMIC})
    (project / "src").symlink_to(outside)
    (project / "my_shop.py").symlink_to(outside / "my_shop" / "__init__.py")
    os.mkfifo(project / "PKG-INFO")
    found = read_identity(project)
    assert found is not None
    assert found.version == UNKNOWN


def test_files_that_the_build_backend_writes_are_known(tmp_path: Path) -> None:
    """Their modules are named; what names no module is left out."""
    text = DYNAMIC + (
        '[tool.hatch.build.hooks.vcs]\nversion-file = "src/my_shop/_version.py"\n'
        '[tool.setuptools_scm]\nversion_file = "my_shop/inner/_v.py"\nwrite_to = "../../evil.py"\n'
    )
    assert identity_of(tmp_path, {"pyproject.toml": text}).generated == (
        "my_shop._version",
        "my_shop.inner._v",
    )


def test_installed_metadata_is_what_importlib_reads(tmp_path: Path) -> None:
    """Version, entry points and the list of files are found, each with its right digest."""
    found = Identity(
        name="my-shop",
        version="1.2",
        requires=("six",),
        entry_points=(("a.b", "x", "m:f"), ("a.b", "y", "n"), ("c", "z", "o:p.q [r]")),
    )
    install_identity(found, tmp_path, tmp_path, kept=())
    (installed,) = metadata.distributions(path=[str(tmp_path)])
    assert (installed.name, installed.version, installed.requires) == ("my-shop", "1.2", ["six"])
    assert {(e.group, e.name, e.value) for e in installed.entry_points} == set(found.entry_points)
    files = installed.files or []
    assert {f.name for f in files} == {"METADATA", "INSTALLER", "entry_points.txt", "RECORD"}
    assert all(f.size == len(f.read_binary()) for f in files if f.name != "RECORD")
    assert not (tmp_path / GENERATED).exists()


def test_a_release_of_the_project_makes_room_and_nothing_outside_is_touched(tmp_path: Path) -> None:
    """Its files go, whatever its list names elsewhere stays, and so do the harness's own modules."""
    victim = tmp_path / "victim"
    for kept in (True, False):
        root = tmp_path / f"environment{kept}"
        site = root / "site"
        listed = ["shop.py", "../bin/shop", "../../victim", victim, "out/victim", "shop-1.0.dist-info/RECORD"]
        record = "".join(f"{path},,\n" for path in listed)
        write(
            root,
            {
                "site/shop.py": "",
                "bin/shop": "",
                "site/shopping.py": "",
                "site/shop-1.0.dist-info/METADATA": "Name: shop\nVersion: 1.0\n",
                "site/shop-1.0.dist-info/RECORD": record,
            },
        )
        (site / "out").symlink_to(tmp_path)
        victim.write_text("alive")
        install_identity(Identity(name="shop", version="2.0"), site, root, kept=["shop"] if kept else [])
        assert victim.exists()
        assert (site / "shop.py").exists() == (root / "bin" / "shop").exists() == kept
        assert (site / "shopping.py").exists()
        assert [d.version for d in metadata.distributions(path=[str(site)])] == ["2.0"]
