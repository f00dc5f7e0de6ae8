"""Stores batches, each in one statement and one commit."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from phoenix.checkpoints.fence import Claim
from phoenix.checkpoints.gathering import Again
from phoenix.checkpoints.lines import Lines, is_lost
from phoenix.checkpoints.rows import Writing, columns
from phoenix.checkpoints.statements import WRITE
from phoenix.errors import CheckpointRefused, DatabaseUnavailable, PhoenixError, RunSuperseded


class Writer:
    """Stores what calls want stored, and answers each of them.

    A superseded run fails by itself (RunSuperseded), and so does a value that PostgreSQL refuses
    (CheckpointRefused): a batch that fails is sent again in halves until only the bad call is left.
    """

    def __init__(self, lines: Lines) -> None:
        self._lines = lines

    async def __call__(self, calls: Sequence[Writing]) -> None:
        """Store these calls.

        Raises:
            Again: for calls that were not stored, because the database was lost or their run's row is held.
        """
        try:
            await self._store(calls)
        except psycopg.Error as error:
            if is_lost(error):
                raise Again(calls, str(error).strip(), lost=True) from error
            if len(calls) > 1:
                await self._halves(calls)
            else:
                calls[0].fail(refused(error))

    async def _halves(self, calls: Sequence[Writing]) -> None:
        middle = len(calls) // 2
        left: list[Again] = []
        for half in (calls[:middle], calls[middle:]):
            try:
                await self(half)
            except Again as request:
                left.append(request)
        if left:
            again = [call for request in left for call in request.calls]
            raise Again(again, str(left[0]), lost=any(r.lost for r in left)) from left[0].__cause__

    async def _store(self, calls: Sequence[Writing]) -> None:
        claims: dict[Claim | None, int] = {None: 0}
        for call in calls:
            claims.setdefault(call.claim, len(claims))
        # Rows of the answer: a claim that was not accepted, and whether its run is merely held.
        answer: dict[int, bool] = dict(await self._lines.fetch(WRITE, columns(calls, claims)))
        held: list[Writing] = []
        for call in calls:
            if call.claim is None or (is_held := answer.get(claims[call.claim])) is None:
                call.succeed(None)
            elif is_held:
                held.append(call)
            else:
                call.fail(RunSuperseded())
        if held:
            raise Again(held, "its run's row is held by a transaction that does not end", lost=False)


def refused(error: psycopg.Error) -> PhoenixError:
    """Return an error of PostgreSQL about one call as Phoenix raises it."""
    if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn):
        made: PhoenixError = DatabaseUnavailable(
            f"The database has no tables for checkpoints: {str(error).strip()}",
            hint="Bring its schema up to date first; every start of Phoenix does.",
        )
    else:
        made = CheckpointRefused(
            f"PostgreSQL does not store this checkpoint: {str(error).strip()}",
            hint="Clean values with phoenix.domain.cleaning where they enter.",
        )
    made.__cause__ = error
    return made
