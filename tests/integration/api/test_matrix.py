"""Every route, asked by every role of two organisations with every kind of credential."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
from fastapi import APIRouter
from sqlalchemy import text

from phoenix.api.access import PUBLIC, policies
from phoenix.api.app import PREFIX, ROUTERS, bare_app
from phoenix.domain.identity import MAY, Role
from phoenix.domain.run import DEFAULT_ORGANISATION
from phoenix.storage.database import transaction
from tests.integration.api.asgi import OPEN, Answered, call, closing
from tests.integration.api.conftest import PASSWORD, Front
from tests.integration.api.world import (
    FORGED,
    MARK,
    Header,
    Member,
    Things,
    ended,
    key_id_of,
    key_of,
    member,
    nothing,
    things,
)

ROLES: tuple[Role, ...] = ("viewer", "developer", "approver", "admin")
SOCKET = "WEBSOCKET"
AT_ONCE = 16

APP = bare_app()
POLICIES = policies(APP, ROUTERS)

DIGEST = "sha256:" + "0" * 64
BODIES: Mapping[str, Any] = {
    "POST /auth/sign-in": {"email": "a@example.org", "password": PASSWORD},
    "POST /auth/refresh": {"refresh_token": "phx_refresh_x"},
    "POST /members": {"email": "new@example.org", "role": "viewer"},
    "PUT /members/{user_id}/role": {"role": "developer"},
    "PUT /projects/{project_id}/grants/{user_id}": {"role": "developer"},
    "POST /api-keys": {"name": "ci", "scopes": ["read"]},
    "POST /projects": {"requirement": "Do it.", "model": "a:b"},
    "PATCH /projects/{project_id}": {"title": "Other"},
    "POST /projects/{project_id}/pause": {},
    "POST /projects/{project_id}/resume": {},
    "POST /projects/{project_id}/forks": {"at": "spec"},
    "PATCH /organisation": {"max_projects": 1_000_000},
    "POST /organisation/prune": {"dry_run": True},
    "POST /templates": {"name": "new", "launch": {"requirement": "Do it."}},
    "PATCH /templates/{template_id}": {"description": "Other"},
    "POST /templates/{template_id}/projects": {},
    "POST /approvals/{approval_id}/decision": {"verdict": "approve", "digest": DIGEST},
    "PUT /approvals/rules": {"gates": {}},
    "POST /memory/import": {"items": [{"kind": "snippet", "text": "Close what you open."}]},
    "PATCH /memory/{memory_id}": {"pinned": True},
    "POST /webhooks": {"url": "https://hooks.example.org/phoenix"},
    "PATCH /webhooks/{webhook_id}": {"description": "Other"},
    "POST /webhooks/{webhook_id}/rotate": {},
    "PUT /rules": {"rules": None},
    "POST /projects/{project_id}/messages": {"text": "Keep it short."},
}
"""What fits each route that takes a body. A new one needs its line here."""


QUERIES: Mapping[str, str] = {
    "GET /projects/{project_id}/files/content": "?path=README.md",
    "GET /memory/search": "?text=private",
}
"""What routes ask for behind the path."""
UNFIT = ("checkpoint_unknown",)
"""Why a request of somebody who may make it is refused all the same: its things have not begun."""


@dataclass(frozen=True)
class Route:
    """A route with its policy."""

    method: str
    path: str
    policy: str

    @property
    def name(self) -> str:
        """As `BODIES` names it."""
        return f"{self.method} {self.path.removeprefix(PREFIX)}"

    @property
    def names_something(self) -> bool:
        """Whether its path names something that belongs to an organisation."""
        return any(name.endswith("_id") for name in re.findall(r"{(\w+)}", self.path))

    @property
    def body(self) -> Any:
        """What fits it; None where it takes nothing."""
        described = APP.openapi()["paths"].get(self.path, {}).get(self.method.lower(), {})
        if "requestBody" not in described:
            return None
        assert self.name in BODIES, f"{self.name} takes a body and has no line in BODIES"
        return BODIES[self.name]

    def may(self, role: Role) -> bool:
        """Tell whether the policy lets a role in."""
        return self.policy in MAY[role]

    async def ask(self, front: Front, where: Things, header: Header) -> Answered:
        """Ask it, with a body that fits; a websocket's refusals are told as statuses."""
        path = where.path(self.path) + QUERIES.get(self.name, "")
        if self.method == SOCKET:
            code = await closing(front.app, path, header)
            return Answered(200 if code == OPEN else code - 4000, Answered(0, {}, b"").headers, b"")  # type: ignore[arg-type]
        return await call(front.app, self.method, path, header, self.body)


ROUTES = [Route(method, path, policy) for (method, path), policy in sorted(POLICIES.items())]
GUARDED = [route for route in ROUTES if route.policy != PUBLIC]


