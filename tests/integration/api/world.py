"""Two organisations with one of everything that a route may name, and tokens of every kind."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from sqlalchemy import text

from phoenix.api.tokens import ALGORITHM, AUDIENCE, ISSUER
from phoenix.domain.approval import HumanRequest
from phoenix.domain.frozen import digest_of
from phoenix.domain.identity import MAY, Role
from phoenix.engine.identity import Opened
from phoenix.engine.launch import Launch
from phoenix.storage import identity
from phoenix.storage.database import transaction
from phoenix.workspace.repository import GitWorkspace
from tests.integration.api.conftest import Front

MARK = "x7-private-x7"
"""In every text of the organisation that others must not see."""
HOUR = 3600

Header = Mapping[str, str]


@dataclass
class Member:
    """Somebody in a role, with what their tokens are made of."""

    role: Role
    organisation_id: UUID
    opened: Opened

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return the claims of a good token, some of them others."""
        now = int(time.time())
        good = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(self.opened.user_id),
            "sid": str(self.opened.session_id),
            "org": str(self.organisation_id),
            "iat": now,
            "exp": now + HOUR,
            "jti": uuid4().hex,
        }
        return {name: value for name, value in (good | changes).items() if value is not None}

    def token(
        self, *, kid: str = "one", key: Any = b"k" * 64, algorithm: str = ALGORITHM, **changes: Any
    ) -> str:
        """Return a token, good unless something is given."""
        return jwt.encode(self.claims(**changes), key, algorithm=algorithm, headers={"kid": kid})

    @property
    def header(self) -> Header:
        """A good token, as it is sent."""
        return bearer(self.token())


def bearer(token: str) -> Header:
    """Return a credential as it is sent."""
    return {"Authorization": f"Bearer {token}"}


async def member(front: Front, role: Role, organisation_id: UUID) -> Member:
    """Make somebody who is signed in."""
    root = front.root.model_copy(update={"organisation_id": organisation_id})
    email = f"{role}-{uuid4().hex[:8]}@example.org"
    made = await front.identity.add_member(root, email=email, name=MARK, role=role, password=None)
    opened = await front.identity.open_session(made.user.id, organisation_id=organisation_id)
    return Member(role, organisation_id, opened)


@dataclass
class Things:
    """Ids of what routes name, by the name of the path's parameter."""

    ids: dict[str, str] = field(default_factory=dict)

    def path(self, template: str) -> str:
        """Return a route's path with these in it."""
        return template.format(**self.ids)


FIXED = {"kind": "spec", "name": "develop"}
"""Parameters that name no object of an organisation."""


def nothing() -> Things:
    """Return ids that nobody has."""
    names = ("project_id", "approval_id", "user_id", "key_id", "template_id", "webhook_id", "delivery_id")
    return Things({name: str(uuid4()) for name in (*names, "memory_id")} | FIXED)


async def repository(front: Front) -> tuple[Path, str]:
    """Return a project's folder with a repository in it, the same for all, and a commit of it."""
    folder = front.system.folder / "projects" / "one"
    workspace = GitWorkspace(folder, "x")
    if not folder.exists():
        base = await workspace.prepare(None)
        tree = await workspace.worktree("w", base)
        (tree.path / "README.md").write_text(MARK)
        (folder / "commit").write_text(await workspace.commit("w", message="Write", parents=[base]))
    return folder, (folder / "commit").read_text()


