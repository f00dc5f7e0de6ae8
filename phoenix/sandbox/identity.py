"""Find who a project says it is, and install that much of it: metadata, and no code.

Real libraries ask at import for their own version, and find their plugins by their own entry points.
Installing them would run their build backend; all it would add to the metadata is the way to their code,
which the workspace's place on PYTHONPATH is already. The files are foreign text: nothing of them is run.
"""

from __future__ import annotations

import ast
import base64
import configparser
import hashlib
import re
import shutil
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidName, canonicalize_name
from packaging.version import InvalidVersion, Version

from phoenix.errors import PathRefused
from phoenix.sandbox.beneath import read_beneath
from phoenix.sandbox.declared import (
    canonical_text,
    items_of,
    lines_of,
    parse_requirement,
    read_pyproject,
    read_setup_cfg,
    read_top,
    table,
)

UNKNOWN = "0.0.0"
GENERATED = "phoenix-generated"
"""The folder of modules that a build backend would have written, in site-packages."""
FIELD_CHARS = 200
ENTRY_POINTS = 500
SOURCE_BYTES = 256 * 1024
_VERSION_FILES = ("__init__.py", "_version.py", "version.py", "__about__.py", "__version__.py")
_NOT_PACKAGES = frozenset(
    {"test", "tests", "testing", "doc", "docs", "example", "examples", "benchmarks", "tools"}
)
_GROUP = re.compile(r"\w+(\.\w+)*")
_ENTRY_NAME = re.compile(r"[\w.][\w.+/: -]*")
_OBJECT = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*(:[^\W\d]\w*(\.[^\W\d]\w*)*)?( ?\[[\w., -]*\])?")
_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


@dataclass(frozen=True)
class Identity:
    """What a project's metadata says; every field is checked and holds one line.

    `entry_points` are (group, name, object). `generated` are modules that the project's build backend
    writes with the version in them, and that a checkout of its repository lacks.
    """

    name: str
    version: str = UNKNOWN
    requires_python: str = ""
    requires: tuple[str, ...] = ()
    entry_points: tuple[tuple[str, str, str], ...] = ()
    generated: tuple[str, ...] = ()


def read_identity(workspace: Path) -> Identity | None:
    """Return who the project says it is; None when it has no name, or none that can be one.

    Read are pyproject.toml ([project], else [tool.poetry]), setup.cfg's declarative part, PKG-INFO, and
    literal arguments of the call in setup.py. An unusable value counts as absent.
    """
    data = read_pyproject(workspace) or {}
    tools = table(data.get("tool"))
    project = table(data.get("project")) or table(tools.get("poetry"))
    cfg = read_setup_cfg(workspace) or configparser.RawConfigParser()
    setup = _setup_call(read_top(workspace, "setup.py"))
    info = HeaderParser().parsestr(read_top(workspace, "PKG-INFO"))
    cfg_name = cfg.get("metadata", "name", fallback="")
    name = _first(_name, (project.get("name"), cfg_name, setup.get("name"), str(info.get("Name", ""))))
    if not name:
        return None
    same = _name(str(info.get("Name", ""))) == name
    stated = (
        project.get("version"),
        cfg.get("metadata", "version", fallback=""),
        setup.get("version"),
        str(info.get("Version", "")) if same else "",
    )
    cfg_python = cfg.get("options", "python_requires", fallback="")
    pythons = (project.get("requires-python"), cfg_python, setup.get("python_requires"))
    version = _first(_version, stated) or _first(_version, _literals(workspace, name, tools))
    return Identity(
        name=name,
        version=version or UNKNOWN,
        requires_python=_first(_specifiers, pythons),
        requires=_requires(project, cfg),
        entry_points=tuple(sorted(set(_entry_points(project, cfg))))[:ENTRY_POINTS],
        generated=tuple(sorted(set(_generated(tools)))),
    )


def _first(check: Any, values: Iterable[Any]) -> str:
    """Return the first value that passes, in its checked form, or nothing."""
    return next((good for value in values if (good := check(value))), "")


