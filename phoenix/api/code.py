"""A project's code as people look at it: the difference it made, and its files."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from phoenix.api.access import Policy
from phoenix.api.payloads import Page
from phoenix.domain.code import CodeFile
from phoenix.domain.identity import Principal
from phoenix.engine.projects import Projects
from phoenix.errors import NotFound, PayloadInvalid
from phoenix.ports import Code

router = APIRouter(prefix="/projects/{project_id}", tags=["code"])
"""Its routes hold no transaction while git is read."""

MOST_DIFF_BYTES = 4 * 1024**2
MOST_FILE_BYTES = 16 * 1024**2

At = Annotated[
    str,
    Query(
        max_length=200,
        description="`delivery`, the key of a task's run such as `build/1/T1`, or a commit's full id.",
        examples=["delivery"],
    ),
]
FilePath = Annotated[str, Query(min_length=1, max_length=4096, examples=["README.md"])]
Looking = Annotated[Principal, Depends(Policy("read", limit="code"))]


def _code(request: Request) -> Code:
    code: Code = request.app.state.code
    return code


async def _commit(request: Request, who: Principal, project_id: UUID, at: str) -> str:
    projects: Projects = request.app.state.projects
    return await projects.commit_at(who, project_id, at)


@router.get(
    "/diff",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "A diff."}},
)
async def diff(project_id: UUID, who: Looking, request: Request, at: At = "delivery") -> Response:
    """Read what a project has changed since it began, as a unified diff that is cut after 4 MiB."""
    commit = await _commit(request, who, project_id, at)
    base = await _code(request).base(project_id)
    found = None
    if base is not None:
        found = await _code(request).patch(project_id, base, commit, max_bytes=MOST_DIFF_BYTES)
    if found is None:
        raise _none(at)
    return Response(found, media_type="text/plain", headers={"ETag": f'"{commit}"'})


@router.get("/files")
async def files(
    project_id: UUID,
    who: Looking,
    request: Request,
    at: At = "delivery",
    cursor: Annotated[str, Query(max_length=4096, description="`next` of the page before.")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 500,
) -> Page[CodeFile]:
    """List the files of a commit. Links and nested repositories are named, and lead nowhere."""
    commit = await _commit(request, who, project_id, at)
    after = _checked(cursor, "query.cursor")
    found = await _code(request).files(project_id, commit, after=after, limit=limit + 1)
    if found is None:
        raise _none(at)
    return Page(items=found[:limit], next=found[limit - 1].path if len(found) > limit else None)


@router.get(
    "/files/content",
    response_class=Response,
    responses={
        200: {
            "content": {
                "text/plain": {"schema": {"type": "string"}},
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            },
            "description": "The file, to be saved: as text where it is text, and never as a page.",
        }
    },
)
async def content(
    project_id: UUID, who: Looking, request: Request, path: FilePath, at: At = "delivery"
) -> Response:
    """Read one file of a commit, of at most 16 MiB."""
    commit = await _commit(request, who, project_id, at)
    _checked(path, "query.path")
    size = await _code(request).size(project_id, commit, path)
    if size is not None and size > MOST_FILE_BYTES:
        raise PayloadInvalid(
            f"This file has {size} bytes; {MOST_FILE_BYTES} are given out.",
            field="query.path",
            hint="Fetch the branch with git.",
        )
    data = None if size is None else await _code(request).read(project_id, commit, path)
    if data is None:
        raise NotFound("There is no such file.", field="query.path", hint="`/files` lists them.")
    name = quote(path.rpartition("/")[2], safe="")
    headers = {"ETag": f'"{commit}"', "Content-Disposition": f"attachment; filename*=UTF-8''{name}"}
    return Response(data, media_type=_media_type(data), headers=headers)


def _none(at: str) -> NotFound:
    return NotFound(f"This project has no code at {at!r}.", field="query.at", hint="See its checkpoints.")


def _checked(path: str, field: str) -> str:
    if "\0" in path:
        raise PayloadInvalid("No path holds a zero byte.", field=field)
    return path


def _media_type(data: bytes) -> str:
    """Return text where it is text, else bytes: nothing that a browser would run or draw."""
    if b"\0" in data:
        return "application/octet-stream"
    try:
        data.decode()
    except UnicodeDecodeError:
        return "application/octet-stream"
    return "text/plain"
