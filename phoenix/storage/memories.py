"""Queries on what organisations remember."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Row, and_, delete, func, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from phoenix.domain.memory import MemoryDraft, MemoryItem, MemoryQuery
from phoenix.errors import AlreadyThere, NotFound, VersionConflict
from phoenix.storage.search import read_cursor
from phoenix.storage.tables import CLOCK, artifacts, organisations, projects
from phoenix.storage.tables_memory import memories

COLUMNS = [memories.c[name] for name in MemoryItem.model_fields]
MAX_WORDS = 24
"""Of a query that are looked for: each more makes the search slower."""
LEAST_WORD = 2
LEAST_TELLING = 4
"""Shorter words are in every text."""

_WORDS = re.compile(r"[^\W_]+")


def item_of(row: Row[Any]) -> MemoryItem:
    """Return an item as it is known to the rest of Phoenix."""
    values = dict(row._mapping)
    return MemoryItem(**values | {"tags": values["tags"].split()})


async def lock(connection: AsyncConnection, organisation_id: UUID) -> None:
    """Let others that write an organisation's memory wait until this transaction ends."""
    query = select(organisations.c.id).where(organisations.c.id == organisation_id)
    await connection.execute(query.with_for_update(key_share=True))


async def amount(connection: AsyncConnection, organisation_id: UUID) -> tuple[int, int]:
    """Return how many items an organisation keeps, and the bytes of their texts."""
    query = select(func.count(), func.coalesce(func.sum(func.octet_length(memories.c.text)), 0))
    row = (await connection.execute(query.where(memories.c.organisation_id == organisation_id))).one()
    return int(row[0]), int(row[1])


async def has_any(connection: AsyncConnection, organisation_id: UUID) -> bool:
    """Tell whether an organisation remembers anything."""
    query = select(memories.c.id).where(memories.c.organisation_id == organisation_id).limit(1)
    return (await connection.execute(query)).first() is not None


async def add(
    connection: AsyncConnection, organisation_id: UUID, drafts: Sequence[MemoryDraft]
) -> list[UUID]:
    """Store drafts and return the ids of those that were not there yet."""
    if not drafts:
        return []
    rows = [
        draft.model_dump(mode="json", exclude={"project", "tags"})
        | {
            "id": uuid4(),
            "organisation_id": organisation_id,
            "digest": draft.address(),
            "tags": " ".join(draft.tags),
            "project_id": draft.project,
        }
        for draft in drafts
    ]
    stored = insert(memories).values(rows)
    unless = stored.on_conflict_do_nothing(index_elements=["organisation_id", "digest"])
    return list((await connection.execute(unless.returning(memories.c.id))).scalars())


async def get(connection: AsyncConnection, organisation_id: UUID, memory_id: UUID) -> MemoryItem:
    """Return an item.

    Raises:
        NotFound: the organisation has none of that id.
    """
    query = select(*COLUMNS).where(_is(organisation_id, memory_id))
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFound(f"There is no memory {memory_id}.", hint="`phoenix memory search` finds them.")
    return item_of(row)


async def these(
    connection: AsyncConnection,
    organisation_id: UUID,
    ids: Collection[UUID],
    query: MemoryQuery | None = None,
) -> dict[UUID, MemoryItem]:
    """Return items by id; those that are gone, have expired or do not fit a query are left out."""
    if not ids:
        return {}
    where = [memories.c.organisation_id == organisation_id, memories.c.id.in_(ids)]
    where += _fitting(query) if query else []
    rows = await connection.execute(select(*COLUMNS).where(*where))
    return {row.id: item_of(row) for row in rows}


async def by_words(
    connection: AsyncConnection, organisation_id: UUID, query: MemoryQuery, *, limit: int
) -> list[UUID]:
    """Return ids of items that hold any of a query's words, by rank."""
    asked = any_word(query.text)
    if not asked:
        return []
    looked = func.to_tsquery("english", asked)
    # Divided by the logarithm of the length: long texts hold more words by chance.
    rank = func.ts_rank(memories.c.words, looked, 1)
    found = (
        select(memories.c.id)
        .where(memories.c.organisation_id == organisation_id, memories.c.words.op("@@")(looked))
        .where(*_fitting(query))
        .order_by(rank.desc(), memories.c.id)
        .limit(limit)
    )
    return list((await connection.execute(found)).scalars())


def any_word(said: str) -> str:
    """Return a text search query for any of the first words of a text; empty when it has none."""
    words = dict.fromkeys(word.lower() for word in _WORDS.findall(said) if len(word) >= LEAST_WORD)
    return " | ".join(list(words)[:MAX_WORDS])


def words_in(said: str) -> set[str]:
    """Return the words of a text that are long enough to say something, in small letters."""
    return {word.lower() for word in _WORDS.findall(said) if len(word) >= LEAST_TELLING}


