"""The content-addressed store of a project's documents."""

from __future__ import annotations

from typing import Any, TypeVar
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from phoenix.domain.cleaning import clean_json
from phoenix.domain.frozen import Frozen
from phoenix.errors import NotFound, StorageError
from phoenix.storage.database import transaction
from phoenix.storage.tables import CLOCK, artifacts
from phoenix.telemetry.redaction import mask_known

M = TypeVar("M", bound=Frozen)


class ArtifactRows:
    """The port `Artifacts` of one project. A document's kind is its class's name."""

    def __init__(self, database: AsyncEngine, project_id: UUID) -> None:
        self._database = database
        self._project_id = project_id

    async def put(self, value: Frozen) -> str:
        """Store a model and return its digest. Idempotent.

        Text that PostgreSQL cannot hold is cleaned; the digest is that of what is stored.
        """
        body = mask_known(clean_json(value.model_dump(mode="json")))
        digest = type(value).model_validate(body).digest()
        row = {"project_id": self._project_id, "digest": digest, "kind": type(value).__name__, "body": body}
        stored = insert(artifacts).values(row)
        async with transaction(self._database) as connection:
            await connection.execute(
                stored.on_conflict_do_update(
                    index_elements=["project_id", "digest"],
                    set_={"stored_at": CLOCK, "inherited": False},
                )
            )
        return digest

    async def get(self, digest: str, kind: type[M]) -> M:
        """Return a stored model.

        Raises:
            NotFound: there is none of that digest and kind in this project.
            StorageError: it was stored by a version whose model does not fit any more.
        """
        query = select(artifacts.c.body).where(
            artifacts.c.project_id == self._project_id,
            artifacts.c.digest == digest,
            artifacts.c.kind == kind.__name__,
        )
        async with transaction(self._database) as connection:
            body = (await connection.execute(query)).scalar_one_or_none()
        if body is None:
            raise NotFound(f"This project has no {kind.__name__} {digest}.")
        try:
            return kind.model_validate(body)
        except ValidationError as error:
            raise StorageError(f"The stored {kind.__name__} {digest} does not fit: {error}") from error

    async def find(self, kind: type[M], **texts: str) -> list[M]:
        """Return the stored models of a kind whose fields hold these texts, the last stored first."""
        query = (
            select(artifacts.c.body)
            .where(
                artifacts.c.project_id == self._project_id,
                artifacts.c.kind == kind.__name__,
                *(artifacts.c.body[name].astext == text for name, text in texts.items()),
            )
            .order_by(artifacts.c.stored_at.desc(), artifacts.c.digest)
        )
        async with transaction(self._database) as connection:
            bodies = (await connection.execute(query)).scalars().all()
        return [found for body in bodies if (found := _fitting(kind, body)) is not None]


def _fitting(kind: type[M], body: Any) -> M | None:
    try:
        return kind.model_validate(body)
    except ValidationError:
        return None


async def latest(connection: AsyncConnection, project_id: UUID) -> dict[str, dict[str, Any]]:
    """Return the last stored document of each kind, by the kind in lower case; none that is inherited."""
    rank = (
        func.row_number()
        .over(partition_by=artifacts.c.kind, order_by=artifacts.c.stored_at.desc())
        .label("rank")
    )
    ranked = (
        select(artifacts.c.kind, artifacts.c.body, rank)
        .where(artifacts.c.project_id == project_id, artifacts.c.inherited.is_(False))
        .subquery()
    )
    rows = await connection.execute(select(ranked.c.kind, ranked.c.body).where(ranked.c.rank == 1))
    return {row.kind.lower(): row.body for row in rows}


async def latest_of(
    connection: AsyncConnection, project_id: UUID, kind: str
) -> tuple[dict[str, Any], str] | None:
    """Return the last stored document of a kind, in lower case, and its digest; None when there is none."""
    query = (
        select(artifacts.c.body, artifacts.c.digest)
        .where(
            artifacts.c.project_id == project_id,
            func.lower(artifacts.c.kind) == kind,
            artifacts.c.inherited.is_(False),
        )
        .order_by(artifacts.c.stored_at.desc())
        .limit(1)
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else (row.body, row.digest)
