"""The response cache in PostgreSQL: answers of models, by organisation and request, until they expire."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import delete, func, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from phoenix.domain.cleaning import clean_json
from phoenix.domain.run import KeptAnswer
from phoenix.storage.database import transaction
from phoenix.storage.tables import model_answers_cache as answers

SWEPT = 100
"""Expired answers that go when one is kept: more than come, so that they do not pile up."""


class AnswerRows:
    """An `AnswerCache` of one organisation."""

    def __init__(self, database: AsyncEngine, organisation_id: UUID) -> None:
        self._database = database
        self._organisation_id = organisation_id

    async def find(self, request: str) -> KeptAnswer | None:
        """Return the answer to a request; one that expired, or is of another version's form, is missing."""
        query = select(answers.c.answer).where(
            answers.c.organisation_id == self._organisation_id,
            answers.c.request == request,
            answers.c.expires_at > func.clock_timestamp(),
        )
        async with transaction(self._database) as connection:
            found = (await connection.execute(query)).scalar_one_or_none()
        try:
            return None if found is None else KeptAnswer.model_validate(found)
        except ValidationError:
            return None

    async def keep(self, request: str, answer: KeptAnswer, *, seconds: float) -> None:
        """Keep an answer for so long, in place of an earlier one; expired ones go."""
        stored = insert(answers).values(
            organisation_id=self._organisation_id,
            request=request,
            answer=clean_json(answer.model_dump(mode="json")),
            expires_at=func.clock_timestamp() + timedelta(seconds=seconds),
        )
        fresh = {name: stored.excluded[name] for name in ("answer", "expires_at")}
        async with transaction(self._database) as connection:
            await connection.execute(
                stored.on_conflict_do_update(index_elements=["organisation_id", "request"], set_=fresh)
            )
            key = (answers.c.organisation_id, answers.c.request)
            expired = (
                select(*key)
                .where(answers.c.expires_at <= func.clock_timestamp())
                .order_by(answers.c.expires_at)
                .limit(SWEPT)
                .with_for_update(skip_locked=True)
            )
            await connection.execute(delete(answers).where(tuple_(*key).in_(expired)))
