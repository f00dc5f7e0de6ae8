"""The response cache: a request that is asked again is answered once, where an agent opted in."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol
from uuid import UUID

import structlog
from langchain_core.messages import AIMessage
from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from phoenix.domain.run import KeptAnswer
from phoenix.errors import DatabaseUnavailable
from phoenix.llm.calls import ModelAnswer, ModelRequest
from phoenix.llm.journal import answer_of, kept_form, request_digest
from phoenix.ports import Caller

log = structlog.get_logger(__name__)

VARIED = frozenset({"temperature", "top_p", "top_k", "n", "seed", "presence_penalty", "frequency_penalty"})
"""Options that ask for a sample: a temperature of 0 asks for none."""


class AnswerCache(Protocol):
    """Answers to requests that may be asked again, of one organisation, until they expire."""

    async def find(self, request: str) -> KeptAnswer | None:
        """Return the answer to a request, by its digest; None where there is none that still counts."""

    async def keep(self, request: str, answer: KeptAnswer, *, seconds: float) -> None:
        """Keep an answer for so long, in place of an earlier one."""


class ResponseCache:
    """Answers the requests of one run from what was answered before.

    Args:
        store: Holds the organisation's answers.
        answering: Returns the alias and the model that are to answer a request; None where its answer may
            not be cached.
        seconds: How long an answer counts.
        reads: Whether answers are taken from it. A run that is tried again is to ask afresh, and keeps what
            it gets.
    """

    def __init__(
        self,
        store: AnswerCache,
        *,
        answering: Callable[[ModelRequest], tuple[str, str] | None],
        seconds: float,
        reads: bool = True,
    ) -> None:
        self._store = store
        self._answering = answering
        self._seconds = seconds
        self._reads = reads

    async def find(self, request: ModelRequest) -> ModelAnswer | None:
        """Return the answer that was given to the same request, at no cost; None where there is none."""
        key = self._key(request) if self._reads else None
        if key is None:
            return None
        try:
            kept = await self._store.find(key)
        except DatabaseUnavailable as error:
            log.warning("response_cache_away", error=str(error))
            return None
        answer = None if kept is None else answer_of(kept)
        if answer is None:
            return None
        # Its tokens were used when it was first given.
        return replace(
            answer, message=answer.message.model_copy(update={"usage_metadata": None}), cost_usd=None
        )

    async def keep(self, request: ModelRequest, answer: ModelAnswer, message: AIMessage) -> None:
        """Keep an accepted answer; one of another model than was to answer is not kept."""
        named, key = self._answering(request), self._key(request)
        if named is None or key is None or named[1] != answer.model:
            return
        kept = kept_form(answer, message, [], accepted=True)
        try:
            await self._store.keep(key, kept, seconds=self._seconds)
        except DatabaseUnavailable as error:
            log.warning("response_cache_away", error=str(error))

    def _key(self, request: ModelRequest) -> str | None:
        """Return the digest of a request; None where another answer is wanted each time."""
        named = self._answering(request)
        varied = {name for name in VARIED & request.options.keys() if request.options[name] is not None}
        if request.options.get("temperature") == 0:
            varied -= {"temperature"}
        if named is None or varied or request.caller.attempt > 1:
            return None
        # The same question of another task has the same answer.
        asked = replace(request, caller=Caller(request.caller.agent))
        return request_digest(asked, " ".join(named), "")


class MemoryAnswers:
    """Keeps answers in a dictionary; forgets them with the process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._kept: dict[str, tuple[float, KeptAnswer]] = {}
        self._clock = clock

    async def find(self, request: str) -> KeptAnswer | None:
        until, answer = self._kept.get(request, (0.0, None))
        return answer if self._clock() < until else None

    async def keep(self, request: str, answer: KeptAnswer, *, seconds: float) -> None:
        self._kept[request] = (self._clock() + seconds, answer)


class RedisAnswers:
    """An `AnswerCache` of one organisation in Redis; without Redis nothing is found or kept."""

    def __init__(self, redis: Redis, organisation_id: UUID) -> None:
        self._redis = redis
        self._prefix = f"phoenix:answers:{organisation_id}:"

    async def find(self, request: str) -> KeptAnswer | None:
        try:
            found = await self._redis.get(self._prefix + request)
        except (RedisError, OSError) as error:
            log.warning("response_cache_away", error=str(error))
            return None
        try:
            return None if found is None else KeptAnswer.model_validate_json(found)
        except ValidationError:
            return None

    async def keep(self, request: str, answer: KeptAnswer, *, seconds: float) -> None:
        try:
            await self._redis.set(
                self._prefix + request, answer.model_dump_json(), px=max(1, int(seconds * 1000))
            )
        except (RedisError, OSError) as error:
            log.warning("response_cache_away", error=str(error))