def _name(value: Any) -> str:
    if not isinstance(value, str) or len(value) > FIELD_CHARS // 2:
        return ""
    try:
        return canonicalize_name(value.strip(), validate=True)
    except InvalidName:
        return ""


def _version(value: Any) -> str:
    if not isinstance(value, str) or len(value) > FIELD_CHARS // 2:
        return ""
    try:
        return str(Version(value))
    except InvalidVersion:
        return ""


def _specifiers(value: Any) -> str:
    if not isinstance(value, str) or len(value) > FIELD_CHARS or "===" in value:
        return ""
    try:
        return str(SpecifierSet(value))
    except InvalidSpecifier:
        return ""


def _requires(project: dict[str, Any], cfg: configparser.RawConfigParser) -> tuple[str, ...]:
    stated = items_of(project.get("dependencies")) or list(
        lines_of(cfg.get("options", "install_requires", fallback=""))
    )
    parsed = (parse_requirement(text) for text in stated[:ENTRY_POINTS])
    return tuple(sorted({canonical_text(r) for r in parsed if not isinstance(r, str)}))


def _entry_points(
    project: dict[str, Any], cfg: configparser.RawConfigParser
) -> Iterator[tuple[str, str, str]]:
    stated = [(g, table(v)) for g, v in table(project.get("entry-points")).items()]
    stated += [(g, table(v)) for g, v in table(project.get("plugins")).items()]  # as Poetry names them
    stated.append(("console_scripts", table(project.get("scripts"))))
    stated.append(("gui_scripts", table(project.get("gui-scripts"))))
    if cfg.has_section("options.entry_points"):
        for group, text in cfg.items("options.entry_points"):
            pairs = (line.partition("=") for line in lines_of(text))
            stated.append((group, {name.strip(): value.strip() for name, _, value in pairs}))
    for group, entries in stated:
        for name, value in entries.items():
            if not isinstance(value, str) or len(group) + len(name) + len(value) > FIELD_CHARS * 2:
                continue
            if _GROUP.fullmatch(group) and _ENTRY_NAME.fullmatch(name) and _OBJECT.fullmatch(value):
                yield group, name.strip(), value


def _setup_call(text: str) -> dict[str, Any]:
    """Return the literal arguments of the call of `setup`."""
    for node in ast.walk(_parsed(text)):
        if isinstance(node, ast.Call) and _called(node.func) == "setup":
            return {
                k.arg: k.value.value for k in node.keywords if k.arg and isinstance(k.value, ast.Constant)
            }
    return {}


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _parsed(text: str) -> ast.Module:
    """Return the syntax tree of foreign code, empty where it is none."""
    if len(text) > SOURCE_BYTES:
        return ast.Module([], [])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the project's string escapes
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # the last: nested too deeply
        return ast.Module([], [])


def _literals(workspace: Path, name: str, tools: dict[str, Any]) -> Iterator[str]:
    """Yield the texts that the package's own files assign to `__version__`."""
    paths = [table(table(tools.get("hatch")).get("version")).get("path"), *_version_files(tools)]
    for package in _packages(workspace, name):
        paths += [f"{package}/{file}" for file in _VERSION_FILES]
    module = name.replace("-", "_")
    for path in [*paths, f"src/{module}.py", f"{module}.py"]:
        if isinstance(path, str):
            yield from _assigned(_parsed(_source(workspace, path)))


def _source(workspace: Path, path: str) -> str:
    try:
        return (read_beneath(workspace, path, SOURCE_BYTES) or b"").decode("utf-8-sig", "replace")
    except PathRefused:
        return ""


