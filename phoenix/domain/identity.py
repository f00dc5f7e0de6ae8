"""Who uses Phoenix, for which organisation, and what each role may do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, StringConstraints

from phoenix.domain.frozen import Frozen

Role = Literal["viewer", "developer", "approver", "admin"]
Permission = Literal["read", "develop", "approve", "administer"]

MAY: Mapping[str, frozenset[Permission]] = {
    "viewer": frozenset({"read"}),
    "developer": frozenset({"read", "develop"}),
    "approver": frozenset({"read", "develop", "approve"}),
    "admin": frozenset({"read", "develop", "approve", "administer"}),
}
"""Each role may do what the one before it may, and one thing more."""

Email = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, to_lower=True, max_length=254, pattern=r"^[^@\s\x00]+@[^@\s\x00]+$"
    ),
]
Password = Annotated[str, StringConstraints(min_length=12, max_length=256)]
Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=r"^[^\x00]+$")
]


class User(Frozen):
    """A person, or a program that has an account."""

    id: UUID
    email: Email
    name: str = ""
    is_active: bool = True
    created_at: datetime


class Member(Frozen):
    """A user in an organisation."""

    user: User
    role: Role


class ApiKey(Frozen):
    """A key that acts for its user, within its scopes. The secret itself is shown once and not stored."""

    id: UUID
    organisation_id: UUID
    user_id: UUID
    name: Name
    scopes: list[Permission]
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None


class Principal(Frozen):
    """Who makes a request, and what they may do."""

    user_id: UUID
    organisation_id: UUID
    email: Email
    role: Role
    """In the organisation."""
    via: Literal["token", "key"]
    credential_id: UUID
    """The session's, or the API key's."""
    scopes: list[Permission] | None = None
    """What an API key is for; None for no further limit."""
    grants: dict[UUID, Role] = Field(default={})
    """Roles in single projects, where they are others than in the organisation."""

    def may(self, permission: Permission, project_id: UUID | None = None) -> bool:
        """Tell whether something is allowed, in the organisation or in one of its projects."""
        if self.scopes is not None and permission not in self.scopes:
            return False
        role = self.grants.get(project_id, self.role) if project_id else self.role
        return permission in MAY[role]

    def may_somewhere(self, permission: Permission) -> bool:
        """Tell whether something is allowed in the organisation, or in any project."""
        return self.may(permission) or any(self.may(permission, project) for project in self.grants)


class External(Frozen):
    """A user as an identity provider knows them."""

    issuer: str
    subject: str
    """Theirs for ever, at that issuer."""
    email: str
    is_verified: bool
    """The provider has seen that the address is theirs."""
    name: str = ""

    @property
    def id(self) -> str:
        """What an account keeps of it."""
        return f"{self.issuer} {self.subject}"

    @property
    def domain(self) -> str:
        """Of the address."""
        return self.email.rpartition("@")[2]


class Joining(Frozen):
    """Who becomes a member by signing in at the identity provider, of what, and in which role."""

    domains: list[str] = []
    """Of verified addresses, in lower case; none lets in only who has an account."""
    role: Role = "viewer"
    organisation_id: UUID


class AuditEntry(Frozen):
    """Something that somebody did."""

    id: int
    organisation_id: UUID
    at: datetime
    actor_id: UUID | None
    actor: str
    action: str
    object_id: str
    data: dict[str, Any]
    request_id: str

    def chained(self, before: bytes) -> bytes:
        """Return the hash over this entry and the hash of the one before it."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(before + text.encode("utf-8", "surrogatepass")).digest()
