"""Model calls by what makes them the same call after a crash, and their journal in memory."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage
from langgraph.config import get_config
from pydantic import BaseModel, ValidationError

from phoenix.domain.budget import Hold
from phoenix.domain.cleaning import clean_json
from phoenix.domain.frozen import digest_of
from phoenix.domain.run import CallKey, KeptAnswer, ModelCall
from phoenix.llm.calls import ModelAnswer, ModelRequest
from phoenix.ports import Budgets, UsageLog

KEPT = ("content", "tool_calls", "additional_kwargs", "response_metadata", "usage_metadata")
"""The fields of a message that `clean_answer` fills; the others are LangChain's own."""


class Ordinals:
    """Gives each call of one attempt of a run its key.

    A node that is executed again within the attempt, because it failed, asks for the next ordinal and so
    gets a new answer. After a crash counting begins anew: the same failures and answers come again, unpaid.
    """

    def __init__(self) -> None:
        self._asked: Counter[str] = Counter()

    def key(self, request: ModelRequest, model: str) -> CallKey | None:
        """Return the key of a call that is about to be made; None outside of a graph."""
        step = _step()
        if not step:
            return None
        digest = request_digest(request, model, step)
        ordinal = self._asked[digest]
        self._asked[digest] += 1
        return CallKey(step=step, request=digest, ordinal=ordinal)


def _step() -> str:
    """Return the namespace of the node that is running.

    It ends with the id of LangGraph's task, which is a digest of the checkpoint that the node runs from,
    and names the tasks of the graphs around it: the same after a crash, and no other execution's.
    """
    try:
        return str(get_config().get("configurable", {}).get("checkpoint_ns") or "")
    except RuntimeError:
        return ""


def request_digest(request: ModelRequest, model: str, step: str) -> str:
    """Return the digest of all that decides an answer, the same in every process."""
    asked = {
        "step": step,
        "model": model,
        "agent": request.caller.agent,
        "task": request.caller.task,
        "messages": [_said(message) for message in request.messages],
        "tools": list(request.tools),
        "options": dict(request.options),
        "choices": dict(request.choices),
        "tier": request.tier,
        "stop": request.stop,
    }
    return digest_of(json.loads(json.dumps(asked, default=_plain, skipkeys=True)))


def _said(message: BaseMessage) -> dict[str, Any]:
    """Return what a message says. Its id is random, and what it cost is not sent."""
    left_out = {"id", "response_metadata", "usage_metadata"}
    return {"type": message.type, **message.model_dump(exclude=left_out)}


def _plain(value: object) -> Any:
    """Return something that stands for a value without its address in memory."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    kind = value if isinstance(value, type) else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def kept_form(
    answer: ModelAnswer, message: AIMessage, unreadable: list[str], *, accepted: bool
) -> KeptAnswer:
    """Return a cleaned answer as the journal keeps it."""
    fields = {name: getattr(message, name) for name in KEPT}
    return KeptAnswer(
        message=clean_json(fields),
        model=answer.model,
        cost_usd=answer.cost_usd,
        finish=answer.finish,
        unreadable=unreadable,
        accepted=accepted,
    )


def answer_of(kept: KeptAnswer) -> ModelAnswer | None:
    """Return a kept answer; None when its message is of a form that is not known here."""
    if not kept.message.keys() <= set(KEPT):
        return None
    try:
        message = AIMessage(**kept.message)
    except (ValidationError, TypeError, ValueError):
        return None
    return ModelAnswer(message, kept.model, kept.cost_usd, kept.finish)


class MemoryJournal:
    """Keeps answers in a dictionary; forgets them with the process."""

    def __init__(self, usage: UsageLog, budgets: Budgets | None = None) -> None:
        self.kept: dict[CallKey, KeptAnswer] = {}
        self._usage = usage
        self._budgets = budgets

    async def find(self, key: CallKey) -> KeptAnswer | None:
        return self.kept.get(key)

    async def keep(
        self, key: CallKey | None, answer: KeptAnswer | None, call: ModelCall, *, hold: Hold | None = None
    ) -> None:
        await self._usage.add(call)
        if hold is not None and self._budgets is not None:
            await self._budgets.release(hold)
        if key is not None and answer is not None:
            self.kept[key] = answer