def _fitting(query: MemoryQuery) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = [
        or_(memories.c.expires_at.is_(None), memories.c.expires_at > CLOCK, memories.c.pinned)
    ]
    if query.kinds:
        where.append(memories.c.kind.in_(query.kinds))
    if query.languages:
        where.append(memories.c.language.in_(["", *query.languages]))
    is_foreign_code = and_(memories.c.origin == "foreign", memories.c.kind == "snippet")
    if query.licences:
        where.append(or_(~is_foreign_code, memories.c.licence.in_(query.licences)))
    return where


async def page(
    connection: AsyncConnection, organisation_id: UUID, *, cursor: str = "", limit: int = 50
) -> list[MemoryItem]:
    """Return items of an organisation, newest first, those behind a place.

    Raises:
        PayloadInvalid: the cursor is none.
    """
    query = select(*COLUMNS).where(memories.c.organisation_id == organisation_id)
    if cursor:
        query = query.where(tuple_(memories.c.created_at, memories.c.id) < read_cursor(cursor))
    query = query.order_by(memories.c.created_at.desc(), memories.c.id.desc()).limit(limit)
    return [item_of(row) for row in await connection.execute(query)]


async def change(
    connection: AsyncConnection,
    organisation_id: UUID,
    memory_id: UUID,
    values: Mapping[str, Any],
    *,
    version: int | None = None,
) -> MemoryItem:
    """Change columns of an item and raise its version.

    Raises:
        NotFound: the organisation has none of that id.
        VersionConflict: it is at another version than was expected.
        AlreadyThere: another item has that text.
    """
    await get(connection, organisation_id, memory_id)
    if "digest" in values:
        same = select(memories.c.id).where(
            memories.c.organisation_id == organisation_id,
            memories.c.digest == values["digest"],
            memories.c.id != memory_id,
        )
        if (await connection.execute(same)).first() is not None:
            raise AlreadyThere("Another memory says this already.", field="body.text")
    where = [_is(organisation_id, memory_id)]
    where += [memories.c.version == version] if version is not None else []
    changed = update(memories).where(*where).values(version=memories.c.version + 1, **values)
    row = (await connection.execute(changed.returning(*COLUMNS))).one_or_none()
    if row is None:
        raise VersionConflict("The memory has changed since it was read.", hint="Read it again.")
    return item_of(row)


async def remove(connection: AsyncConnection, organisation_id: UUID, ids: Sequence[UUID]) -> list[UUID]:
    """Delete items, and the artifacts of projects that quote them; return the ids of those found."""
    gone = delete(memories).where(memories.c.organisation_id == organisation_id, memories.c.id.in_(ids))
    found = list((await connection.execute(gone.returning(memories.c.id))).scalars())
    own = select(projects.c.id).where(projects.c.organisation_id == organisation_id)
    for memory_id in found:
        like_it = func.jsonb_build_array(func.jsonb_build_object("id", str(memory_id)))
        quoted = artifacts.c.body["items"].op("@>")(like_it)
        await connection.execute(
            delete(artifacts).where(artifacts.c.project_id.in_(own), artifacts.c.kind == "Recall", quoted)
        )
    return found


async def unplaced(
    connection: AsyncConnection, organisation_id: UUID, place: str, *, after: UUID | None, limit: int
) -> dict[UUID, str]:
    """Return the texts of items, by id and after one, whose vectors are not at a place."""
    query = select(memories.c.id, memories.c.text, memories.c.tags).where(
        memories.c.organisation_id == organisation_id, memories.c.place != place
    )
    if after is not None:
        query = query.where(memories.c.id > after)
    rows = await connection.execute(query.order_by(memories.c.id).limit(limit))
    return {row.id: f"{row.text} {row.tags}".strip() for row in rows}


async def set_place(
    connection: AsyncConnection, organisation_id: UUID, ids: Collection[UUID], place: str
) -> list[UUID]:
    """Note where the vectors of items are; return the ids of those that are still there."""
    placed = update(memories).where(memories.c.organisation_id == organisation_id, memories.c.id.in_(ids))
    return list((await connection.execute(placed.values(place=place).returning(memories.c.id))).scalars())


async def move_place(connection: AsyncConnection, organisation_id: UUID, before: str, after: str) -> None:
    """Note that vectors are elsewhere now.

    Rows that somebody else is changing are left: their vectors count as missing, and are stored again. To
    wait for them could be for ever, since whoever forgets waits for this with a row deleted.
    """
    there = select(memories.c.id).where(
        memories.c.organisation_id == organisation_id, memories.c.place == before
    )
    placed = update(memories).where(
        memories.c.organisation_id == organisation_id,
        memories.c.id.in_(there.with_for_update(skip_locked=True)),
    )
    await connection.execute(placed.values(place=after))


async def expired(connection: AsyncConnection, organisation_id: UUID, *, limit: int = 500) -> list[UUID]:
    """Return ids of items whose time is over."""
    query = select(memories.c.id).where(
        memories.c.organisation_id == organisation_id,
        memories.c.expires_at <= CLOCK,
        ~memories.c.pinned,
    )
    return list((await connection.execute(query.limit(limit))).scalars())


def _is(organisation_id: UUID, memory_id: UUID) -> ColumnElement[bool]:
    return and_(memories.c.organisation_id == organisation_id, memories.c.id == memory_id)
