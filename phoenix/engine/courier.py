"""Tells webhooks what they are to be told, beside the worker of a process.

A delivery is claimed for a while, sent, and its result noted. A process that ends between any two of these
leaves a claim that runs out: it is sent again, under the same id. Receivers leave out an id they know.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from sqlalchemy.ext.asyncio import AsyncEngine

from phoenix.domain.webhook import DeliveryAttempt, Received, body_of, signed_headers
from phoenix.engine.webhooks import put_digests
from phoenix.errors import PhoenixError
from phoenix.storage import audit, deliveries, webhooks
from phoenix.storage.database import transaction
from phoenix.storage.deliveries import Claimed

log = structlog.get_logger(__name__)

Send = Callable[[str, Mapping[str, str], bytes], Awaitable[Received]]
"""Posts a body to a URL with these headers. What goes wrong is in what it returns."""

GONE = 410


@dataclass(frozen=True)
class CourierOptions:
    """How deliveries are attempted. Times are seconds.

    Args:
        at_once: Attempts at a time in this process.
        each: Attempts at a time of one webhook.
        max_attempts: With the waits below the last comes about a day after the first.
        first_wait: After the first attempt; doubled each time.
        longest_wait: The most.
        lease: How long an attempt may take; longer than a sender's own limit.
        off_failures: How many failed attempts in a row, over `off_seconds`, switch a webhook off.
        off_seconds: See there.
        poll: How often is looked for what is due.
        digest_poll: How often is looked for digests that are due.
        patience: How long attempts may go on when the process stops.
    """

    at_once: int = 16
    each: int = 4
    max_attempts: int = 18
    first_wait: float = 5.0
    longest_wait: float = 4 * 3600.0
    lease: float = 60.0
    off_failures: int = 15
    off_seconds: float = 20 * 3600.0
    poll: float = 1.0
    digest_poll: float = 20.0
    patience: float = 3.0

    def wait_seconds(self, attempt: int, received: Received, chance: float) -> float | None:
        """Return the wait after an attempt; None when it was the last.

        Args:
            attempt: Which it was, from 1.
            received: What came of it; a receiver's own wish counts where it is longer.
            chance: From 0 to 1: spreads receivers that failed together by a fifth each way.
        """
        if attempt >= self.max_attempts:
            return None
        wait = min(self.longest_wait, self.first_wait * 2.0 ** (attempt - 1)) * (0.8 + 0.4 * chance)
        return max(wait, min(self.longest_wait, received.after_seconds))


@dataclass
class Courier:
    """Delivers within `running`.

    Args:
        database: Where deliveries are.
        send: Posts to a receiver.
        options: How.
        is_due: Tells whether anything may be due; without it each look claims.
    """

    database: AsyncEngine
    send: Send
    options: CourierOptions = field(default_factory=CourierOptions)
    is_due: Callable[[], Awaitable[bool]] | None = None
    _in_hand: dict[asyncio.Task[None], UUID] = field(default_factory=dict)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Deliver beside the body; what is being sent at its end has a moment to come to its end."""
        work = asyncio.create_task(self._work(), name="webhook courier")
        try:
            yield
        finally:
            work.cancel()
            await asyncio.wait([work])
            await self._stop()

    async def _stop(self) -> None:
        """Wait for attempts that are being made; what is cut is attempted again when its claim runs out."""
        if self._in_hand:
            await asyncio.wait(self._in_hand, timeout=self.options.patience)
        left = list(self._in_hand)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)

    async def _work(self) -> None:
        looked_at = float("-inf")
        while True:
            self._ended.clear()
            taken = 0
            try:
                if time.monotonic() - looked_at >= self.options.digest_poll:
                    looked_at = time.monotonic()
                    async with transaction(self.database) as connection:
                        await put_digests(connection)
                taken = await self._take()
            except PhoenixError as error:
                log.warning("webhooks_not_looked_at", error=error.code, message=error.message)
            except Exception as error:  # the edge of a loop: logged, and it goes on
                log.error("webhook_courier_broke", exc_info=error)
            # After a full hand there is more; else it is worth to look when an attempt has ended.
            if taken or self._in_hand:
                await _either(self._ended, self.options.poll)
            else:
                await asyncio.sleep(self.options.poll)

    async def _take(self) -> int:
        free = self.options.at_once - len(self._in_hand)
        if free <= 0 or (self.is_due is not None and not await self.is_due()):
            return 0
        async with transaction(self.database) as connection:
            found = await deliveries.claim(
                connection,
                limit=free,
                each=self.options.each,
                busy=sorted(set(self._in_hand.values())),
                lease_seconds=self.options.lease,
            )
            secrets = await webhooks.secrets_of(connection, [c.webhook_id for c in found]) if found else {}
        for claimed in found:
            task = asyncio.create_task(self._attempt(claimed, secrets.get(claimed.webhook_id, [])))
            self._in_hand[task] = claimed.webhook_id
            task.add_done_callback(self._over)
        return len(found)

    def _over(self, task: asyncio.Task[None]) -> None:
        del self._in_hand[task]
        self._ended.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            # The claim runs out, and it is attempted again.
            log.error("webhook_attempt_broke", exc_info=error)

    async def _attempt(self, claimed: Claimed, secrets: list[bytes]) -> None:
        """Attempt a delivery and note its result."""
        body = body_of(claimed.payload)
        headers = signed_headers(secrets, str(claimed.id), int(time.time()), body)
        began, at = time.monotonic(), datetime.now(UTC)
        received = await self.send(claimed.url, headers, body)
        seconds = round(time.monotonic() - began, 3)
        attempt = DeliveryAttempt(at=at, status=received.status, error=received.error, seconds=seconds)
        about = {"webhook_id": str(claimed.webhook_id), "delivery_id": str(claimed.id)}
        log.info("webhook_attempted", **about, **attempt.model_dump(exclude={"at"}), attempt=claimed.attempt)
        if received.is_success:
            async with transaction(self.database) as connection:
                await deliveries.succeeded(connection, claimed, received, attempt)
                await webhooks.succeeded(connection, claimed.webhook_id)
        else:
            await self._put_off(claimed, received, attempt)

    async def _put_off(self, claimed: Claimed, received: Received, attempt: DeliveryAttempt) -> None:
        options = self.options
        is_gone = received.status == GONE
        wait = None if is_gone else options.wait_seconds(claimed.attempt, received, random.random())  # noqa: S311 spreads load, guards nothing
        why = "The receiver answered that it is gone." if is_gone else f"It kept failing: {attempt.error}"
        async with transaction(self.database) as connection:
            noted = await deliveries.failed(connection, claimed, received, attempt, wait_seconds=wait)
            if not noted:
                return
            off = await webhooks.failed(
                connection,
                claimed.webhook_id,
                limit=options.off_failures,
                over=timedelta(seconds=options.off_seconds),
                is_gone=is_gone,
                why=why,
            )
            if off is not None:
                await audit.note_own(
                    connection, off.organisation_id, "webhook.deactivate", off.id, reason=why
                )
        if off is not None:
            log.warning("webhook_deactivated", webhook_id=str(off.id), reason=why)


async def _either(event: asyncio.Event, seconds: float) -> None:
    """Return when an event is set, or after so long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