async def things(front: Front, organisation_id: UUID) -> Things:
    """Make one of everything in an organisation."""
    given = {"text": MARK, "repository": None, "path": "auto"}
    order = Launch(requirement=MARK, model="none:none", input=given, organisation_id=organisation_id)
    project = await front.system.engine.launch(order)
    shown = {"of": MARK}
    asked = HumanRequest(
        kind="approve", name="spec", value_digest=digest_of(shown), value=shown, verdicts=["approve"]
    )
    approval_id, template_id, webhook_id, delivery_id = uuid4(), uuid4(), uuid4(), uuid4()
    memory_id = uuid4()
    folder, commit = await repository(front)
    (folder.parent / str(project.id)).symlink_to(folder)
    async with transaction(front.system.database) as connection:
        values = {
            "id": approval_id,
            "project": project.id,
            "request": asked.model_dump_json(),
            "digest": asked.value_digest,
            "body": f'{{"title": "{MARK}"}}',
            "delivery": f'{{"commit": "{commit}"}}',
            "template": template_id,
            "webhook": webhook_id,
            "told": delivery_id,
            "memory": memory_id,
            "mark": MARK,
            "organisation": organisation_id,
            "launch": f'{{"requirement": "{MARK}", "model": "a:b"}}',
        }
        await connection.execute(
            text(
                "INSERT INTO approvals (id, project_id, run_id, interrupt_id, request, value_digest)"
                " SELECT :id, :project, id, 'i', CAST(:request AS jsonb), :digest FROM runs"
                " WHERE project_id = :project"
            ),
            values,
        )
        await connection.execute(
            text(
                "INSERT INTO artifacts (project_id, digest, kind, body)"
                " VALUES (:project, 'sha256:' || repeat('0', 64), 'spec', CAST(:body AS jsonb)),"
                " (:project, 'sha256:' || repeat('1', 64), 'Delivery', CAST(:delivery AS jsonb))"
            ),
            values,
        )
        await connection.execute(
            text(
                "INSERT INTO templates (id, organisation_id, name, launch)"
                " VALUES (:template, :organisation, CAST(:template AS text), CAST(:launch AS jsonb))"
            ),
            values,
        )
        await connection.execute(
            text(
                "INSERT INTO webhooks (id, organisation_id, url, description, kinds, secret, active)"
                " VALUES (:webhook, :organisation, 'https://hooks.example.org', :mark,"
                " '{project_finished}', '\\x00', false)"
            ),
            values,
        )
        await connection.execute(
            text(
                "INSERT INTO memories (id, organisation_id, kind, text, digest)"
                " VALUES (:memory, :organisation, 'snippet', :mark, CAST(:memory AS text))"
            ),
            values,
        )
        await connection.execute(
            text(
                "INSERT INTO webhook_deliveries"
                " (id, organisation_id, webhook_id, type, payload, status, ended_at)"
                " VALUES (:told, :organisation, :webhook, 'test',"
                " jsonb_build_object('of', CAST(:mark AS text)), 'failed', now())"
            ),
            values,
        )
    somebody = await member(front, "viewer", organisation_id)
    return Things(
        {
            "project_id": str(project.id),
            "approval_id": str(approval_id),
            "template_id": str(template_id),
            "webhook_id": str(webhook_id),
            "delivery_id": str(delivery_id),
            "memory_id": str(memory_id),
            "user_id": str(somebody.opened.user_id),
            "key_id": key_id_of(await key_of(front, somebody)),
        }
        | FIXED
    )


def key_id_of(secret: str) -> str:
    """Return the id of an API key."""
    return str(UUID(hex=secret.split("_")[2]))


async def key_of(
    front: Front, who: Member, *, scopes: list[str] | None = None, expires_at: Any = None
) -> str:
    """Return the secret of a new API key of somebody, with all scopes that the role has."""
    principal = await front.identity.of_session(who.opened.session_id)
    chosen: Any = sorted(MAY[who.role]) if scopes is None else scopes
    made = await front.identity.make_key(principal, name=MARK, scopes=chosen, expires_at=expires_at)
    return made[1]


# --- tokens that are refused -----------------------------------------------------------------

Refused = Callable[[Member], Header]

_STRANGE = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def _tampered(who: Member) -> Header:
    """Return a token whose claims were changed after it was signed."""
    head, _, signature = who.token().split(".")
    body = jwt.utils.base64url_encode(str(who.claims(role="admin")).replace("'", '"').encode()).decode()
    return bearer(f"{head}.{body}.{signature}")


def _none(who: Member) -> Header:
    return bearer(jwt.encode(who.claims(), None, algorithm="none", headers={"kid": "one"}))  # type: ignore[arg-type]


