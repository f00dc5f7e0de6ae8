"""YAML files composed as Hydra composes them: defaults lists, packages, interpolation, overrides.

Only that: no plugin, no search path but the folder, no resolver but `oc.env` for names that are allowed, and
nothing is instantiated. Every file is read strictly first, and every value knows its file and line.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from phoenix.domain.yaml_lines import read_mapping
from phoenix.errors import DomainInvalid

if TYPE_CHECKING:
    from omegaconf import DictConfig

MAIN = "config"
"""The file of a folder that composition begins with, without `.yaml`."""
MUST = "it must hold a mapping"
_ONE_AT_A_TIME = threading.Lock()
"""Hydra keeps what it composes in globals."""
_INTERPOLATION = re.compile(
    r"\$\{\s*(?:oc\.env:\s*(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*(?:,[^${}]*)?|[A-Za-z0-9_.\[\]-]+\s*)\}"
)
_OVERRIDE = re.compile(r"(?P<mark>~|\+\+|\+)?(?P<key>[^=]+?)(?:=(?P<value>.*))?", re.DOTALL)


@dataclass(frozen=True)
class Composed:
    """What files and overrides make together."""

    values: dict[str, Any]
    origins: Mapping[str, str]
    """Where each path's value comes from, in words: `fast.yaml, line 3` or `--set tiers=[a]`."""
    files: tuple[Path, ...]

    def at(self, path: str, message: str) -> tuple[str, str]:
        """Return a problem with where its path, or the nearest one around it, comes from."""
        where = self.origin(path)
        return (f"{where}, {path}" if path else where), message

    def origin(self, path: str) -> str:
        """Return where a value comes from."""
        known = path
        while known and known not in self.origins:
            known = known[: max(known.rfind("."), known.rfind("["), 0)]
        return self.origins.get(known, str(self.files[0]))

    def problems_of(self, error: ValidationError) -> list[tuple[str, str]]:
        """Return what a model says of the values; no value is quoted."""
        found = []
        for one in error.errors(include_input=False):
            path = ""
            for part in one["loc"]:
                path += f"[{part}]" if isinstance(part, int) else f"{'.' if path else ''}{part}"
            found.append(self.at(path, str(one["msg"]).removeprefix("Value error, ")))
        return found


MOST_KEPT = 32
_KEPT: dict[Any, tuple[tuple[tuple[int, int], ...], Composed]] = {}
"""What was composed, with the stamps of its files: Hydra takes a quarter of a second each time."""


def is_composed(path: Path, overrides: Sequence[str] = ()) -> bool:
    """Tell whether a configuration needs composing: a folder, a file with `defaults:`, or with overrides.

    Raises:
        DomainInvalid, OSError: the file cannot be read.
    """
    if path.is_dir() or overrides:
        return True
    return re.search(r"^defaults\s*:", path.read_text("utf-8"), re.MULTILINE) is not None


def compose(path: Path, overrides: Sequence[str] = (), *, environment: Collection[str] = ()) -> Composed:
    """Compose a folder's `config.yaml`, or a file, with what it draws in. Blocks.

    Args:
        path: The folder, or the file; its folder holds what its defaults list names.
        overrides: As Hydra writes them: `a.b=1`, `group=option`, `+new=1`, `~gone`.
        environment: Variables that `${oc.env:NAME}` may name.

    Raises:
        DomainInvalid: it cannot be composed; names file, line and path, or the override.
    """
    folder, main = (path, MAIN) if path.is_dir() else (path.parent, path.stem)
    folder = folder.absolute()
    if path.suffix not in ("", ".yaml") or not (folder / f"{main}.yaml").is_file():
        raise DomainInvalid([(str(path), f"there is no {folder / main}.yaml")])
    for override in overrides:
        _check_override(override, environment)
    key = (folder, main, tuple(overrides), tuple((n, os.environ.get(n)) for n in sorted(environment)))
    with _ONE_AT_A_TIME:
        kept = _KEPT.get(key)
        if kept is None or kept[0] != _stamps(kept[1].files):
            if len(_KEPT) >= MOST_KEPT:
                _KEPT.clear()
            found = _compose(folder, main, overrides, environment)
            kept = _KEPT[key] = (_stamps(found.files), found)
        return kept[1]


def _stamps(files: Sequence[Path]) -> tuple[tuple[int, int], ...]:
    """Return what changes when a file does; nothing of one that is gone."""
    found = []
    for file in files:
        try:
            about = file.stat()
        except OSError:
            return ()
        found.append((about.st_mtime_ns, about.st_size))
    return tuple(found)


def read_plain(path: Path) -> Composed:
    """Return what one file holds, composing nothing.

    Raises:
        DomainInvalid: it cannot be read; names file and line.
    """
    values, lines = _read(path, ())
    return Composed(values, {inner: f"{path}, line {line}" for inner, line in lines.items()}, (path,))


def overrides_of(document: str, overrides: Sequence[str]) -> tuple[str, ...]:
    """Return the overrides of one document, such as `models`, without its name before them."""
    found = (re.fullmatch(rf"(~|\+\+|\+)?{document}\.(.+)", one, re.DOTALL) for one in overrides)
    return tuple(f"{match[1] or ''}{match[2]}" for match in found if match)


