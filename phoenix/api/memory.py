"""What the caller's organisation remembers: search, read, pin, correct, forget, export, import, rebuild."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from phoenix.api.access import Admin, Developer, Reader
from phoenix.api.payloads import Page, Payload
from phoenix.api.versions import IfMatch, etag, expected
from phoenix.api.work import InWork, WorkRoute
from phoenix.domain.lessons import LessonKind, Tag
from phoenix.domain.memory import (
    MAX_MEMORY_CHARS,
    MAX_MEMORY_TAGS,
    Language,
    Licence,
    MemoryDraft,
    MemoryItem,
    MemoryQuery,
    Origin,
    Written,
)
from phoenix.domain.memory_report import MemoryReport
from phoenix.engine.memories import Forgotten, Memories, Rebuilt, Searched
from phoenix.errors import PayloadInvalid

router = APIRouter(prefix="/memory", tags=["memory"], route_class=WorkRoute)

MAX_IMPORT = 200
MAX_QUERY_CHARS = 4000

MemoryText = Annotated[str, Field(min_length=1, max_length=MAX_MEMORY_CHARS, pattern=r"\S")]
Tags = Annotated[list[Tag], Field(max_length=MAX_MEMORY_TAGS)]


class MemoryChange(Payload):
    """What can be changed of a memory; what is left out stays."""

    text: MemoryText | None = None
    tags: Tags | None = None
    language: Language | None = None
    licence: Licence | None = None
    pinned: bool | None = None
    """A pinned one does not expire, and comes before others like it."""


class BroughtMemory(Payload):
    """A memory that a person brings, as an export has it."""

    kind: LessonKind
    text: MemoryText
    tags: Tags = []
    language: Language = ""
    licence: Licence = ""
    origin: Origin = "foreign"
    """`foreign` unless it is your own."""
    agent: Annotated[str, Field(max_length=100)] = ""
    """Who wrote it; whoever brings it when left out."""
    commit: Annotated[str, Field(pattern=r"^([0-9a-f]{40})?$")] = ""


class Brought(Payload):
    """Memories to bring: all of them or none."""

    items: Annotated[list[BroughtMemory], Field(min_length=1, max_length=MAX_IMPORT)]


def _memories(request: Request) -> Memories:
    memories: Memories = request.app.state.memories
    return memories


@router.get("")
async def list_memories(
    _who: Reader,
    work: InWork,
    request: Request,
    cursor: Annotated[str, Query(max_length=200)] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> Page[MemoryItem]:
    """List what is remembered, newest first: all pages together are an export."""
    items, following = await _memories(request).page(work, cursor=cursor, limit=limit)
    return Page(items=items, next=following)


@router.get("/search")
async def search_memories(
    _who: Reader,
    work: InWork,
    request: Request,
    text: Annotated[str, Query(min_length=1, max_length=MAX_QUERY_CHARS)],
    kind: Annotated[list[LessonKind] | None, Query()] = None,
    language: Annotated[str, Query(max_length=30)] = "",
    limit: Annotated[int, Query(ge=1, le=50)] = 10,
) -> Searched:
    """Search by meaning and by words, the best first. `missed` says why meaning was not searched."""
    if "\0" in text or "\0" in language:
        raise PayloadInvalid("The text holds NUL.", field="query.text")
    query = MemoryQuery(
        text=text, kinds=kind or [], languages=[language] if language else [], licences=[], limit=limit
    )
    return await _memories(request).search(work, query)


@router.get("/report")
async def report_memory(_who: Reader, work: InWork, request: Request) -> MemoryReport:
    """Tell what memory is worth: projects with it beside those held out, with how certain that is."""
    return await _memories(request).report(work)


@router.post("/import", status_code=201)
async def import_memories(given: Brought, who: Admin, work: InWork, request: Request) -> Written:
    """Bring memories. Secrets and personal data are masked; what is known already is left as it is."""
    drafts = [
        MemoryDraft.model_validate(item.model_dump() | {"agent": item.agent or who.email})
        for item in given.items
    ]
    return await _memories(request).bring(work, drafts)


@router.post("/rebuild")
async def rebuild_vectors(_who: Admin, work: InWork, request: Request) -> Rebuilt:
    """Make all vectors anew from the texts, also where what held them cannot be read any more."""
    return await _memories(request).rebuild(work)


@router.get("/{memory_id}")
async def read_memory(
    memory_id: UUID, _who: Reader, work: InWork, request: Request, response: Response
) -> MemoryItem:
    """Read a memory, with where it comes from and what came of it."""
    found = await _memories(request).get(work, memory_id)
    response.headers["ETag"] = etag(found.version)
    return found


@router.patch("/{memory_id}")
async def change_memory(
    memory_id: UUID,
    given: MemoryChange,
    _who: Developer,
    work: InWork,
    request: Request,
    response: Response,
    if_match: IfMatch = None,
) -> MemoryItem:
    """Correct a memory, or pin it."""
    values: dict[str, Any] = given.model_dump(exclude_none=True)
    changed = await _memories(request).change(work, memory_id, values, version=expected(if_match))
    response.headers["ETag"] = etag(changed.version)
    return changed


@router.delete("/{memory_id}")
async def forget_memory(memory_id: UUID, _who: Admin, work: InWork, request: Request) -> Forgotten:
    """Forget a memory: text, vector, and what projects quote of it for agents to come."""
    return await _memories(request).forget(work, memory_id)
