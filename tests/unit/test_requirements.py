"""The exported requirements say what the lock file says, and the lock file what pyproject.toml asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
TESTED_EXTRAS = ("anthropic", "aws", "google", "kubernetes", "sentry", "vault")
"""Extras whose packages the tests need: exported beside the development tools."""
PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(\S+)")


def exported(name: str) -> dict[str, tuple[str, set[str]]]:
    """Return version and hashes by package of an exported file."""
    found: dict[str, tuple[str, set[str]]] = {}
    current = ""
    for line in (ROOT / "requirements" / name).read_text().splitlines():
        pin = PIN.match(line)
        if pin:
            current = canonicalize_name(pin[1])
            found[current] = (pin[2], set())
        found[current][1].update(re.findall(r"--hash=(sha256:[0-9a-f]{64})", line))
    return found


def wanted_by(package: dict[str, Any], extras: tuple[str, ...]) -> bool:
    """Tell whether a locked package is needed whatever extras are asked for, or by one of these."""
    if not package.get("optional"):
        return True
    markers = package.get("markers")
    texts = list(markers.values()) if isinstance(markers, dict) else [markers]
    return any(Marker(text).evaluate({"extra": extra}) for text in texts if text for extra in extras)


def locked(group: str | None = None) -> dict[str, tuple[str, set[str]]]:
    """Return version and hashes by package of the lock file, of one group or all."""
    extras = () if group == "main" else TESTED_EXTRAS
    data = tomllib.loads((ROOT / "poetry.lock").read_text())
    return {
        canonicalize_name(p["name"]): (p["version"], {f["hash"] for f in p["files"]})
        for p in data["package"]
        if wanted_by(p, extras) and (group is None or group in p["groups"])
    }


def project() -> dict[str, Any]:
    """Return pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize(("name", "group"), [("runtime.txt", "main"), ("dev.txt", None)])
def test_exported_requirements_are_those_of_the_lock(name: str, group: str | None) -> None:
    """Each pinned package has the lock's version and hashes, and none is missing or extra."""
    assert exported(name) == locked(group)


def test_the_lock_satisfies_what_the_project_asks_for() -> None:
    """A dependency that is added or raised without locking again is noticed."""
    versions = {name: version for name, (version, _) in locked().items()}
    wanted = [Requirement(text) for text in project()["project"]["dependencies"]]
    for group in project()["tool"]["poetry"]["group"].values():
        for name, spec in group["dependencies"].items():
            text = spec if isinstance(spec, str) else spec["version"]
            wanted.append(Requirement(name if text == "*" else f"{name}{text}"))
    for requirement in wanted:
        version = versions.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not locked: run `make lock`"
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} has {version}"


def test_no_registry_is_named() -> None:
    """Neither the lock nor the exported files name where packages come from."""
    for path in ["poetry.lock", "requirements/runtime.txt", "requirements/dev.txt"]:
        text = (ROOT / path).read_text()
        assert not re.search(r"--(extra-)?index-url|^\[package\.source\]", text, re.M), path
