"""The description shows an example of every body and answer, and each is one that the service would take."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter

from phoenix.api.app import ROUTERS, bare_app
from phoenix.api.examples import ANSWERS, JSON, REQUESTS

APP = bare_app()
DOCUMENT = APP.openapi()


def bodies() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every JSON body that a route takes."""
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            if media := operation.get("requestBody", {}).get("content", {}).get(JSON):
                yield f"{method.upper()} {path}", media


def answers() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every JSON answer of success."""
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            for status, answer in operation["responses"].items():
                if status.startswith("2") and (media := answer.get("content", {}).get(JSON)):
                    yield f"{method.upper()} {path}", media


BODIES, TOLD = dict(bodies()), dict(answers())


def misfits(media: dict[str, Any]) -> list[str]:
    """Return what of an example does not fit its schema."""
    schema = {**media["schema"], "components": DOCUMENT["components"]}
    return [error.message for error in Draft202012Validator(schema).iter_errors(media["example"])]


def routes() -> Iterator[tuple[str, APIRoute]]:
    """Yield the routes, as the description names them."""
    for prefix, router in ROUTERS:
        for route in router.routes:
            if isinstance(route, APIRoute):
                yield from ((f"{method} {prefix}{route.path}", route) for method in route.methods or ())


@pytest.mark.parametrize("name", BODIES)
def test_a_body_has_an_example_that_fits(name: str) -> None:
    """By its schema, and by the route itself, which is stricter."""
    media = BODIES[name]
    assert "example" in media, f"{name}: add a line to REQUESTS in phoenix/api/examples.py"
    assert misfits(media) == []
    field = dict(routes())[name].body_field
    assert field is not None
    annotation = field.field_info.annotation
    TypeAdapter(annotation).validate_json(json.dumps(media["example"]))


@pytest.mark.parametrize("name", TOLD)
def test_an_answer_has_an_example_that_fits(name: str) -> None:
    """By its schema, and by the model that is answered."""
    media = TOLD[name]
    assert "example" in media, f"{name}: add a line to ANSWERS in phoenix/api/examples.py"
    assert misfits(media) == []
    model = dict(routes())[name].response_model
    TypeAdapter(model).validate_json(json.dumps(media["example"]))


def test_no_example_is_of_something_that_is_gone() -> None:
    """Each is shown somewhere."""
    shown = json.dumps([media.get("schema") for media in (*BODIES.values(), *TOLD.values())])
    unknown = [
        name for name in {*REQUESTS, *ANSWERS} if f'/{name}"' not in shown and f"_{name}_" not in shown
    ]
    assert unknown == []
