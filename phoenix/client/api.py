"""What commands ask of a service, one function for each request."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from decimal import Decimal
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid4

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from phoenix.client.costs import Costs, UsagePage
from phoenix.client.patience import Patience, Presence
from phoenix.client.problems import error_of, not_phoenix
from phoenix.client.stream import payloads
from phoenix.domain.approval import Approval, Decision
from phoenix.domain.history import ForkOrder, Looked, Moment
from phoenix.domain.organisation import UsageBy, UsageLine
from phoenix.domain.recorded import RecordedSpan, SpanCounts, SpanPage
from phoenix.domain.run import Event, Project
from phoenix.domain.steering import Kept, Message
from phoenix.domain.upkeep import UpkeepReport
from phoenix.domain.worker import Standing, Worker
from phoenix.engine.launch import Launch, Listed, Overview
from phoenix.errors import NotFound, PhoenixError, ServiceFailed, ServiceUnreachable

T = TypeVar("T")

PREFIX = "/api/v1"
STREAM_SECONDS = 45.0
"""Without a byte for so long, three beats of the service, a stream is taken for dead."""
LONG_SECONDS = 600.0
"""For what reads all there is."""
PAGE = 1000
LONGEST_LIST = 200
"""Projects that a service returns at once."""
FULL_ID = 36
"""Characters of an id that is given whole."""
IN_LAUNCH = (
    "requirement",
    "title",
    "repository",
    "model",
    "approvals",
    "path",
    "budget_usd",
    "limits",
    "rules",
    "gate_rules",
)


class AuditVerdict(BaseModel):
    """What a check of the audit log found."""

    checked: int
    broken_at: int | None
    why: str
    last_hash: str


class Me(BaseModel):
    """Who a key belongs to."""

    email: str
    role: str


class Client:
    """Speaks to one service.

    A request that gets no answer is made again; one that changes something carries an idempotency key, so
    that it is done once however often it arrives.

    Args:
        http: Knows the service's address and the credential.
        place: The address, for people.
        patience_seconds: How long a service that has answered may be away.
        say: Tells people why it takes longer.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        place: str,
        patience_seconds: float,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.place = place
        self.patience_seconds = patience_seconds
        self._http = http
        self._presence = Presence(say)
        self._was_reached = False

    async def me(self) -> Me:
        """Return who the credential belongs to."""
        return await self._get(Me, f"{PREFIX}/auth/me")

    async def projects(self, limit: int = 50) -> list[Listed]:
        """Return the latest projects, newest first, however many pages that takes."""
        query = {"limit": min(limit, LONGEST_LIST)}
        return await self._pages(Listed, f"{PREFIX}/projects", query, most=limit)

    async def find(self, prefix: str) -> Overview:
        """Return the one project whose id starts so.

        Raises:
            NotFound: there is none, or several.
        """
        wanted, hint = prefix.strip().lower(), "`phoenix list` shows them all."
        if not re.fullmatch(r"[0-9a-f-]{1,36}", wanted):
            raise NotFound(f"{prefix!r} is not the beginning of a project's id.", hint=hint)
        if len(wanted) == FULL_ID:
            return await self.overview(_id_of(wanted, hint))
        found = await self._page({"id": wanted, "limit": 2})
        if not found:
            raise NotFound(f"There is no project {wanted}.", hint=hint)
        if len(found) > 1:
            raise NotFound(f"Several projects begin with {wanted}.", hint="Give more of the id.")
        return await self.overview(found[0].project.id)

    async def overview(self, project_id: UUID, *, patient: bool = True) -> Overview:
        """Return a project at a glance.

        Args:
            project_id: Which.
            patient: Whether to try again while the service is away.
        """
        return await self._get(Overview, f"{PREFIX}/projects/{project_id}", patient=patient)

    async def launch(self, launch: Launch) -> Project:
        """Start a project."""
        body = launch.model_dump(mode="json", include=set(IN_LAUNCH))
        answer = await self._request("POST", f"{PREFIX}/projects", json=body)
        return self._read(Project, answer)

    async def checkpoints(self, project_id: UUID, *, inner: bool = False) -> list[Moment]:
        """Return a project's checkpoints, oldest first; on request those within steps as well."""
        path = f"{PREFIX}/projects/{project_id}/checkpoints"
        return await self._pages(Moment, path, {"inner": inner, "limit": PAGE})

    async def spans(self, project_id: UUID) -> tuple[list[RecordedSpan], SpanCounts]:
        """Return all recorded spans of a project in the order in which they began, and how many there are."""
        path, found, cursor = f"{PREFIX}/projects/{project_id}/spans", [], ""
        while True:
            params = {"limit": PAGE} | ({"cursor": cursor} if cursor else {})
            page = await self._get(SpanPage, path, params=params)
            found += page.items
            if page.next is None:
                return found, page.counts
            cursor = page.next

    async def checkpoint(self, project_id: UUID, at: str) -> Looked:
        """Return the checkpoint that an id, its end, or a step's name stands for, with its value.

        Raises:
            CheckpointUnknown: there is none such, or several.
        """
        path = f"{PREFIX}/projects/{project_id}/checkpoint"
        return await self._get(Looked, path, params={"at": at}, timeout=LONG_SECONDS)

    async def fork(self, project_id: UUID, at: str, order: ForkOrder) -> Project:
        """Fork a project at a checkpoint; return the fork."""
        body = order.model_dump(mode="json") | {"at": at}
        path = f"{PREFIX}/projects/{project_id}/forks"
        return self._read(Project, await self._request("POST", path, json=body, timeout=LONG_SECONDS))

    async def delete(self, project_id: UUID) -> None:
        """Delete a project with all that belongs to it."""
        await self._request("DELETE", f"{PREFIX}/projects/{project_id}", timeout=LONG_SECONDS)

    async def prune(self, *, older_than_days: float | None = None, dry_run: bool = False) -> UpkeepReport:
        """Remove what is due of the organisation's finished projects; `has_more` tells whether to repeat."""
        body = {"older_than_days": older_than_days, "dry_run": dry_run}
        path = f"{PREFIX}/organisation/prune"
        return self._read(UpkeepReport, await self._request("POST", path, json=body, timeout=LONG_SECONDS))

    async def resume(self, project_id: UUID, *, budget_usd: Decimal | None = None) -> None:
        """Let a project go on, or try it again."""
        body = {"budget_usd": None if budget_usd is None else str(budget_usd)}
        await self._request("POST", f"{PREFIX}/projects/{project_id}/resume", json=body)

    async def pause(self, project_id: UUID, *, reason: str = "") -> None:
        """Pause a project."""
        await self._request("POST", f"{PREFIX}/projects/{project_id}/pause", json={"reason": reason})

    async def cancel(self, project_id: UUID) -> list[Kept]:
        """Cancel a project; return which of its code is kept, and where."""
        answer = await self._request("POST", f"{PREFIX}/projects/{project_id}/cancel")
        return self._read(_Cancelled, answer).kept

    async def message(self, project_id: UUID, text: str, *, task: str = "") -> Message:
        """Say something to a project's agents, or to those of one task."""
        body = {"text": text, "task": task}
        answer = await self._request("POST", f"{PREFIX}/projects/{project_id}/messages", json=body)
        return self._read(Message, answer)

    async def decide(self, approval_id: UUID, decision: Decision, *, digest: str) -> Approval:
        """Decide an approval.

        Args:
            approval_id: Which.
            decision: What was decided.
            digest: Of the value that was looked at.
        """
        body = decision.model_dump(mode="json") | {"digest": digest}
        answer = await self._request("POST", f"{PREFIX}/approvals/{approval_id}/decision", json=body)
        return self._read(Approval, answer)

    async def usage(self, by: UsageBy, *, project_id: UUID | None = None) -> list[UsageLine]:
        """Return what model calls used, of one project or of all that are seen, ordered by key."""
        query: dict[str, Any] = {"by": by, "limit": 1000}
        query |= {} if project_id is None else {"project": str(project_id)}
        found: list[UsageLine] = []
        while True:
            page = await self._get(UsagePage, f"{PREFIX}/usage", params=query)
            found += page.items
            if page.next is None:
                return found
            query["cursor"] = page.next

    async def costs(self, project_id: UUID) -> Costs:
        """Return what a project's model calls used, its tasks beside what was expected."""
        return await self._get(Costs, f"{PREFIX}/projects/{project_id}/cost")

    async def workers(self) -> list[Worker]:
        """Return the workers of the service's database, oldest first."""
        return await self._get(list[Worker], f"{PREFIX}/workers")

    async def standing(self) -> Standing:
        """Return how work goes on."""
        return await self._get(Standing, "/readyz")

    async def verify_audit(self) -> AuditVerdict:
        """Check the audit log from its beginning."""
        return await self._get(AuditVerdict, f"{PREFIX}/audit/verify", timeout=LONG_SECONDS)

    async def events(self, project_id: UUID, *, after: int = 0) -> list[Event]:
        """Return a project's next events, in order; none when there are no more yet."""
        query = {"after": after, "limit": PAGE}
        return await self._get(list[Event], f"{PREFIX}/projects/{project_id}/events", params=query)

    async def follow(self, project_id: UUID, *, after: int = 0) -> AsyncGenerator[Event, None]:
        """Yield a project's events after a number, then those to come, without gap or repeat.

        A connection that is lost is made again from where it was.

        Raises:
            ServiceUnreachable, DatabaseUnavailable: the service stays away.
        """
        patience = Patience(self.patience_seconds, self._presence)
        while True:
            try:
                async with aclosing(self._streamed(project_id, after, patience)) as events:
                    async for event in events:
                        yield event
                        after = event.seq
                lost: PhoenixError = ServiceUnreachable(f"{self.place} has ended the stream of events.")
            except httpx.RequestError as error:
                lost = self._unreachable(error)
            except PhoenixError as error:
                lost = error
            await patience.spend(lost)

    async def _streamed(
        self, project_id: UUID, after: int, patience: Patience
    ) -> AsyncGenerator[Event, None]:
        """Yield events over one connection, each sign of life of which renews the patience."""
        path = f"{PREFIX}/projects/{project_id}/events/stream"
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        timeout = httpx.Timeout(self._http.timeout.connect, read=STREAM_SECONDS)
        async with self._http.stream("GET", path, headers=headers, timeout=timeout) as answer:
            if not answer.is_success:
                await answer.aread()
                raise error_of(answer, self.place)
            async with aclosing(payloads(answer.aiter_bytes())) as found:
                async for data in found:
                    patience.renew()
                    if data:
                        yield self._parse(Event, data)

    async def ask(
        self,
        kind: type[T],
        method: str,
        path: str,
        *,
        json: Any = None,
        params: dict[str, Any] | None = None,
        timeout: float | None = None,
    ) -> T:
        """Make a request, and read its answer as a model."""
        return self._read(kind, await self._request(method, path, json=json, params=params, timeout=timeout))

    async def _page(self, query: dict[str, Any]) -> list[Listed]:
        answer = await self._request("GET", f"{PREFIX}/projects", params=query)
        return self._read(_Page[Listed], answer).items

    async def _pages(
        self, kind: type[T], path: str, query: dict[str, Any], *, most: int | None = None
    ) -> list[T]:
        """Return a whole list, or the most that is wanted of it, page after page."""
        found: list[T] = []
        following: str | None = ""
        while following is not None and (most is None or len(found) < most):
            params = query | ({"cursor": following} if following else {})
            answer = await self._request("GET", path, params=params, timeout=LONG_SECONDS)
            page = self._read(_Page[kind], answer)  # type: ignore[valid-type]
            found += page.items
            following = page.next
        return found[:most]

    async def _get(
        self,
        kind: type[T],
        path: str,
        *,
        params: dict[str, Any] | None = None,
        patient: bool = True,
        timeout: float | None = None,
    ) -> T:
        answer = await self._request("GET", path, params=params, patient=patient, timeout=timeout)
        return self._read(kind, answer)

    async def _request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: dict[str, Any] | None = None,
        patient: bool = True,
        timeout: float | None = None,
    ) -> httpx.Response:
        """Make a request until it is answered.

        Raises:
            PhoenixError: what the service refuses it with; or the service stays away.
        """
        patience = Patience(self.patience_seconds if patient else 0.0, self._presence)
        headers = {} if method == "GET" else {"Idempotency-Key": str(uuid4())}
        request = self._http.build_request(method, path, json=json, params=params, headers=headers)
        if timeout is not None:
            request.extensions["timeout"] = httpx.Timeout(timeout).as_dict()
        while True:
            try:
                answer = await self._http.send(request)
            except httpx.RequestError as error:
                if not self._was_reached:
                    raise self._unreachable(error) from error
                lost: PhoenixError = self._unreachable(error)
            else:
                if answer.is_success:
                    self._was_reached = True
                    patience.renew()
                    return answer
                lost = error_of(answer, self.place)
            await patience.spend(lost)

    def _read(self, kind: type[T], answer: httpx.Response) -> T:
        if not answer.headers.get("Content-Type", "").startswith("application/json"):
            raise not_phoenix(self.place, answer.headers.get("Content-Type", "no type"))
        return self._parse(kind, answer.content)

    def _parse(self, kind: type[T], content: bytes) -> T:
        """Read what a service answers; members that a newer one has besides are left out."""
        try:
            return TypeAdapter(kind).validate_json(content, extra="ignore")
        except ValidationError as error:
            first = error.errors()[0]
            raise ServiceFailed(
                f"{self.place} answers in a form that this version does not read:"
                f" {'.'.join(map(str, first['loc']))}: {first['msg']}.",
                hint="Are the versions of command and service far apart?",
            ) from error

    def _unreachable(self, error: httpx.RequestError) -> ServiceUnreachable:
        what = str(error) or type(error).__name__
        return ServiceUnreachable(
            f"{self.place} cannot be reached: {what.rstrip('.')}.", hint="Does `phoenix up` run there?"
        )


def _id_of(text: str, hint: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise NotFound(f"There is no project {text}.", hint=hint) from error


class _Cancelled(BaseModel):
    """What a cancelled project leaves."""

    kept: list[Kept]


class _Page(BaseModel, Generic[T]):
    """A part of a list."""

    items: list[T]
    next: str | None = None
