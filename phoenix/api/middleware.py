"""What surrounds every request: an id, limits on the body, safe headers, and a line in the log."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Sequence
from typing import Any

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from phoenix.api.errors import internal, of_error
from phoenix.errors import PayloadInvalid, PayloadTooLarge
from phoenix.telemetry import tracing
from phoenix.telemetry.metrics import REQUEST_SECONDS, REQUESTS
from phoenix.telemetry.spans import Attribute, Span, traceparent_of

log = structlog.get_logger(__name__)

ID_FORM = re.compile(r"[A-Za-z0-9._:-]{1,128}")
LINGER_BYTES = 8 * 1024**2
"""So much of a body that is too large is read on and thrown away: a client that is cut off while it sends
never reads why."""
MAX_DEPTH = 64
"""How deeply arrays and objects of a body may lie in each other."""

SAFE_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)
POLICY = "default-src 'none'; frame-ancestors 'none'"
DOCS_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net; "
    "style-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net https://fonts.googleapis.com; "
    "font-src https://fonts.gstatic.com; img-src 'self' data: https:; worker-src blob:; "
    "frame-ancestors 'none'"
)
"""The pages at /docs and /redoc load their viewer from where FastAPI points."""


METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestContext:
    """Gives each request an id, logs it, adds safe headers, and turns a crash into a plain answer.

    Args:
        app: What is surrounded.
        docs: Paths that show pages to people.
        is_secure: The service is reached over TLS only; browsers are told so.
    """

    def __init__(self, app: ASGIApp, *, docs: Sequence[str] = (), is_secure: bool = False) -> None:
        self.app = app
        self.docs = tuple(docs)
        self.is_secure = is_secure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        asked = Headers(scope=scope).get("x-request-id", "")
        request_id = asked if ID_FORM.fullmatch(asked) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        method = scope["method"] if scope.get("method") in METHODS else "other"
        with (
            structlog.contextvars.bound_contextvars(request_id=request_id),
            tracing.request(method, Headers(scope=scope).get("traceparent", "")) as span,
        ):
            await self._serve(scope, receive, send, request_id, span)

    async def _serve(
        self, scope: Scope, receive: Receive, send: Send, request_id: str, span: Span | None
    ) -> None:
        started = time.monotonic()
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._add_headers(message, scope["path"], request_id)
                if span is not None:
                    MutableHeaders(scope=message)["traceparent"] = traceparent_of(span)
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except Exception as error:  # the edge: logged, and answered without detail
            log.error("request_crashed", method=scope.get("method"), path=scope["path"], exc_info=error)
            if status or scope["type"] == "websocket":
                return
            await internal(request_id)(scope, receive, sending)
        finally:
            seconds = round(time.monotonic() - started, 4)
            about: dict[str, Any] = {"method": scope.get("method", "WS"), "path": scope["path"]}
            log.info("request_served", **about, status=status, seconds=seconds)
            _count(scope, status, seconds)
            if span is not None:
                _tell(span, scope, status, request_id)

    def _add_headers(self, message: Message, path: str, request_id: str) -> None:
        headers = MutableHeaders(scope=message)
        headers["X-Request-ID"] = request_id
        for name, value in SAFE_HEADERS:
            headers.setdefault(name, value)
        headers.setdefault("Content-Security-Policy", DOCS_POLICY if path in self.docs else POLICY)
        if self.is_secure:
            headers.setdefault("Strict-Transport-Security", "max-age=31536000; includeSubDomains")


def _tell(span: Span, scope: Scope, status: int, request_id: str) -> None:
    """Let a span say which route served a request, and how."""
    route = getattr(scope.get("route"), "path", "none")
    span.name = f"{span.name} {route}"
    said: dict[str, Attribute] = {"http.route": route, "http.response.status_code": status}
    span.attributes |= said | {"phoenix.request.id": request_id}
    if status >= 500 or not status:
        span.end("failed")


def _count(scope: Scope, status: int, seconds: float) -> None:
    """Count a request under the route that served it: paths hold ids."""
    route = getattr(scope.get("route"), "path", "none")
    method = scope["method"] if scope.get("method") in METHODS else "other"
    REQUESTS.labels(method, route, str(status)).inc()
    if scope["type"] == "http" and not route.endswith("/events"):
        REQUEST_SECONDS.labels(method, route).observe(seconds)


class BodyLimits:
    """Reads a request's body whole before anything else sees it, within bounds of size, depth and time.

    Args:
        app: What is surrounded.
        max_bytes: The largest body.
        seconds: How long a client may take to send it.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, seconds: float) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD", "OPTIONS"):
            await self.app(scope, receive, send)
            return
        try:
            body = await self._body(scope, receive)
        except (PayloadTooLarge, PayloadInvalid) as error:
            await self._refuse(error)(scope, receive, send)
            return
        if body is None:  # the client has gone
            return
        await self.app(scope, _replay(body, receive), send)

    def _refuse(self, error: PayloadTooLarge | PayloadInvalid) -> JSONResponse:
        answer = of_error(error)
        # What is still on its way would be taken for the next request.
        answer.headers["Connection"] = "close"
        return answer

    async def _body(self, scope: Scope, receive: Receive) -> bytes | None:
        headers = Headers(scope=scope)
        declared = headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > self.max_bytes:
            asks_first = headers.get("expect", "").lower() == "100-continue"
            if asks_first or int(declared) > self.max_bytes + LINGER_BYTES:
                raise self._too_large()
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self.seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    chunk = message.get("body", b"")
                    size += len(chunk)
                    if size <= self.max_bytes:
                        chunks.append(chunk)
                    else:
                        chunks.clear()
                    if not message.get("more_body") or size > self.max_bytes + LINGER_BYTES:
                        break
            if size > self.max_bytes:
                raise self._too_large()
        except TimeoutError as error:
            raise PayloadInvalid(
                f"The body did not arrive within {self.seconds:g} s.", hint="Send it faster."
            ) from error
        body = b"".join(chunks)
        if is_deeper(body, MAX_DEPTH):
            raise PayloadInvalid(f"The body is nested more than {MAX_DEPTH} deep.", field="body")
        return body

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(
            f"The body has more than {self.max_bytes} bytes.",
            hint="Put what is large into the repository, and refer to it.",
        )


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a receive that gives the body once, and then what the client does."""
    is_given = False

    async def replaying() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replaying


_OUTSIDE = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)


def is_deeper(body: bytes, depth: int) -> bool:
    """Tell whether JSON is nested deeper than so, without parsing it."""
    if body.count(b"[") + body.count(b"{") <= depth:
        return False
    level = 0
    for found in _OUTSIDE.finditer(body):
        sign = found.group()[:1]
        level += 1 if sign in b"[{" else -1 if sign in b"]}" else 0
        if level > depth:
            return True
    return False