FORGED: Mapping[str, Refused] = {
    "nobody": lambda _: {},
    "expired": lambda who: bearer(who.token(exp=int(time.time()) - HOUR)),
    "not yet valid": lambda who: bearer(who.token(nbf=int(time.time()) + HOUR)),
    "made in the future": lambda who: bearer(who.token(iat=int(time.time()) + HOUR)),
    "forged signature": lambda who: bearer(who.token(key=b"x" * 64)),
    "no signature": lambda who: bearer(who.token().rpartition(".")[0] + "."),
    "algorithm none": _none,
    "another algorithm of the same family": lambda who: bearer(who.token(algorithm="HS512")),
    "another family of algorithms": lambda who: bearer(who.token(key=_STRANGE, algorithm="RS256")),
    "wrong audience": lambda who: bearer(who.token(aud="another-api")),
    "no audience": lambda who: bearer(who.token(aud=None)),
    "wrong issuer": lambda who: bearer(who.token(iss="another")),
    "unknown key": lambda who: bearer(who.token(kid="two")),
    "key named by a path": lambda who: bearer(who.token(kid="../../dev/null", key=b"\0" * 64)),
    "no expiry": lambda who: bearer(who.token(exp=None)),
    "no session": lambda who: bearer(who.token(sid=None)),
    "a session that nobody has": lambda who: bearer(who.token(sid=str(uuid4()))),
    "a session that is none": lambda who: bearer(who.token(sid="1 OR 1=1")),
    "refresh token": lambda who: bearer(who.opened.refresh_token),
    "tampered role": _tampered,
    "malformed": lambda _: bearer("a.b.c"),
    "empty": lambda _: {"Authorization": "Bearer "},
    "of another scheme": lambda who: {"Authorization": f"Basic {who.token()}"},
    "two credentials": lambda who: {**who.header, "X-API-Key": "phx_key_x"},
    "a key that nobody has": lambda _: {"X-API-Key": f"phx_key_{uuid4().hex}_secret"},
    "a key that is none": lambda _: {"X-API-Key": "phx_key_"},
}
"""Credentials that are never good, whoever shows them."""


async def ended(front: Front, who: Member) -> dict[str, Header]:
    """Return credentials of somebody like this that were good, and are no more."""

    async def another() -> Member:
        return await member(front, who.role, who.organisation_id)

    found: dict[str, Header] = {}
    signed_out = await another()
    await front.identity.sign_out(await front.identity.of_session(signed_out.opened.session_id))
    found["revoked session"] = signed_out.header
    old = await another()
    found["expired session"] = old.header
    root = front.root.model_copy(update={"organisation_id": who.organisation_id})
    gone = await another()
    gone_key = await key_of(front, gone)
    await front.identity.remove_member(root, gone.opened.user_id)
    found["of who was removed from the organisation"] = gone.header
    found["key of who was removed from the organisation"] = {"X-API-Key": gone_key}
    inactive = await another()
    found["of a deactivated user"] = inactive.header
    found["key of a deactivated user"] = {"X-API-Key": await key_of(front, inactive)}
    deleted = await another()
    found["of a deleted user"] = deleted.header
    owner = await another()
    revoked, late, wrong = [await key_of(front, owner) for _ in range(3)]
    found["revoked key"] = {"X-API-Key": revoked}
    found["expired key"] = {"X-API-Key": late}
    mixed = [*wrong.split("_", 3)[:3], revoked.split("_", 3)[3]]
    found["key with another's secret"] = {"X-API-Key": "_".join(mixed)}
    async with transaction(front.system.database) as connection:
        await connection.execute(
            text("UPDATE sessions SET expires_at = now() WHERE id = :id"), {"id": old.opened.session_id}
        )
        await identity.set_user(connection, inactive.opened.user_id, is_active=False)
        await connection.execute(text("DELETE FROM users WHERE id = :id"), {"id": deleted.opened.user_id})
        for column, key in (("revoked_at", revoked), ("expires_at", late)):
            await connection.execute(
                text(f"UPDATE api_keys SET {column} = now() WHERE id = CAST(:id AS uuid)"),
                {"id": key.split("_")[2]},
            )
    return found
