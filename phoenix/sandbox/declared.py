"""Read what a Python project declares to need. The files are foreign text: nothing of them is run."""

from __future__ import annotations

import configparser
import os
import stat
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

FILE_BYTES = 1024**2
REQUIREMENTS = 300
GROUPS = frozenset({"test", "tests", "testing", "dev"})
RUNTIME_FILE = "requirements.txt"
FILES = (
    RUNTIME_FILE,
    "requirements-dev.txt",
    "requirements-test.txt",
    "requirements-tests.txt",
    "requirements_dev.txt",
    "requirements_test.txt",
    "dev-requirements.txt",
    "test-requirements.txt",
)


@dataclass(frozen=True)
class Declared:
    """Requirements in a stable order, and what was left out, with the reason.

    `runtime` are those of `requirements` without which the project's own code does not run.
    """

    requirements: tuple[str, ...] = ()
    runtime: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


@dataclass
class _Found:
    own_name: str = ""
    requirements: set[str] = field(default_factory=set)
    runtime: set[str] = field(default_factory=set)
    ignored: list[str] = field(default_factory=list)

    def add(self, text: Any, source: str, *, runtime: bool = False) -> Requirement | None:
        """Take one requirement; return it instead when it names the project itself."""
        requirement = parse_requirement(text)
        if isinstance(requirement, str):
            self.ignored.append(f"{source}: {str(text)[:200]!r}: {requirement}")
            return None
        if self.own_name and canonicalize_name(requirement.name) == self.own_name:
            return requirement
        self.requirements.add(canonical_text(requirement))
        if runtime:
            self.runtime.add(canonical_text(requirement))
        return None


def read_declared(workspace: Path) -> Declared:
    """Return the run-time and test requirements of a project.

    Read are pyproject.toml (dependencies, and the extras and groups named test, tests, testing or dev),
    setup.cfg's declarative part, and the usual requirements files in the top folder.
    """
    found = _Found()
    _pyproject(workspace, found)
    _setup_cfg(workspace, found)
    for name in FILES:
        for line in lines_of(read_top(workspace, name)):
            found.add(line, name, runtime=name == RUNTIME_FILE)
    # The first are kept where there are too many: what the project cannot do without.
    wanted = [*sorted(found.runtime), *sorted(found.requirements - found.runtime)]
    if len(wanted) > REQUIREMENTS:
        found.ignored.append(f"{len(wanted) - REQUIREMENTS} requirements beyond the first {REQUIREMENTS}")
    kept = set(wanted[:REQUIREMENTS])
    return Declared(tuple(sorted(kept)), tuple(sorted(kept & found.runtime)), tuple(found.ignored))


def parse_requirement(text: Any) -> Requirement | str:
    """Return a requirement, or why it is refused.

    Only a name, extras, versions and a marker pass, so that nothing a project writes can be an option
    of pip, a path or an address. `===` is refused since it takes any text for a version.
    """
    if not isinstance(text, str):
        return "not text"
    if text.lstrip().startswith("-"):
        return "options of pip are not taken from a project"
    try:
        requirement = Requirement(text.strip())
    except (InvalidRequirement, RecursionError):
        return "not a requirement by name (addresses and paths are not installed)"
    if requirement.url:
        return "addresses and paths are not installed"
    if any(s.operator == "===" for s in requirement.specifier):
        return "=== is not supported"
    return requirement


def canonical_text(requirement: Requirement) -> str:
    """Return one spelling for all that mean the same."""
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    marker = f"; {requirement.marker}" if requirement.marker else ""
    return f"{canonicalize_name(requirement.name)}{extras}{requirement.specifier}{marker}"


def _pyproject(workspace: Path, found: _Found) -> None:
    data = read_pyproject(workspace)
    if data is None:
        found.ignored.append("pyproject.toml: not valid TOML")
        return
    project = table(data.get("project"))
    found.own_name = canonicalize_name(str(project.get("name", "")))
    extras = table(project.get("optional-dependencies"))
    groups = table(data.get("dependency-groups"))
    for item in items_of(project.get("dependencies")):
        found.add(item, "pyproject.toml", runtime=True)
    for name in extras:
        if name.lower() in GROUPS:
            _extra(name, extras, found, seen=set())
    for name in groups:
        if name.lower() in GROUPS:
            _group(name, groups, extras, found, seen=set())


def _extra(name: str, extras: dict[str, Any], found: _Found, seen: set[str]) -> None:
    """Take an extra; one that names the project itself means its other extras."""
    if name in seen:
        return
    seen.add(name)
    for item in items_of(extras.get(name)):
        own = found.add(item, f"pyproject.toml, extra {name}")
        for other in sorted(own.extras) if own else ():
            _extra(other, extras, found, seen)


def _group(name: str, groups: dict[str, Any], extras: dict[str, Any], found: _Found, seen: set[str]) -> None:
    if name in seen:
        return
    seen.add(name)
    for item in items_of(groups.get(name)):
        if isinstance(item, dict) and isinstance(item.get("include-group"), str):
            _group(item["include-group"], groups, extras, found, seen)
            continue
        own = found.add(item, f"pyproject.toml, group {name}")
        for other in sorted(own.extras) if own else ():
            _extra(other, extras, found, seen=set())


def _setup_cfg(workspace: Path, found: _Found) -> None:
    parser = read_setup_cfg(workspace)
    if parser is None:
        found.ignored.append("setup.cfg: not readable")
        return
    found.own_name = found.own_name or canonicalize_name(parser.get("metadata", "name", fallback=""))
    for line in lines_of(parser.get("options", "install_requires", fallback="")):
        found.add(line, "setup.cfg", runtime=True)
    if parser.has_section("options.extras_require"):
        for name, value in parser.items("options.extras_require"):
            for line in lines_of(value) if name.lower() in GROUPS else ():
                found.add(line, f"setup.cfg, extra {name}")


def lines_of(text: str) -> Iterator[str]:
    """Yield a requirements file's lines, joined where continued, without comments and hashes."""
    for line in text.replace("\\\r\n", " ").replace("\\\n", " ").splitlines():
        bare = line.split(" #")[0].split(" --hash")[0].strip()
        if bare and not bare.startswith("#"):
            yield bare


def table(value: Any) -> dict[str, Any]:
    """Return the value if it is a table, else an empty one."""
    return value if isinstance(value, dict) else {}


def items_of(value: Any) -> list[Any]:
    """Return the value if it is a list, else an empty one."""
    return value if isinstance(value, list) else []


def read_pyproject(workspace: Path) -> dict[str, Any] | None:
    """Return the content of pyproject.toml; None when it is not TOML."""
    try:
        return tomllib.loads(read_top(workspace, "pyproject.toml"))
    except (ValueError, RecursionError):  # a ValueError is also what an integer of 5,000 digits gives
        return None


def read_setup_cfg(workspace: Path) -> configparser.RawConfigParser | None:
    """Return the content of setup.cfg, its keys as they are written; None when it cannot be read."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(read_top(workspace, "setup.cfg"))
    except configparser.Error:
        return None
    return parser


def read_top(workspace: Path, name: str) -> str:
    """Return the text of a file in the top folder, or nothing: a link planted there is not followed."""
    try:
        handle = os.open(workspace / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        return ""
    with os.fdopen(handle, "rb") as file:
        return file.read(FILE_BYTES).decode("utf-8-sig", "replace")
