"""YAML mappings read with their lines, so that what is wrong in a file is named by line and path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import ValidationError

from phoenix.errors import DomainInvalid

MAX_FILE_CHARS = 200_000


class _Loader(yaml.SafeLoader):
    """Refuses what a configuration file has no use for."""


def read_mapping(text: str, *, must: str) -> tuple[dict[str, Any], Mapping[str, int]]:
    """Return what a YAML mapping holds, every scalar as its text, and the line of each path.

    Args:
        text: The file.
        must: What to say of a file that is no mapping, such as "it must hold `rules:` with a list".

    Raises:
        DomainInvalid: it is too long, is not YAML, uses aliases, or gives a key twice; names the line.
    """
    if len(text) > MAX_FILE_CHARS:
        raise DomainInvalid([("file", f"it has {len(text)} characters; {MAX_FILE_CHARS} are allowed")])
    try:
        node = _composed(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}" if mark else "file"
        raise DomainInvalid([(where, error.problem or "this is not YAML")]) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DomainInvalid([("file", f"this is not YAML: {error}")]) from error
    if not isinstance(node, yaml.MappingNode):
        raise DomainInvalid([("file", must)])
    lines: dict[str, int] = {}
    return _value(node, "", lines), lines


def problems_of(error: ValidationError, lines: Mapping[str, int]) -> list[tuple[str, str]]:
    """Return what a model says of a mapping, each with line and path. No value is quoted."""
    return [at(lines, _path(e["loc"]), str(e["msg"]).removeprefix("Value error, ")) for e in error.errors()]


def at(lines: Mapping[str, int], path: str, message: str) -> tuple[str, str]:
    """Return a problem with the line of its path, or of the nearest one around it."""
    known = path
    while known and known not in lines:
        known = known[: max(known.rfind("."), known.rfind("["), 0)]
    line = lines.get(known, 1)
    return (f"line {line}, {path}" if path else f"line {line}", message)


def _path(location: tuple[int | str, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f"{'.' if path else ''}{part}"
    return path


def _line(mark: Any) -> int:
    return mark.line + 1 if mark else 1


def _composed(text: str) -> yaml.Node | None:
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.AliasEvent):
            raise DomainInvalid([(f"line {_line(event.start_mark)}", "aliases are not allowed")])
    node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    return node


def _value(node: yaml.Node, path: str, lines: dict[str, int]) -> Any:
    """Return what a node holds; every scalar as its text, so that `no` or `1.2.3.4` stay what was written."""
    lines[path] = node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        return [_value(inner, f"{path}[{n}]", lines) for n, inner in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        is_null = node.tag == "tag:yaml.org,2002:null"
        return None if is_null else node.value
    found: dict[str, Any] = {}
    for key, inner in node.value:
        name = str(key.value)
        below = f"{path}.{name}" if path else name
        if name in found:
            raise DomainInvalid([(f"line {key.start_mark.line + 1}, {below}", "it is given twice")])
        found[name] = _value(inner, below, lines)
    return found