class Findings:
    """What did not answer as it should; all of it is told at once."""

    def __init__(self) -> None:
        self.asked = 0
        self.wrong: list[str] = []

    def see(self, is_right: bool, *what: object) -> None:
        self.asked += 1
        if not is_right:
            self.wrong.append(" | ".join(map(str, what)))

    def check(self, least: int) -> None:
        assert not self.wrong, f"{len(self.wrong)} of {self.asked}:\n" + "\n".join(self.wrong[:40])
        assert self.asked >= least, self.asked


async def together(*asking: Any) -> None:
    """Await all, some at a time."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(asked: Any) -> None:
        async with gate:
            await asked

    await asyncio.gather(*map(one, asking))


@dataclass
class World:
    """Two organisations, each with its things and somebody in every role."""

    front: Front
    own: Things
    members: list[Member]
    strangers: list[Member]

    def everybody(self) -> Iterator[tuple[str, Member]]:
        yield from (("own", who) for who in self.members)
        yield from (("other", who) for who in self.strangers)


@pytest.fixture
async def world(wide_front: Front) -> World:
    """Make both organisations."""
    other = await wide_front.organisation()
    return World(
        wide_front,
        await things(wide_front, DEFAULT_ORGANISATION),
        [await member(wide_front, role, DEFAULT_ORGANISATION) for role in ROLES],
        [await member(wide_front, role, other) for role in ROLES],
    )


async def written(front: Front) -> list[int]:
    """Return how much was written by requests."""
    async with transaction(front.system.database) as connection:
        return [
            int((await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one())
            for table in ("audit", "projects", "events", "memberships", "api_keys", "grants", "idempotency")
        ]


def is_problem(answer: Answered, route: Route, status: int, code: str) -> bool:
    """Tell whether an answer refuses as it should."""
    if answer.status != status:
        return False
    return route.method == SOCKET or answer.json["code"] == code


# --- credentials -----------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
async def test_no_route_takes_a_credential_that_is_not_good(world: World, role: Role) -> None:
    """All routes × roles × organisations × kinds of bad credentials: 401, and nothing is written."""
    front, findings = world.front, Findings()
    headers = [
        (f"{kind} of {where} {who.role}", header)
        for where, who in world.everybody()
        if who.role == role
        for kind, header in [
            *((kind, make(who)) for kind, make in FORGED.items()),
            *(await ended(front, who)).items(),
        ]
    ]
    before = await written(front)

    async def one(route: Route, kind: str, header: Header) -> None:
        answer = await route.ask(front, world.own, header)
        right = is_problem(answer, route, 401, "unauthenticated")
        if route.method != SOCKET:
            right = right and answer.headers.get("www-authenticate") == "Bearer"
        findings.see(right and MARK.encode() not in answer.body, route.name, kind, answer.status)

    await together(*(one(route, *given) for route in GUARDED for given in headers))
    findings.check(len(GUARDED) * 2 * 30)
    assert await written(front) == before


async def test_public_routes_care_for_no_credential(world: World) -> None:
    """They answer as they do to nobody."""
    who, findings = world.members[0], Findings()
    for route in ROUTES:
        if route.policy == PUBLIC:
            bare = await route.ask(world.front, world.own, {})
            for kind, make in FORGED.items():
                answer = await route.ask(world.front, world.own, make(who))
                findings.see(answer.status == bare.status < 500, route.name, kind, answer.status)
    findings.check(4 * len(FORGED))


async def test_a_role_in_a_token_changes_nothing(world: World) -> None:
    """Even in one that is signed: what a viewer may not, they still may not."""
    findings = Findings()
    viewer = world.members[0]
    claimed = {"Authorization": f"Bearer {viewer.token(role='admin', scopes=['administer'])}"}
    for route in GUARDED:
        if not route.may("viewer"):
            answer = await route.ask(world.front, world.own, claimed)
            findings.see(is_problem(answer, route, 403, "forbidden"), route.name, answer.status)
    findings.check(10)


async def test_a_key_does_nothing_beyond_its_scopes(world: World) -> None:
    """An administrator's key for each single permission is refused wherever another one is asked for."""
    front, findings = world.front, Findings()
    admin = world.members[-1]
    for scope in sorted(MAY["admin"]):
        header = {"X-API-Key": await key_of(front, admin, scopes=[scope])}
        for route in GUARDED:
            if route.policy != scope:
                answer = await route.ask(front, world.own, header)
                findings.see(is_problem(answer, route, 403, "forbidden"), route.name, scope, answer.status)
    findings.check(len(GUARDED) * 3)


# --- roles and organisations -----------------------------------------------------------------


