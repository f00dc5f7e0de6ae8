"""Members of the organisation, and API keys."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import Field

from phoenix.api.access import Admin, Reader, allows
from phoenix.api.payloads import Answer, Cursor, Limit, Page, Payload
from phoenix.api.work import InWork, WorkRoute
from phoenix.domain.identity import ApiKey, Email, Member, Name, Password, Permission, Principal, Role
from phoenix.engine.identity import Identity
from phoenix.errors import PayloadInvalid

router = APIRouter(tags=["members"], route_class=WorkRoute)


MemberMaker = Annotated[Principal, allows("administer", limit="member")]
KeyMaker = Annotated[Principal, allows("read", limit="key")]


class NewMember(Payload):
    """Somebody to make a member. Without a password they sign in through the identity provider."""

    email: Email
    name: Annotated[str, Field(max_length=100)] = ""
    role: Role
    password: Password | None = None


class NewRole(Payload):
    """A role."""

    role: Role


class NewKey(Payload):
    """An API key to make."""

    name: Name
    scopes: Annotated[list[Permission], Field(min_length=1, max_length=4, examples=[["read", "develop"]])]
    expires_at: Annotated[datetime, Field(strict=False)] | None = None


class MadeKey(Answer):
    """An API key, with the only copy of its secret."""

    key: ApiKey
    secret: str


def _identity(request: Request) -> Identity:
    identity: Identity = request.app.state.identity
    return identity


@router.get("/members")
async def list_members(
    who: Reader, work: InWork, request: Request, cursor: Cursor = "", limit: Limit = 50
) -> Page[Member]:
    """List the members of the organisation, by their addresses."""
    items, following = await _identity(request).members(who, cursor=cursor, limit=limit, work=work)
    return Page(items=items, next=following)


@router.post("/members", status_code=201)
async def add_member(given: NewMember, who: MemberMaker, work: InWork, request: Request) -> Member:
    """Make somebody a member; an account that exists keeps its name and password."""
    return await _identity(request).add_member(
        who, email=given.email, name=given.name, role=given.role, password=given.password, work=work
    )


@router.put("/members/{user_id}/role", status_code=204, response_class=Response)
async def set_role(user_id: UUID, given: NewRole, who: Admin, work: InWork, request: Request) -> None:
    """Change a member's role; it counts from the next request on."""
    await _identity(request).set_role(who, user_id, given.role, work=work)


@router.delete("/members/{user_id}", status_code=204, response_class=Response)
async def remove_member(user_id: UUID, who: Admin, work: InWork, request: Request) -> None:
    """End a membership, with its sessions and keys."""
    await _identity(request).remove_member(who, user_id, work=work)


@router.put("/projects/{project_id}/grants/{user_id}", status_code=204, response_class=Response)
async def grant(
    project_id: UUID, user_id: UUID, given: NewRole, who: Admin, work: InWork, request: Request
) -> None:
    """Give a member a role of its own in one project, other than in the organisation."""
    await _identity(request).grant(who, project_id, user_id, given.role, work=work)


@router.delete("/projects/{project_id}/grants/{user_id}", status_code=204, response_class=Response)
async def revoke_grant(project_id: UUID, user_id: UUID, who: Admin, work: InWork, request: Request) -> None:
    """Take a member's role in one project away; that in the organisation counts again."""
    await _identity(request).grant(who, project_id, user_id, None, work=work)


@router.get("/api-keys")
async def list_keys(
    who: Reader, work: InWork, request: Request, cursor: Cursor = "", limit: Limit = 50
) -> Page[ApiKey]:
    """List your API keys, newest first; an administrator sees those of the organisation."""
    items, following = await _identity(request).keys(who, cursor=cursor, limit=limit, work=work)
    return Page(items=items, next=following)


@router.post("/api-keys", status_code=201)
async def make_key(given: NewKey, who: KeyMaker, work: InWork, request: Request) -> MadeKey:
    """Make an API key that acts for you, within its scopes. The secret is shown once."""
    expires = given.expires_at
    if expires is not None and (expires.tzinfo is None or expires <= datetime.now(UTC)):
        raise PayloadInvalid("The key's end is not a time to come, with its zone.", field="body.expires_at")
    key, secret = await _identity(request).make_key(
        who, name=given.name, scopes=given.scopes, expires_at=expires, work=work
    )
    return MadeKey(key=key, secret=secret)


@router.delete("/api-keys/{key_id}", status_code=204, response_class=Response)
async def revoke_key(key_id: UUID, who: Reader, work: InWork, request: Request) -> None:
    """Revoke an API key of yours; an administrator may revoke any of the organisation."""
    await _identity(request).revoke_key(who, key_id, work=work)
