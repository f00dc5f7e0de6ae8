"""Schemas within what strict modes accept."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import Field

from phoenix.domain.frozen import Frozen
from phoenix.domain.plan import PlanDraft
from phoenix.domain.spec import SpecDraft
from phoenix.llm.schema import CONSTRAINTS, output_schema, to_strict_schema


def objects(node: Any) -> list[dict[str, Any]]:
    """Return every object schema in a schema."""
    if isinstance(node, list):
        return [o for child in node for o in objects(child)]
    if not isinstance(node, dict):
        return []
    own = [node] if node.get("type") == "object" else []
    return own + [o for child in node.values() for o in objects(child)]


@pytest.mark.parametrize("model", [SpecDraft, PlanDraft])
def test_drafts_fit_the_strict_subset(model: type[Frozen]) -> None:
    """All properties are required, no other is allowed, and no keyword that strict modes refuse is left."""
    schema, strict = to_strict_schema(model)
    assert strict
    for node in objects(schema):
        assert node["required"] == list(node["properties"])
        assert node["additionalProperties"] is False
        for child in node["properties"].values():
            assert not child.keys() & {"default", "title", *CONSTRAINTS}


def test_dropped_rules_are_said_in_the_description() -> None:
    """What the schema may not say, the model still reads."""
    schema, _ = to_strict_schema(PlanDraft)
    assert "matches ^T[1-9][0-9]*$" in schema["$defs"]["Task"]["properties"]["id"]["description"]


def test_a_property_may_be_called_like_a_keyword() -> None:
    """Fields named title or pattern survive."""

    class Named(Frozen):
        title: str
        pattern: str = "x"
        default: Literal["a"] = "a"

    assert list(to_strict_schema(Named)[0]["properties"]) == ["title", "pattern", "default"]


def test_a_free_form_object_is_not_strict() -> None:
    """A dictionary of anything cannot be strict, and the schema says so."""

    class Open(Frozen):
        """Anything goes."""

        data: dict[str, Any] = Field(default={})

    schema = output_schema(Open)
    assert not schema.strict
    assert "strict" not in schema.as_tool()["function"]
    assert schema.description == "Anything goes."