async def test_a_role_does_what_the_policy_says_and_nothing_else(world: World) -> None:
    """Every route for every role, by token and by key: let in, or 403."""
    front, findings = world.front, Findings()

    async def one(route: Route, who: Member, way: str) -> None:
        somebody = await member(front, who.role, DEFAULT_ORGANISATION)
        key = await key_of(front, somebody)
        header = somebody.header if way == "token" else {"X-API-Key": key}
        where = await things(front, DEFAULT_ORGANISATION)
        # Of keys everybody may revoke their own.
        where.ids["key_id"] = key_id_of(key)
        answer = await route.ask(front, where, header)
        if route.may(who.role):
            right = answer.status < 500 and answer.status not in (401, 403, 404, 422)
            right = right or (answer.status == 422 and answer.json["code"] in UNFIT)
        else:
            right = is_problem(answer, route, 403, "forbidden")
        findings.see(right, route.name, who.role, way, answer.status, answer.body[:200])

    await together(
        *(one(route, who, way) for route in GUARDED for who in world.members for way in ("token", "key"))
    )
    findings.check(len(GUARDED) * len(ROLES) * 2)


async def test_what_is_another_organisations_answers_as_what_is_not_there(world: World) -> None:
    """Every route, every role: the same status, body and headers for their things as for none."""
    front, findings = world.front, Findings()
    before = await written(front)

    async def one(route: Route, who: Member) -> None:
        none = nothing()
        theirs = await route.ask(front, world.own, who.header)
        missing = await route.ask(front, none, who.header)
        status = 404 if route.may(who.role) else 403
        findings.see(theirs.status == missing.status == status, route.name, who.role, theirs.status, missing)
        findings.see(told(theirs, world.own, none) == told(missing, none, none), route.name, who.role, theirs)
        findings.see(MARK.encode() not in theirs.body, route.name, "leaks")

    named = [route for route in GUARDED if route.names_something]
    await together(*(one(route, who) for route in named for who in world.strangers))
    findings.check(len(named) * len(ROLES) * 3)
    assert await written(front) == before


async def test_no_list_holds_what_is_another_organisations(world: World) -> None:
    """Every route that names nothing, asked from outside, tells nothing of what is inside."""
    front, findings = world.front, Findings()
    hidden = [MARK, *(value for name, value in world.own.ids.items() if name.endswith("_id"))]
    for route in GUARDED:
        if route.names_something:
            continue
        for who in world.strangers:
            outsider = await member(front, who.role, who.organisation_id)
            answer = await route.ask(front, world.own, outsider.header)
            said = answer.body.decode().replace(outsider_name(answer), "")
            findings.see(not any(text in said for text in hidden), route.name, who.role, said[:300])
    findings.check(20)


def outsider_name(answer: Answered) -> str:
    """Return how members are called in every organisation, as their list shows it."""
    return f'"name":"{MARK}"' if b'"user"' in answer.body or b'"scopes"' in answer.body else "\0"


def told(answer: Answered, ids: Things, none: Things) -> tuple[Any, ...]:
    """Return all that a client sees of an answer, with other ids in it."""
    said = answer.body.decode()
    for name, value in ids.ids.items():
        said = said.replace(value, none.ids[name])
    said = said.replace(answer.headers.get("x-request-id", "\0"), "")
    headers = sorted((k, v) for k, v in answer.headers.items() if k not in ("x-request-id", "content-length"))
    return answer.status, said, headers


# --- declarations ----------------------------------------------------------------------------


@pytest.mark.parametrize("in_schema", [True, False])
def test_a_route_without_a_policy_fails_the_start(in_schema: bool) -> None:
    """Also one that the description does not show."""
    bare = APIRouter()

    @bare.get("/bare", include_in_schema=in_schema)
    async def open_to_all() -> None:
        """Let anybody in, by mistake."""

    app = bare_app()
    app.include_router(bare)
    app.openapi_schema = None
    with pytest.raises(RuntimeError, match="declares no policy"):
        policies(app, [*ROUTERS, ("", bare)])


def test_a_route_of_no_router_fails_the_start() -> None:
    """One that is put on the application itself escapes nobody."""
    app = bare_app()

    @app.get("/stray")
    async def stray() -> None:
        """Stand outside."""

    app.openapi_schema = None
    with pytest.raises(RuntimeError, match="/stray"):
        policies(app, ROUTERS)


def test_every_id_in_a_path_has_something_of_both_kinds() -> None:
    """A parameter that the matrix does not know would not be tried."""
    known = nothing().ids
    unknown = {n for route in ROUTES for n in re.findall(r"{(\w+)(?::\w+)?}", route.path) if n not in known}
    assert not unknown
    assert str(uuid4()) not in known.values()
