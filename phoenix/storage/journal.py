"""Answers of model calls, kept from their arrival until their run ends."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

from pydantic import ValidationError
from sqlalchemy import delete, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from phoenix.domain.budget import Hold
from phoenix.domain.run import CallKey, KeptAnswer, ModelCall, Run
from phoenix.errors import DatabaseUnavailable
from phoenix.storage.database import transaction
from phoenix.storage.settling import Settled, Settlements
from phoenix.storage.tables import model_journal

AWAY_SECONDS = 30.0
"""How long an answer waits for the database: a restart takes a few seconds, a failover some more."""
PAUSE_SECONDS = 0.3

INNOCENT = ("transient", "budget")
"""Categories of failures that no answer leads to: what was answered before them is as good as ever."""


class JournalRows:
    """The port `CallJournal` of one attempt of a run."""

    def __init__(self, database: AsyncEngine, run: Run, settle: Settlements) -> None:
        self._database = database
        self._run = run
        self._settle = settle

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
        self, key: CallKey | None, answer: KeptAnswer | None, call: ModelCall, *, hold: Hold | None = None
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
                await self._settle(Settled(self._run, call, key, answer, hold))
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


async def forget_failed(connection: AsyncConnection, run: Run) -> None:
    """Forget what led to a run's failure, before it is tried again; call it after its attempt was raised.

    Where a step or an agent failed, that is every answer; where the provider, the disk or the budget did,
    only those that could not be used.
    """
    keeps = run.error is not None and run.error.category in INNOCENT
    guilty = or_(literal(not keeps), model_journal.c.accepted.is_(False))
    await connection.execute(delete(model_journal).where(model_journal.c.run_id == run.id, guilty))
