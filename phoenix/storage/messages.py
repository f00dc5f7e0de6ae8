"""Queries on messages to agents, and on who has read them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.steering import Message, MessageRead, SentMessage
from phoenix.storage.tables_people import message_reads, messages

COLUMNS = [messages.c[name] for name in Message.model_fields]


async def add(connection: AsyncConnection, message: Message) -> None:
    """Store a message. Its event's number, which it has, orders messages as they are committed."""
    await connection.execute(insert(messages).values(message.model_dump()))


async def after(connection: AsyncConnection, project_id: UUID, seq: int) -> list[Message]:
    """Return a project's messages after a number, in order."""
    query = (
        select(*COLUMNS)
        .where(messages.c.project_id == project_id, messages.c.seq > seq)
        .order_by(messages.c.seq)
    )
    return [Message(**row._mapping) for row in await connection.execute(query)]


async def until(connection: AsyncConnection, project_id: UUID, at: datetime) -> list[Message]:
    """Return a project's messages that were sent up to a time, in order."""
    query = (
        select(*COLUMNS)
        .where(messages.c.project_id == project_id, messages.c.at <= at)
        .order_by(messages.c.seq)
    )
    return [Message(**row._mapping) for row in await connection.execute(query)]


async def last_at(connection: AsyncConnection, project_id: UUID) -> datetime | None:
    """Return when a project's last message was sent."""
    query = select(func.max(messages.c.at)).where(messages.c.project_id == project_id)
    found: datetime | None = (await connection.execute(query)).scalar_one()
    return found


async def mark_read(
    connection: AsyncConnection,
    read: Sequence[Message],
    *,
    run_id: UUID,
    conversation: str,
    agent: str,
    task: str,
    turn: int,
) -> list[int]:
    """Note that messages were read in a conversation; return the numbers of those not noted before."""
    values = [
        {
            "project_id": message.project_id,
            "seq": message.seq,
            "run_id": run_id,
            "conversation": conversation,
            "agent": agent,
            "task": task,
            "turn": turn,
        }
        for message in read
    ]
    noted = upsert(message_reads).values(values).on_conflict_do_nothing().returning(message_reads.c.seq)
    return sorted((await connection.execute(noted)).scalars())


async def sent(
    connection: AsyncConnection, project_id: UUID, *, seq: int = 0, limit: int = 200
) -> list[SentMessage]:
    """Return a project's messages after a number, in order, each with who has read it."""
    found = (await after(connection, project_id, seq))[:limit]
    query = (
        select(message_reads)
        .where(
            message_reads.c.project_id == project_id,
            message_reads.c.seq.in_([message.seq for message in found]),
        )
        .order_by(message_reads.c.at, message_reads.c.conversation)
    )
    reads: dict[int, list[MessageRead]] = {}
    for row in await connection.execute(query):
        read = MessageRead(run_id=row.run_id, agent=row.agent, task=row.task, turn=row.turn, at=row.at)
        reads.setdefault(row.seq, []).append(read)
    return [SentMessage(message=message, reads=reads.get(message.seq, [])) for message in found]
