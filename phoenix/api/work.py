"""One request that changes something is one transaction, and the same request twice is done once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends
from fastapi.routing import APIRoute
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import Request
from starlette.responses import Response

from phoenix.api.access import PUBLIC, Gatekeeper, policy_of
from phoenix.api.errors import id_of
from phoenix.engine.work import Kept, Work, open_work
from phoenix.errors import PayloadInvalid

KEY_HEADER = "idempotency-key"
MAX_KEY_CHARS = 200
REPLAYED = "Idempotency-Replayed"
KEPT_HEADERS = ("location", "etag", "content-type")

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class WorkRoute(APIRoute):
    """Runs its endpoint in a transaction, committed before the answer is sent.

    With an `Idempotency-Key` the answer is kept in that same transaction: a repetition gets it again, one
    with another body is refused, and of many at once one does the work while the others wait for it.
    """

    def get_route_handler(self) -> Handler:
        inner = super().get_route_handler()
        if policy_of(self.dependant) == PUBLIC:
            return inner

        async def handler(request: Request) -> Response:
            database: AsyncEngine = request.app.state.database
            gatekeeper: Gatekeeper = request.app.state.gatekeeper
            # What is forged costs no connection to the database.
            find = await gatekeeper.claimed(request)
            async with open_work(database, find, id_of(request)) as work:
                request.state.work, request.state.principal = work, work.who
                return await _once(request, work, inner)

        return handler


class GroupedRoute(WorkRoute):
    """Runs its endpoint without a transaction: what it asks of the engine is committed with that of others.

    A request with an `Idempotency-Key` has its own, in which the answer is kept.
    """

    def get_route_handler(self) -> Handler:
        alone = super().get_route_handler()
        grouped = APIRoute.get_route_handler(self)

        async def handler(request: Request) -> Response:
            if KEY_HEADER in request.headers:
                return await alone(request)
            gatekeeper: Gatekeeper = request.app.state.gatekeeper
            request.state.principal = await gatekeeper.principal(request)
            return await grouped(request)

        return handler


async def _once(request: Request, work: Work, inner: Handler) -> Response:
    key = request.headers.get(KEY_HEADER)
    if key is None:
        return await inner(request)
    if not 1 <= len(key) <= MAX_KEY_CHARS or not key.isascii() or not key.isprintable():
        raise PayloadInvalid(
            f"An idempotency key has 1 to {MAX_KEY_CHARS} printable characters.", field=f"header.{KEY_HEADER}"
        )
    place = f"{request.method} {request.url.path}?{request.url.query}\n".encode()
    kept = await work.repeated(key, hashlib.sha256(place + await request.body()).digest())
    if kept is not None:
        return Response(kept.body, kept.status, {**kept.headers, REPLAYED: "true"})
    answer = await inner(request)
    headers = {name: answer.headers[name] for name in KEPT_HEADERS if name in answer.headers}
    await work.keep(key, Kept(status=answer.status_code, headers=headers, body=bytes(answer.body)))
    return answer


async def _work_of(request: Request) -> Work:
    work: Work = request.state.work
    return work


async def _work_or_none(request: Request) -> Work | None:
    work: Work | None = getattr(request.state, "work", None)
    return work


InWork = Annotated[Work, Depends(_work_of)]
"""The request's transaction, for endpoints of a `WorkRoute`."""

MaybeWork = Annotated[Work | None, Depends(_work_or_none)]
"""The request's transaction, for endpoints of a `GroupedRoute`; None where it has none."""
