"""Settings from the environment, `.env`, a YAML file, and files that hold one value each.

What comes first counts: the environment, `.env`, the settings file, the default. Within one source NAME and
NAME_FILE together are an error. Every value remembers where it came from.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from dotenv.parser import parse_stream
from pydantic import BaseModel

from phoenix.configuration.fields import (
    FILE_SUFFIX,
    PREFIX,
    is_path,
    is_structured,
    outside_name,
    outside_names,
)
from phoenix.domain.yaml_lines import read_mapping
from phoenix.errors import DomainInvalid, SettingInvalid

SETTINGS_FILE = f"{PREFIX}SETTINGS"
"""Names the settings file; it cannot stand in that file."""
MUST = "it must hold settings as `name: value`"


@dataclass(frozen=True)
class Given:
    """A value that was given for a setting."""

    value: Any
    origin: str
    """Where, in words: `environment`, `.env, line 3`, `settings.yaml, line 4`."""
    said: str
    """What the setting is called there."""


@dataclass
class Found:
    """All values that were given, by field."""

    given: dict[str, Given] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, Any]:
        """The values, by field."""
        return {name: given.value for name, given in self.given.items()}


@dataclass(frozen=True)
class _Variable:
    """A variable as a source has it."""

    value: str
    where: str
    """Such as `.env, line 3`."""


def find_settings(
    model: type[BaseModel], environ: Mapping[str, str], *, dotenv: Path, foreign: tuple[str, ...] = ()
) -> Found:
    """Return what was given for the fields of a model.

    Args:
        model: The settings.
        environ: The environment.
        dotenv: The `.env` file, which need not be there and may hold other programs' names.
        foreign: Names with the prefix that are other programs'.

    Raises:
        SettingInvalid: a name is unknown, given twice, or its file cannot be read; says name, file and line.
    """
    environment = {name: _Variable(value, "environment") for name, value in environ.items()}
    sources = [environment, _dotenv(dotenv)]
    found = Found()
    for source in sources:
        _check_names(model, source, foreign)
        for name, given in _from_variables(model, source):
            found.given.setdefault(name, given)
    path = next((s[SETTINGS_FILE].value for s in sources if SETTINGS_FILE in s), "")
    if path:
        for name, given in _from_file(model, Path(path).expanduser()):
            found.given.setdefault(name, given)
    return found


def _dotenv(path: Path) -> dict[str, _Variable]:
    """Return the variables of a `.env` file, each with its line."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingInvalid(f"{path} cannot be read as text in UTF-8.", field=str(path)) from error
    lines: dict[str, int] = {}
    for binding in parse_stream(io.StringIO(text)):
        if binding.error:
            raise SettingInvalid(f"{path}, line {binding.original.line} is no NAME=VALUE.", field=str(path))
        if binding.key is not None:
            # The parser counts a binding's line from the blanks before it.
            blanks = len(binding.original.string) - len(binding.original.string.lstrip("\n"))
            lines[binding.key] = binding.original.line + blanks
    values = dotenv_values(stream=io.StringIO(text))
    return {n: _Variable(v, f"{path}, line {lines[n]}") for n, v in values.items() if v is not None}


def _check_names(model: type[BaseModel], source: Mapping[str, _Variable], foreign: tuple[str, ...]) -> None:
    known = {SETTINGS_FILE, *outside_names(model)}
    for name in sorted(source):
        if not name.startswith(PREFIX) or name in known or name in foreign:
            continue
        if name.endswith(FILE_SUFFIX) and name.removesuffix(FILE_SUFFIX) in known:
            continue
        raise _unknown(name, known, source[name].where)


def _unknown(name: str, known: set[str], where: str) -> SettingInvalid:
    near = get_close_matches(name, known, n=3)
    place = "" if where == "environment" else f" ({where})"
    said = f"Did you mean {' or '.join(near)}?" if near else "See docs/settings.md for those that are known."
    return SettingInvalid(f"unknown setting {name}{place}.", field=name, hint=said)


def _from_variables(model: type[BaseModel], source: Mapping[str, _Variable]) -> Iterator[tuple[str, Given]]:
    for name, info in model.model_fields.items():
        said = outside_name(name, info)
        plain, file = source.get(said), source.get(f"{said}{FILE_SUFFIX}")
        if file is not None and file.value:
            # An empty value beside its file is none: Compose writes such for what was left out.
            if plain is not None and plain.value:
                raise SettingInvalid(
                    f"both {said} and {said}{FILE_SUFFIX} are set ({plain.where}).",
                    field=said,
                    hint="Give one of them.",
                )
            plain = _Variable(read_value(Path(file.value), said), f"{file.value} ({file.where})")
        if plain is None:
            continue
        value: Any = plain.value
        if is_structured(info):
            value = _json(plain, said)
        yield name, Given(value, plain.where, said)


def read_value(path: Path, said: str) -> str:
    """Return the value that a file holds, without the line break at its end.

    Raises:
        SettingInvalid: it cannot be read.
    """
    try:
        return path.expanduser().read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise SettingInvalid(
            f"{said}{FILE_SUFFIX} names {path}, which cannot be read: {reason}.",
            field=f"{said}{FILE_SUFFIX}",
        ) from error


def _json(variable: _Variable, said: str) -> Any:
    try:
        return json.loads(variable.value)
    except ValueError as error:
        place = "" if variable.where == "environment" else f" ({variable.where})"
        raise SettingInvalid(
            f"it is no JSON{place}.", field=said, hint='Write it such as ["a", "b"] or {"a": "b"}.'
        ) from error


def _from_file(model: type[BaseModel], path: Path) -> Iterator[tuple[str, Given]]:
    """Give what a settings file says: each setting by its name outside, or in lower case without prefix."""
    try:
        values, lines = read_mapping(path.read_text("utf-8"), must=MUST)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingInvalid(f"The settings file {path} cannot be read.", field=SETTINGS_FILE) from error
    except DomainInvalid as error:
        wrong = "; ".join(f"{where}: {text}" for where, text in error.problems)
        raise SettingInvalid(f"{path}: {wrong}", field=SETTINGS_FILE) from error
    by_outside = outside_names(model)
    seen: dict[str, str] = {}
    for said, value in values.items():
        where = f"{path}, line {lines[said]}"
        base = said.removesuffix("_file").removesuffix(FILE_SUFFIX)
        field_name = _field(said, by_outside) or _field(base, by_outside)
        if field_name is None:
            raise _unknown(said, {*by_outside.values()}, where)
        if field_name in seen:
            raise SettingInvalid(
                f"both {seen[field_name]} and {said} are set ({where}).", field=said, hint="Give one of them."
            )
        seen[field_name] = said
        if value is None:
            raise SettingInvalid(f"it has no value ({where}).", field=said, hint="Leave it out instead.")
        if _field(said, by_outside) is None:
            name = outside_name(field_name, model.model_fields[field_name])
            # A relative path is meant from where the settings file is.
            file = path.parent / Path(str(value)).expanduser()
            yield field_name, Given(read_value(file, name), f"{file} ({where})", said)
        else:
            is_relative = is_path(model.model_fields[field_name])
            here = path.absolute().parent / Path(str(value)).expanduser()
            yield field_name, Given(str(here) if is_relative else value, where, said)


def _field(said: str, by_outside: Mapping[str, str]) -> str | None:
    if said in by_outside:
        return by_outside[said]
    return said if said in by_outside.values() else None
