"""What people fill in: JSON forms of models, and decisions checked against them."""

from __future__ import annotations

import sys
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema
from pydantic_core import to_jsonable_python

from phoenix.domain.approval import Decision, HumanRequest
from phoenix.domain.frozen import Frozen, digest_of
from phoenix.errors import DomainInvalid

TYPE_KEY = "x-phoenix-type"
"""Names the class that an answer is validated into."""


def as_form(value: Any) -> dict[str, Any]:
    """Return a value as a JSON object; what is none is wrapped as `{"value": ...}`."""
    found = to_jsonable_python(value, fallback=repr)
    return found if isinstance(found, dict) else {"value": found}


def from_form(form: dict[str, Any], declared: Any) -> Any:
    """Validate a form into a type.

    Raises:
        DomainInvalid: naming each field that does not fit.
    """
    adapter: TypeAdapter[Any] = TypeAdapter(declared)
    is_object = isinstance(declared, type) and issubclass(declared, (BaseModel, dict))
    content = form["value"] if not is_object and set(form) == {"value"} else form
    try:
        return adapter.validate_python(content)
    except ValidationError as error:
        problems = [(".".join(map(str, e["loc"])) or "value", e["msg"]) for e in error.errors()]
        raise DomainInvalid(problems) from error


def schema_of(declared: Any) -> dict[str, Any]:
    """Return the JSON Schema of a type's form."""
    try:
        schema = TypeAdapter(declared).json_schema()
    except PydanticInvalidForJsonSchema:
        return {}
    if isinstance(declared, type) and issubclass(declared, BaseModel):
        schema[TYPE_KEY] = f"{declared.__module__}:{declared.__qualname__}"
    return schema


def digest_of_value(value: Any) -> str:
    """Return the content address of a value that people decide on."""
    return (
        value.digest() if isinstance(value, Frozen) else digest_of(to_jsonable_python(value, fallback=repr))
    )


def keep_read_only(schema: dict[str, Any], original: Any, edited: Any) -> Any:
    """Return an edited form with every read-only field as it was, in nested objects too.

    Items of lists are taken as edited: nothing says which item was which.
    """
    definitions = schema.get("$defs", {})

    def walk(part: dict[str, Any], old: Any, new: Any) -> Any:
        part = _resolved(part, definitions)
        if not isinstance(old, dict) or not isinstance(new, dict):
            return new
        kept = dict(new)
        for name, field in part.get("properties", {}).items():
            if name not in old:
                continue
            if _is_read_only(field):
                kept[name] = old[name]
            elif name in kept:
                kept[name] = walk(field, old[name], kept[name])
        return kept

    return walk(schema, original, edited)


def _is_read_only(field: dict[str, Any]) -> bool:
    return bool(field.get("readOnly")) or any(one.get("readOnly") for one in field.get("anyOf", []))


def _resolved(part: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    name = str(part.get("$ref", "")).rpartition("/")[2]
    found: dict[str, Any] = definitions.get(name, part)
    return found


def check_decision(request: HumanRequest, decision: Decision | dict[str, Any]) -> Any:
    """Check a decision against its request, before the run is resumed with it.

    Returns:
        The edited value or the answer, validated; None for other verdicts.

    Raises:
        DomainInvalid: naming each field that is wrong. The request stays open.
    """
    given = parse_decision(request, decision)
    declared = _class_named(request.answer_schema.get(TYPE_KEY, ""))
    if given.verdict not in ("edit", "respond") or given.value is None:
        return None
    form = keep_read_only(request.answer_schema, request.value, given.value)
    return from_form(form, declared) if declared else form


def parse_decision(request: HumanRequest, decision: Decision | dict[str, Any]) -> Decision:
    """Return a decision whose verdict the request allows.

    Raises:
        DomainInvalid: it is malformed, or its verdict is not on offer.
    """
    try:
        given = Decision.model_validate(decision)
    except ValidationError as error:
        problems = [(".".join(map(str, e["loc"])) or "decision", e["msg"]) for e in error.errors()]
        raise DomainInvalid(problems) from error
    if request.kind != "wait" and given.verdict not in request.verdicts:
        offered = ", ".join(request.verdicts)
        raise DomainInvalid(
            [("verdict", f"{given.verdict!r} is not possible for {request.name!r}: {offered}")]
        )
    return given


def _class_named(name: str) -> type[BaseModel] | None:
    """Return a model class that is already loaded; nothing is ever imported by name."""
    module, _, path = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in path.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None
