"""Templates: projects that are launched again and again, with parameters in their texts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, StringConstraints

from phoenix.domain.frozen import Frozen
from phoenix.errors import DomainInvalid

FILLED = ("requirement", "title", "repository")
"""Members of a launch whose texts may hold `{{ parameter }}`."""
MAX_VALUE_CHARS = 20_000

_PLACE = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")

ParameterName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
ParameterValue = Annotated[str, StringConstraints(max_length=MAX_VALUE_CHARS)]


class Parameter(Frozen):
    """Something that a launch from a template says."""

    name: ParameterName
    description: Annotated[str, Field(max_length=500)] = ""
    default: ParameterValue | None = None
    """Without one it has to be given."""
    choices: Annotated[list[ParameterValue], Field(max_length=100)] = []
    """What it may be; empty for anything."""


class Template(Frozen):
    """A launch with places for parameters."""

    id: UUID
    organisation_id: UUID
    name: str
    description: str
    launch: dict[str, Any]
    """As a client would send it to launch a project."""
    parameters: list[Parameter]
    version: int
    created_by: UUID | None
    created_at: datetime
    updated_at: datetime


def check_places(launch: Mapping[str, Any], parameters: Sequence[Parameter]) -> None:
    """Check that a template's places and parameters are the same, and that defaults are among the choices.

    Raises:
        DomainInvalid: naming all that are not.
    """
    names = [p.name for p in parameters]
    found = {n for member in FILLED for n in _PLACE.findall(launch.get(member) or "")}
    problems = [("parameters", f"{name!r} is there twice") for name in set(names) if names.count(name) > 1]
    problems += [("launch", f"{{{{ {name} }}}} is no parameter") for name in sorted(found - set(names))]
    problems += [
        ("parameters", f"{name!r} has no place in the launch") for name in sorted(set(names) - found)
    ]
    problems += [
        (f"parameters.{p.name}", "the default is none of the choices")
        for p in parameters
        if p.choices and p.default is not None and p.default not in p.choices
    ]
    if problems:
        raise DomainInvalid(problems)


def filled(template: Template, values: Mapping[str, str]) -> dict[str, Any]:
    """Return the launch of a template with values in its places.

    A value is put in as it is: braces in it are braces.

    Raises:
        DomainInvalid: a value is missing, unknown, or none of the choices.
    """
    known = {p.name: p for p in template.parameters}
    problems = [
        (f"parameters.{name}", "there is no such parameter") for name in sorted(set(values) - set(known))
    ]
    chosen: dict[str, str] = {}
    for name, parameter in known.items():
        value = values.get(name, parameter.default)
        if value is None:
            problems.append((f"parameters.{name}", "it has no default, so it has to be given"))
        elif parameter.choices and value not in parameter.choices:
            problems.append((f"parameters.{name}", f"it is none of {', '.join(parameter.choices)}"))
        else:
            chosen[name] = value
    if problems:
        raise DomainInvalid(problems)
    texts = {member: template.launch.get(member) for member in FILLED}
    made = {m: _PLACE.sub(lambda place: chosen[place[1]], t) for m, t in texts.items() if t is not None}
    return template.launch | made
