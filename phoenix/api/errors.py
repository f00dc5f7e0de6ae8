"""Errors as problem+json (RFC 9457): a status for each class, a stable code, and what to do; no traces."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from phoenix import errors
from phoenix.errors import DomainInvalid, PayloadInvalid, PhoenixError, RateLimited
from phoenix.telemetry.redaction import mask_line, redact

log = structlog.get_logger(__name__)

PROBLEM = "application/problem+json"
RETRY_SECONDS = 5

STATUS: Mapping[type[PhoenixError], int] = {
    PhoenixError: 500,
    errors.InputError: 422,
    errors.NotFound: 404,
    errors.SecretUnavailable: 503,
    errors.PayloadTooLarge: 413,
    errors.Conflict: 409,
    errors.VersionConflict: 412,
    errors.Unauthenticated: 401,
    errors.AccessError: 403,
    errors.RateLimited: 429,
    errors.ProviderUnavailable: 503,
    errors.FlowError: 422,
    errors.DomainInvalid: 422,
    errors.AgentError: 500,
    errors.ModelError: 502,
    errors.ModelRateLimited: 503,
    errors.ModelUnavailable: 503,
    errors.BudgetSpent: 409,
    errors.SandboxError: 503,
    errors.WorkspaceError: 500,
    errors.StorageError: 503,
    errors.CheckpointRefused: 500,
    errors.ServiceError: 502,
}
"""The status of a class, and of those below it that have none of their own."""

WORDS: Mapping[int, tuple[str, str]] = {
    400: ("bad_request", "The request cannot be read."),
    404: ("not_found", "There is nothing at this address."),
    405: ("method_not_allowed", "This address does not take that method."),
    406: ("not_acceptable", "Nothing here has the form that is asked for."),
    413: ("payload_too_large", "The request is too large."),
    415: ("unsupported_media_type", "The body is not of a type that this address takes."),
}
"""What the framework itself refuses, as code and title."""


def status_of(error: PhoenixError) -> int:
    """Return the HTTP status of an error: that of its nearest class that has one."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def problem(
    status: int,
    code: str,
    title: str,
    *,
    detail: str = "",
    request_id: str = "",
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> JSONResponse:
    """Return a problem+json answer; empty members are left out."""
    body = {"type": f"urn:phoenix:problem:{code}", "title": title, "status": status, "code": code}
    members = {"detail": detail, "request_id": request_id, **more}
    body |= {name: redact(value, masking=mask_line) for name, value in members.items() if value}
    return JSONResponse(body, status_code=status, media_type=PROBLEM, headers=dict(headers or {}))


def of_error(error: PhoenixError, request_id: str = "") -> JSONResponse:
    """Return what a client reads of an error of Phoenix."""
    status = status_of(error)
    title = (type(error).__doc__ or "").strip().splitlines()[0]
    pairs = error.problems if isinstance(error, DomainInvalid | PayloadInvalid) else ()
    return problem(
        status,
        error.code,
        title,
        # What went wrong inside is for the log.
        detail="" if status == 500 else error.message,
        request_id=request_id,
        headers=_headers(error, status),
        hint=error.hint,
        field=error.field,
        errors=[{"field": field, "message": message} for field, message in pairs],
    )


def _headers(error: PhoenixError, status: int) -> dict[str, str]:
    if isinstance(error, RateLimited):
        return {"Retry-After": str(max(1, math.ceil(error.after_seconds)))}
    if status == 503:
        return {"Retry-After": str(RETRY_SECONDS)}
    return {"WWW-Authenticate": "Bearer"} if status == 401 else {}


def internal(request_id: str) -> JSONResponse:
    """Return what a client reads of an error that nobody foresaw."""
    hint = "Give this request id to whoever runs the service; the log has the rest."
    return problem(500, "internal_error", "Something went wrong here.", request_id=request_id, hint=hint)


def install(app: FastAPI) -> None:
    """Make an application answer every error as problem+json."""
    app.add_exception_handler(PhoenixError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    # It is raised again after the answer, and logged by the middleware around the application.
    app.add_exception_handler(Exception, _on_crash)


def id_of(request: Request) -> str:
    """Return the request's id; empty outside of the middleware that gives it."""
    return str(request.scope.get("state", {}).get("request_id", ""))


async def _on_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, PhoenixError)
    if status_of(error) >= 500:
        log.warning("request_failed", error=error.code, message=error.message, exc_info=error)
    return of_error(error, id_of(request))


async def _on_crash(request: Request, _error: Exception) -> JSONResponse:
    return internal(id_of(request))


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    pairs = tuple((_place(each["loc"]), str(each["msg"])) for each in error.errors())
    field = pairs[0][0] if pairs else ""
    refused = PayloadInvalid(
        "The request does not have the form that this address takes.",
        problems=pairs,
        field=field,
        hint="See /docs for the form.",
    )
    return of_error(refused, id_of(request))


def _place(location: tuple[int | str, ...]) -> str:
    """Return a dotted path: `body.spec.title`, `query.limit`."""
    return ".".join(str(part) for part in location)


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code, title = WORDS.get(error.status_code, ("refused", "The request is refused."))
    return problem(
        error.status_code, code, title, request_id=id_of(request), headers=error.headers, hint="See /docs."
    )