def _assigned(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        named = any(isinstance(t, ast.Name) and t.id == "__version__" for t in targets)
        if named and isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield value.value


def _packages(workspace: Path, name: str) -> list[str]:
    """Return where the project's package may be: by its name, else the only one there is."""
    module = name.replace("-", "_")
    named = [f"{top}{inner}" for top in ("src/", "") for inner in (module, name.replace("-", "/"))]
    for top in ("src", "."):
        folder = workspace / top
        if folder.is_symlink() or not folder.is_dir():
            continue
        inner = [p for p in folder.iterdir() if p.name.isidentifier() and (p / "__init__.py").is_file()]
        lower = {p.name.lower(): p.name for p in inner if p.name.lower() not in _NOT_PACKAGES}
        if module in lower:
            named.insert(0, f"{top}/{lower[module]}")
        elif len(lower) == 1:
            named.append(f"{top}/{next(iter(lower.values()))}")
    return named


def _version_files(tools: dict[str, Any]) -> list[Any]:
    """Return the files that a build backend writes the version into."""
    hatch = table(table(table(tools.get("hatch")).get("build")).get("hooks"))
    scm = table(tools.get("setuptools_scm"))
    return [table(hatch.get("vcs")).get("version-file"), scm.get("version_file"), scm.get("write_to")]


def _generated(tools: dict[str, Any]) -> Iterator[str]:
    for path in _version_files(tools):
        if not isinstance(path, str) or len(path) > FIELD_CHARS or not path.endswith(".py"):
            continue
        parts = PurePosixPath(path.removesuffix(".py")).parts
        dotted = ".".join(parts[1:] if parts[:1] == ("src",) else parts)
        if _MODULE.fullmatch(dotted):
            yield dotted


def install_identity(identity: Identity, site: Path, root: Path, kept: Iterable[str]) -> None:
    """Write the project's metadata into site-packages, in the place of any release of it there.

    A release comes along where a test's requirement needs the very project. It goes, as it does when a
    project is installed for development: its code must not stand in for the workspace's. The code of those
    in `kept` stays, as the harness runs on it.
    """
    _remove(identity.name, site, root, code=identity.name not in kept)
    folder = f"{identity.name.replace('-', '_')}-{identity.version}.dist-info"
    fields = [("Metadata-Version", "2.1"), ("Name", identity.name), ("Version", identity.version)]
    if identity.requires_python:
        fields.append(("Requires-Python", identity.requires_python))
    fields += [("Requires-Dist", requirement) for requirement in identity.requires]
    files = {
        f"{folder}/METADATA": "".join(f"{key}: {value}\n" for key, value in fields),
        f"{folder}/INSTALLER": "phoenix\n",
    }
    if identity.entry_points:
        files[f"{folder}/entry_points.txt"] = _sections(identity.entry_points)
    for module in identity.generated:
        files[f"{GENERATED}/{module}.py"] = _version_module(identity.version)
    if identity.generated:
        files["phoenix_generated.pth"] = "import phoenix_generated\n"
    rows = [f"{path},sha256={_digest(text)},{len(text.encode())}" for path, text in files.items()]
    files[f"{folder}/RECORD"] = "\n".join([*rows, f"{folder}/RECORD,,"]) + "\n"
    for path, text in files.items():
        (site / path).parent.mkdir(exist_ok=True)
        (site / path).write_text(text, encoding="utf-8")


def _sections(entry_points: Iterable[tuple[str, str, str]]) -> str:
    groups: dict[str, list[str]] = {}
    for group, name, value in entry_points:
        groups.setdefault(group, []).append(f"{name} = {value}\n")
    return "\n".join(f"[{group}]\n{''.join(lines)}" for group, lines in groups.items())


def _version_module(version: str) -> str:
    """Return what hatch-vcs and setuptools-scm write, in short."""
    parts = ", ".join(repr(int(p) if p.isdigit() else p) for p in re.split(r"[.+]", version))
    return (
        f"__version__ = version = {version!r}\n"
        f"__version_tuple__ = version_tuple = ({parts},)\n"
        "__commit_id__ = commit_id = None\n"
    )


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def _remove(name: str, site: Path, root: Path, *, code: bool) -> None:
    """Remove an installed distribution; its list of files is foreign and reaches nothing outside."""
    inside = root.resolve()
    files = [f for old in metadata.distributions(name=name, path=[str(site)]) for f in old.files or ()]
    for file in files if code else ():
        path = (site / file).parent.resolve() / file.name
        if path.is_relative_to(inside) and (path.is_symlink() or path.is_file()):
            path.unlink()
    for folder in site.glob("*.dist-info"):
        if canonicalize_name(folder.name.removesuffix(".dist-info").rpartition("-")[0]) == name:
            shutil.rmtree(folder)