def _compose(folder: Path, main: str, overrides: Sequence[str], environment: Collection[str]) -> Composed:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from hydra.types import RunMode
    from omegaconf.errors import OmegaConfBaseException

    first = folder / f"{main}.yaml"
    _read(first, environment)
    try:
        with initialize_config_dir(config_dir=str(folder), version_base="1.3"):
            loader = GlobalHydra.instance().config_loader()
            listed = loader.compute_defaults_list(main, list(overrides), RunMode.RUN).defaults
            origins: dict[str, str] = {}
            files = [first]
            for element in listed:
                if element.config_path is None or element.config_path.partition("/")[0] == "hydra":
                    continue
                file = folder / f"{element.config_path}.yaml"
                if not file.resolve().is_relative_to(folder.resolve()):
                    raise DomainInvalid([(str(first), f"{element.config_path} is outside of {folder}")])
                _, lines = _read(file, environment)
                files.append(file)
                package = element.package or ""
                for inner, line in lines.items():
                    origins[_joined(package, inner)] = f"{file}, line {line}"
            config = hydra_compose(config_name=main, overrides=list(overrides))
        values = _plain(config, environment, first)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise DomainInvalid([(_place(error, first), _said(error))]) from error
    for override in overrides:
        match = _OVERRIDE.fullmatch(override)
        if match is not None and match["value"] is not None:
            origins = {p: o for p, o in origins.items() if not _is_below(p, match["key"])}
            origins[match["key"]] = f"override {override}"
    return Composed(values, origins, tuple(dict.fromkeys(files)))


def _plain(config: DictConfig, environment: Collection[str], first: Path) -> dict[str, Any]:
    """Return what was composed with its interpolations resolved, once all of them are known to be allowed."""
    from omegaconf import OmegaConf

    unresolved = OmegaConf.to_container(config, resolve=False)
    # What overrides and files made together is looked at once more, as it will be resolved.
    wrong = [(f"{first}, {path}", said) for path, said in _forbidden(unresolved, environment)]
    if wrong:
        raise DomainInvalid(wrong)
    found = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    texts = _texts(found)
    if not isinstance(texts, dict):
        raise DomainInvalid([(str(first), MUST)])
    return texts


def _read(file: Path, environment: Collection[str]) -> tuple[dict[str, Any], Mapping[str, int]]:
    """Return what a file holds, read strictly: no aliases, nothing twice, nothing that is executed."""
    try:
        values, lines = read_mapping(file.read_text("utf-8"), must=MUST)
    except (OSError, UnicodeDecodeError) as error:
        raise DomainInvalid([(str(file), "it cannot be read as text in UTF-8")]) from error
    except DomainInvalid as error:
        raise DomainInvalid([(f"{file}, {where}", said) for where, said in error.problems]) from error
    wrong = list(_forbidden(values, environment))
    if "hydra" in values:
        wrong.append(("hydra", "Hydra's own configuration cannot be changed"))
    if wrong:
        raise DomainInvalid([(f"{file}, line {lines.get(path, 1)}, {path}", said) for path, said in wrong])
    return values, lines


def _forbidden(value: Any, environment: Collection[str], path: str = "") -> Iterator[tuple[str, str]]:
    """Give what a value may not hold: instructions to make objects, and resolvers."""
    if isinstance(value, dict):
        for key, inner in value.items():
            below = f"{path}.{key}" if path else str(key)
            if str(key).startswith("_") and str(key).endswith("_"):
                yield below, f"{key} is not allowed: nothing is made from files"
            yield from (((below, said)) for said in _interpolations(str(key), environment))
            yield from _forbidden(inner, environment, below)
    elif isinstance(value, list):
        for n, inner in enumerate(value):
            yield from _forbidden(inner, environment, f"{path}[{n}]")
    elif isinstance(value, str):
        yield from ((path, said) for said in _interpolations(value, environment))


def _interpolations(text: str, environment: Collection[str]) -> Iterator[str]:
    """Give what is wrong with the interpolations of a text."""
    place = text.find("${")
    while place >= 0:
        match = _INTERPOLATION.match(text, place)
        if match is None:
            yield "only ${path.of.a.value} and ${oc.env:NAME} may be interpolated"
            return
        name = match["name"]
        if name is not None and name not in environment:
            yield f"{name} may not be read: PHOENIX_CONFIG_ENVIRONMENT does not name it"
        place = text.find("${", match.end())


def _check_override(override: str, environment: Collection[str]) -> None:
    match = _OVERRIDE.fullmatch(override)
    key = match["key"].strip() if match else ""
    wrong = list(_interpolations(override, environment))
    if not key or (match is not None and match["value"] is None and match["mark"] != "~"):
        wrong.append("write it as PATH=VALUE")
    if re.split(r"[./@]", key)[0] == "hydra":
        wrong.append("Hydra's own configuration cannot be changed")
    if "_target_" in override:
        wrong.append("nothing is made from files")
    if wrong:
        raise DomainInvalid([(f"override {override}", said) for said in wrong])


def _joined(package: str, path: str) -> str:
    return f"{package}.{path}" if package and path else package or path


def _is_below(path: str, key: str) -> bool:
    return path.startswith((f"{key}.", f"{key}["))


def _texts(value: Any) -> Any:
    """Return a value with its scalars as text, as files that are not composed are read."""
    if isinstance(value, dict):
        return {str(key): _texts(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_texts(inner) for inner in value]
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None else str(value)


def _place(error: Exception, first: Path) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"{error.problem_mark.name}, line {error.problem_mark.line + 1}"
    return str(first)


def _said(error: Exception) -> str:
    """Return what Hydra or OmegaConf says, without the parts that are about Python and its own folders."""
    cause = error.__cause__ if not str(error) and error.__cause__ is not None else error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    drop = ("full_key", "object_type", "Config search path", "provider=", "See https", "reference_type")
    kept = [line for line in lines if not line.startswith(drop)]
    return " ".join(kept) or type(error).__name__
