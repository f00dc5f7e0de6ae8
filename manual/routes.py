"""The page of the HTTP API, from its OpenAPI description and the policies that its routes declare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from manual.tables import code, table
from phoenix.api.access import PUBLIC, policies
from phoenix.api.app import PREFIX, ROUTERS, bare_app
from phoenix.domain.identity import MAY

INTRODUCTION = f"""# HTTP API

All routes below `{PREFIX}`; what each takes and answers, with an example, is at `/docs`, `/redoc` and `{PREFIX}/openapi.json` of
a running service. *needs* is the permission (of a role, and of an API key's scopes) without which the answer is 403:

"""
CODES = """
Every refusal is `application/problem+json` with a [stable code](error-codes.md). Any route may answer 401, 403, 404, 405, 413,
422, 429 and 503; those that change something also 409, and 412 where `If-Match` was given.

"""


def page() -> str:
    """Return all routes by area."""
    app = bare_app()
    needs = policies(app, ROUTERS)
    rights = [(code(role), ", ".join(code(name) for name in sorted(may))) for role, may in MAY.items()]
    areas: dict[str, list[tuple[str, str, str, str]]] = {}
    for method, path, about in _described(app.openapi()):
        areas.setdefault(_area(path), []).append(_row(method, path, about, needs[method, path]))
    for (method, path), policy in sorted(needs.items()):
        if method == "WEBSOCKET":
            about = {"summary": "The project's events over a websocket."}
            areas.setdefault(_area(path), []).append(_row(method, path, about, policy))
    head = ("route", "needs", "what", "query")
    parts = [f"## {area}\n\n{table(head, sorted(areas[area]))}" for area in sorted(areas)]
    return INTRODUCTION + table(("role", "permissions"), rights) + CODES + "\n".join(parts)


def _described(description: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in description["paths"].items():
        for method, about in methods.items():
            yield method.upper(), path, about


def _area(path: str) -> str:
    return path.removeprefix(PREFIX).strip("/").split("/")[0].split("{")[0] or "service"


def _row(method: str, path: str, about: Mapping[str, Any], needs: str) -> tuple[str, str, str, str]:
    said = str(about.get("description") or about.get("summary") or "").split("\n\n")[0]
    query = [p["name"] for p in about.get("parameters", ()) if p["in"] == "query"]
    who = "nobody's sign-in" if needs == PUBLIC else code(needs)
    return (
        code(f"{method} {path.removeprefix(PREFIX)}"),
        who,
        said,
        ", ".join(code(name) for name in query),
    )
