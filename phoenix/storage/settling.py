"""Answers that are kept, and their calls counted: those of one moment share a statement and its commit.

Fifty agents of a process lock the accounts of their organisation's budgets once and not one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from phoenix.domain.budget import Hold
from phoenix.domain.cleaning import clean_json, clean_text
from phoenix.domain.run import CallKey, KeptAnswer, ModelCall, Run
from phoenix.storage.direct import Direct, Together

SETTLE = "SELECT phoenix_settle_v1($1::jsonb)"


@dataclass(frozen=True)
class Settled:
    """A call that was answered, or broke off."""

    run: Run
    call: ModelCall
    key: CallKey | None = None
    """None where its answer is not to be found again."""
    answer: KeptAnswer | None = None
    hold: Hold | None = None
    """What was held for it."""

    @property
    def order(self) -> tuple[str, str, str]:
        """Where it comes among others: all who count lock accounts in this order."""
        return str(self.run.organisation_id), str(self.run.project_id), self.call.task

    def item(self, n: int) -> dict[str, object]:
        """Return it as the statement reads it, as the one of a number."""
        call = self.call
        item: dict[str, object] = clean_json(call.model_dump(mode="json"))
        item |= {"n": n, "project": self.run.project_id, "run": self.run.id, "attempt": self.run.attempt}
        if self.hold is not None:
            item["hold"] = self.hold.id
        if self.key is not None and self.answer is not None:
            item |= {
                "request": self.key.request,
                "ordinal": self.key.ordinal,
                "step": clean_text(self.key.step),
                "accepted": self.answer.accepted,
                "answer": clean_json(self.answer.model_dump(mode="json")),
            }
        return item


class Settlements:
    """Settles the calls of all runs of a process."""

    def __init__(self, direct: Direct) -> None:
        self._direct = direct
        self._together: Together[Settled, None] = Together(self._send)

    async def __call__(self, settled: Settled) -> None:
        """Count a call, keep its answer, and release what was held for it, in one transaction.

        A superseded attempt's call is counted, but its answer is not kept.

        Raises:
            DatabaseUnavailable: the database does not answer, or nobody can tell whether it was done.
            DiskFull: it has no space left.
        """
        await self._together(settled)

    async def _send(self, some: list[Settled]) -> Sequence[None]:
        in_order = sorted(some, key=lambda settled: settled.order)
        items = [settled.item(n) for n, settled in enumerate(in_order)]
        await self._direct.fetch(SETTLE, (orjson.dumps(items).decode(),))
        return [None] * len(some)
