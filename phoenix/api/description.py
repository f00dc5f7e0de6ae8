"""The OpenAPI description: every problem that a route may answer is in it, in the form that it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, Field

from phoenix.api.access import PUBLIC, SCHEMES, declared
from phoenix.api.errors import PROBLEM
from phoenix.api.examples import put_examples

NAME = "Problem"
REFUSALS = {
    400: "The request cannot be read.",
    401: "Nobody is signed in, or the credential is not good.",
    403: "Who is signed in may not do this.",
    404: "There is no such thing, or not for who is signed in.",
    405: "This address does not take that method.",
    409: "Somebody else was first, or the thing has changed.",
    412: "The thing has changed since the version in If-Match was read.",
    413: "The body is too large.",
    422: "The request does not have the form that this address takes.",
    429: "Too many requests; Retry-After says when to come again.",
    503: "Something that this needs is away; Retry-After says when to come again.",
}


class FieldProblem(BaseModel):
    """What is wrong with one field."""

    field: str
    message: str


class Problem(BaseModel):
    """Why a request was refused (RFC 9457)."""

    type: str = Field(examples=["urn:phoenix:problem:not_found"])
    title: str
    status: int
    code: str
    """Stable, for programs."""
    detail: str = ""
    hint: str = ""
    """What to do."""
    field: str = ""
    """The field at fault, as a dotted path."""
    errors: list[FieldProblem] = []
    request_id: str = ""


def problems() -> dict[int | str, dict[str, Any]]:
    """Return the problems of a route, as the framework takes them."""
    schema = {"$ref": f"#/components/schemas/{NAME}"}
    return {
        status: {"description": text, "content": {PROBLEM: {"schema": schema}}}
        for status, text in REFUSALS.items()
    }


def put_schemes(made: dict[str, Any], policies: Mapping[tuple[str, str], str]) -> None:
    """Say what credentials each route takes that is not public.

    As dependencies, which is the framework's way, they would be solved with every request, for nothing: who
    makes it is known before.
    """
    made["components"]["securitySchemes"] = {name: {**scheme} for name, scheme in SCHEMES.items()}
    for (method, path), policy in policies.items():
        operation = made["paths"].get(path, {}).get(method.lower())
        if operation is not None and policy != PUBLIC:
            operation["security"] = [{name: []} for name in SCHEMES]


def describe(app: FastAPI, prefix: str, routers: Sequence[tuple[str, APIRouter]]) -> None:
    """Make an application describe itself: who may come in, the form of its problems, and examples.

    Args:
        app: The application.
        prefix: What stands before the paths of its routes.
        routers: Those it is made of, each with what stands before its paths.
    """

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            schemas = made.setdefault("components", {}).setdefault("schemas", {})
            form = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= form.pop("$defs", {})
            schemas[NAME] = form
            put_schemes(made, declared(routers))
            put_examples(made, prefix)
            app.openapi_schema = made
        return app.openapi_schema

    # The framework's own way to do this.
    app.openapi = openapi  # type: ignore[method-assign]
