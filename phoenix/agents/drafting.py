"""Have a model write a document, and send it back while it does not hold together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from phoenix.agents.steering import Inbox
from phoenix.domain.frozen import Frozen
from phoenix.errors import AgentGaveUp, DomainInvalid
from phoenix.ports import Caller, Ports

M = TypeVar("M", bound=Frozen)

ATTEMPTS = 4


async def draft(
    ports: Ports,
    caller: Caller,
    messages: Sequence[BaseMessage],
    schema: type[M],
    check: Callable[[M], Awaitable[None] | None] | None = None,
) -> M:
    """Return a document that passes its check.

    Args:
        ports: What the run may use.
        caller: Who asks.
        messages: The prompt; what people say meanwhile comes after it.
        schema: What to write.
        check: Raises DomainInvalid with what is wrong; the model reads it and revises.

    Raises:
        AgentGaveUp: it is still wrong after four attempts; says what is wrong.
    """
    conversation, inbox = list(messages), Inbox(ports, caller)
    for attempt in range(1, ATTEMPTS + 1):
        conversation += await inbox.fresh(attempt)
        asking = replace(caller, attempt=caller.attempt + attempt - 1)
        document = await ports.models.structured(asking, conversation, schema)
        try:
            if check is not None:
                verdict = check(document)
                if verdict is not None:
                    await verdict
        except DomainInvalid as error:
            problems = "\n".join(f"- {path}: {text}" for path, text in error.problems)
            await ports.events.emit(
                "draft_refused", agent=caller.agent, attempt=attempt, problems=error.problems[:10]
            )
            conversation += [
                AIMessage(document.model_dump_json()),
                HumanMessage(f"This does not hold together:\n{problems}\n\nAnswer again, whole."),
            ]
            last = problems
        else:
            return document
    raise AgentGaveUp(
        f"The {caller.agent} agent could not write a {schema.__name__} that holds together:\n{last}",
        hint="Resume to let it try again, or say more in the requirement.",
    )
