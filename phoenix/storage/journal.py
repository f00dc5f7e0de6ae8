"""Answers of model calls, kept from their arrival until their run ends."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from pydantic import ValidationError
from sqlalchemy import delete, literal, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from phoenix.domain.budget import Hold
from phoenix.domain.cleaning import clean_json, clean_text
from phoenix.domain.run import CallKey, KeptAnswer, ModelCall, Run
from phoenix.errors import DatabaseUnavailable
from phoenix.storage.database import transaction
from phoenix.storage.tables import JSON, model_journal, runs
from phoenix.storage.tables_budgets import budget_holds
from phoenix.storage.usage import count

AWAY_SECONDS = 30.0
"""How long an answer waits for the database: a restart takes a few seconds, a failover some more."""
PAUSE_SECONDS = 0.3

INNOCENT = ("transient", "budget")
"""Categories of failures that no answer leads to: what was answered before them is as good as ever."""


class JournalRows:
    """The port `CallJournal` of one attempt of a run."""

    def __init__(self, database: AsyncEngine, run: Run) -> None:
        self._database = database
        self._run = run

    async def find(self, key: CallKey) -> KeptAnswer | None:
        """Return a call's answer if it arrived before; one of another version's form counts as missing."""
        query = select(model_journal.c.answer).where(
            model_journal.c.run_id == self._run.id,
            model_journal.c.request == key.request,
            model_journal.c.ordinal == key.ordinal,
        )
        async with transaction(self._database) as connection:
            found = (await connection.execute(query)).scalar_one_or_none()
        if found is None:
            return None
        try:
            return KeptAnswer.model_validate(found)
        except ValidationError:
            return None

    async def keep(
        self, key: CallKey | None, answer: KeptAnswer, call: ModelCall, *, hold: Hold | None = None
    ) -> None:
        """Count a call, keep its answer, and release what was held for it, in one transaction.

        A superseded attempt's call was paid, so it is counted, but its answer is not kept. A database that
        went away is waited for: nobody else has the answer.

        Raises:
            DatabaseUnavailable: it was away for `AWAY_SECONDS`.
        """
        deadline = time.monotonic() + AWAY_SECONDS
        while True:
            try:
                await self._keep(key, answer, call, hold)
            except DatabaseUnavailable:
                if time.monotonic() >= deadline:
                    raise
            else:
                return
            await asyncio.sleep(PAUSE_SECONDS)
            with suppress(DatabaseUnavailable):
                # The connection may have been lost after the commit.
                if key is not None and await self.find(key) == answer:
                    return

    async def _keep(
        self, key: CallKey | None, answer: KeptAnswer, call: ModelCall, hold: Hold | None
    ) -> None:
        async with transaction(self._database) as connection:
            if key is not None:
                await self._insert(connection, key, answer)
            if hold is not None:
                await connection.execute(delete(budget_holds).where(budget_holds.c.id == hold.id))
            # Last: from here on it holds the accounts of budgets, which all calls of an organisation share.
            await count(connection, self._run.project_id, self._run.id, call)

    async def _insert(self, connection: AsyncConnection, key: CallKey, answer: KeptAnswer) -> None:
        # The lock makes a retry, which raises the attempt and forgets, wait for this or come first.
        ours = (
            select(
                runs.c.id,
                literal(key.request),
                literal(key.ordinal),
                literal(clean_text(key.step)),
                literal(answer.accepted),
                literal(clean_json(answer.model_dump(mode="json")), JSON),
            )
            .where(runs.c.id == self._run.id, runs.c.attempt == self._run.attempt)
            .with_for_update(read=True)
        )
        names = ["run_id", "request", "ordinal", "step", "accepted", "answer"]
        stored = insert(model_journal).from_select(names, ours)
        fresh = {name: stored.excluded[name] for name in ("step", "accepted", "answer")}
        await connection.execute(
            stored.on_conflict_do_update(index_elements=["run_id", "request", "ordinal"], set_=fresh)
        )


async def forget_failed(connection: AsyncConnection, run: Run) -> None:
    """Forget what led to a run's failure, before it is tried again; call it after its attempt was raised.

    Where a step or an agent failed, that is every answer; where the provider, the disk or the budget did,
    only those that could not be used.
    """
    keeps = run.error is not None and run.error.category in INNOCENT
    guilty = or_(literal(not keeps), model_journal.c.accepted.is_(False))
    await connection.execute(delete(model_journal).where(model_journal.c.run_id == run.id, guilty))
