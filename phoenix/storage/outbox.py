"""Effects outside of Phoenix: rows from before they are done until long after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Row, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.cleaning import clean_json, clean_text
from phoenix.errors import EffectConflict
from phoenix.ports import Effect
from phoenix.storage.tables import CLOCK, outbox
from phoenix.telemetry.redaction import mask_line

OPEN = ("pending", "begun")


@dataclass(frozen=True)
class OutboxRow:
    """An effect as it is stored. `result` is there once it is done."""

    id: UUID
    project_id: UUID
    run_id: UUID | None
    effect: Effect
    status: str
    attempts: int
    result: dict[str, Any] | None


def _row(found: Row[Any]) -> OutboxRow:
    effect = Effect(found.kind, found.key, found.payload)
    return OutboxRow(
        found.id, found.project_id, found.run_id, effect, found.status, found.attempts, found.result
    )


async def add(
    connection: AsyncConnection,
    effect: Effect,
    *,
    project_id: UUID,
    run_id: UUID | None = None,
    posted: bool = False,
) -> OutboxRow:
    """Store an effect if its key is new, and return what is stored, locked until the transaction ends.

    One that is `posted` is done by a job; any other by the step that waits for its result.

    Raises:
        EffectConflict: another effect was asked for under its key.
    """
    payload = clean_json(dict(effect.payload))
    values = {
        "id": uuid4(),
        "project_id": project_id,
        "run_id": run_id,
        "kind": effect.kind,
        "key": clean_text(effect.key),
        "payload": payload,
        "posted": posted,
    }
    await connection.execute(
        insert(outbox).values(values).on_conflict_do_nothing(index_elements=["kind", "key"])
    )
    mine = select(outbox).where(outbox.c.kind == effect.kind, outbox.c.key == values["key"])
    row = _row((await connection.execute(mine.with_for_update())).one())
    if row.project_id != project_id or row.effect.payload != payload:
        raise EffectConflict(f"Another {effect.kind} was asked for under the key {values['key']!r}.")
    return row


async def begin(connection: AsyncConnection, row_id: UUID) -> OutboxRow | None:
    """Say that an effect is being done now, and return it; None when there is nothing left to do."""
    query = (
        update(outbox)
        .where(outbox.c.id == row_id, outbox.c.status.in_(OPEN))
        .values(status="begun", attempts=outbox.c.attempts + 1, updated_at=CLOCK)
        .returning(outbox)
    )
    found = (await connection.execute(query)).one_or_none()
    return None if found is None else _row(found)


async def finish(connection: AsyncConnection, row_id: UUID, result: dict[str, Any]) -> dict[str, Any]:
    """Say that an effect is done and return its result: the first one, when it was done twice at once."""
    query = (
        update(outbox)
        .where(outbox.c.id == row_id, outbox.c.status != "done")
        .values(status="done", result=clean_json(result), error=None, updated_at=CLOCK)
    )
    await connection.execute(query)
    stored = select(outbox.c.result).where(outbox.c.id == row_id)
    return dict((await connection.execute(stored)).scalar_one())


async def note_failure(
    connection: AsyncConnection, row_id: UUID, error: str, *, wait_seconds: float, last: bool = False
) -> None:
    """Note why an attempt failed, and when the next one is due; after the `last` there is none."""
    query = (
        update(outbox)
        .where(outbox.c.id == row_id, outbox.c.status.in_(OPEN))
        .values(
            status="failed" if last else "pending",
            error=clean_text(mask_line(error))[:4000],
            next_attempt_at=CLOCK + func.make_interval(0, 0, 0, 0, 0, 0, wait_seconds),
            updated_at=CLOCK,
        )
    )
    await connection.execute(query)


async def reopen(connection: AsyncConnection, row_id: UUID) -> None:
    """Let a failed effect be tried again."""
    query = update(outbox).where(outbox.c.id == row_id, outbox.c.status == "failed")
    await connection.execute(query.values(status="pending", attempts=0, updated_at=CLOCK))


async def idle(connection: AsyncConnection) -> list[UUID]:
    """Return posted effects that are due and have no live job. Effects of a running step are its own."""
    no_job = text(
        "NOT EXISTS (SELECT FROM procrastinate_jobs j"
        " WHERE j.lock = outbox.id::text AND j.status IN ('todo', 'doing'))"
    )
    query = select(outbox.c.id).where(
        outbox.c.posted, outbox.c.status.in_(OPEN), outbox.c.next_attempt_at <= CLOCK, no_job
    )
    return list((await connection.execute(query.order_by(outbox.c.next_attempt_at))).scalars())
