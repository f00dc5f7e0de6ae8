"""JSON Schemas within what providers' strict modes accept."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from phoenix.llm.calls import OutputSchema

CONSTRAINTS = {
    "pattern": "matches {}",
    "format": "format {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "minimum": "at least {}",
    "maximum": "at most {}",
    "exclusiveMinimum": "more than {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
    "uniqueItems": "no item twice",
}
"""Keywords that strict modes refuse: said in the description instead, and checked by pydantic."""

DROPPED = frozenset({"default", "title", "examples", "readOnly", "discriminator", "$schema", *CONSTRAINTS})


def output_schema(model: type[BaseModel]) -> OutputSchema:
    """Return the schema that an answer of this type must fit."""
    schema, strict = to_strict_schema(model)
    description = (model.__doc__ or "").strip().splitlines()
    return OutputSchema(model.__name__, description[0] if description else "", schema, strict)


def schema_text(schema: str) -> str:
    """Return how a model is told of a schema, given as JSON, where it has no mode for one."""
    return f"Answer with one JSON object and nothing else. It must fit this JSON Schema:\n{schema}"


def to_strict_schema(model: type[BaseModel]) -> tuple[dict[str, Any], bool]:
    """Return a model's schema in the strict subset, and whether it fits there.

    Every property is required and no other is allowed. A free-form object or a tuple does not fit:
    then the schema is as close as it gets.
    """
    walk = _Walk()
    schema = walk.schema(model.model_json_schema(mode="validation"))
    return schema, walk.strict


class _Walk:
    def __init__(self) -> None:
        self.strict = True

    def schema(self, node: Any) -> Any:
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            return {"$ref": node["$ref"]}
        if len(node.get("allOf", ())) == 1:
            return self.schema(node["allOf"][0])
        out = {key: self._keyword(key, value) for key, value in node.items() if key not in DROPPED}
        if "oneOf" in out:
            out["anyOf"] = out.pop("oneOf")
        if "const" in out:
            out["enum"] = [out.pop("const")]
        if node.get("type") == "object":
            self._close(out)
        if "prefixItems" in node or (node.get("type") == "array" and "items" not in node):
            self.strict = False
        said = [text.format(node[key]) for key, text in CONSTRAINTS.items() if key in node]
        if said:
            out["description"] = " ".join(filter(None, [out.get("description"), f"({', '.join(said)})"]))
        return out

    def _keyword(self, key: str, value: Any) -> Any:
        if key in ("properties", "$defs"):
            return {name: self.schema(child) for name, child in value.items()}
        if key in ("anyOf", "oneOf", "allOf", "prefixItems"):
            return [self.schema(child) for child in value]
        return self.schema(value) if key == "items" else value

    def _close(self, out: dict[str, Any]) -> None:
        if "properties" not in out and out.get("additionalProperties") is not False:
            self.strict = False
            return
        out.setdefault("properties", {})
        out["required"] = list(out["properties"])
        out["additionalProperties"] = False
