"""Messages of people to agents that work: sent in one transaction, read once in each conversation."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from phoenix.domain.cleaning import clean_text
from phoenix.domain.run import FINISHED, Run
from phoenix.domain.steering import MAX_MESSAGE_CHARS, Message
from phoenix.engine.steer import own_run
from phoenix.engine.work import Work, joined
from phoenix.errors import Conflict, PayloadInvalid
from phoenix.ports import Caller
from phoenix.storage import artifacts, events, messages, projects, runs
from phoenix.storage.database import transaction
from phoenix.storage.runs import LockedRun

_TASK = re.compile(r"[A-Z][A-Za-z0-9_-]{0,40}")


class RunSteering:
    """The port `Steering` of one run."""

    def __init__(self, database: AsyncEngine, run: Run) -> None:
        self._database = database
        self._run = run

    async def unread(self, caller: Caller, *, after: int) -> list[Message]:
        """Return the messages to an agent after a number, in order."""
        async with transaction(self._database) as connection:
            found = await messages.after(connection, self._run.project_id, after)
        return [message for message in found if message.concerns(caller.agent, caller.task)]

    async def read(self, caller: Caller, found: Sequence[Message], *, conversation: str, turn: int) -> None:
        """Tell those who follow the project that messages were read. Idempotent for each conversation."""
        run = self._run
        async with transaction(self._database) as connection:
            fresh = await messages.mark_read(
                connection,
                found,
                run_id=run.id,
                conversation=conversation,
                agent=caller.agent,
                task=caller.task,
                turn=turn,
            )
            for message in found:
                if message.seq in fresh:
                    data = {
                        "message_id": str(message.id),
                        "message": message.seq,
                        "agent": caller.agent,
                        "task": caller.task,
                        "turn": turn,
                    }
                    await events.append(connection, run.project_id, "message_read", data, run_id=run.id)


async def send(
    database: AsyncEngine, project_id: UUID, text: str, *, task: str = "", by: str, work: Work | None = None
) -> Message:
    """Send a message to the agents of a project, or to those of one task: its row and event, at once.

    Args:
        database: Where projects are.
        project_id: Which.
        text: What is said.
        task: Such as `T2`; empty for all agents.
        by: Who says it.
        work: The request that it is a part of.

    Raises:
        NotFound: there is no such project.
        Conflict: the project is over, or the task is.
        PayloadInvalid: nothing is said, too much is, or there is no such task.
    """
    said = clean_text(text).strip()
    if not said:
        raise PayloadInvalid("The message says nothing.", field="text")
    if len(said) > MAX_MESSAGE_CHARS:
        raise PayloadInvalid(
            f"The message has {len(said)} characters; {MAX_MESSAGE_CHARS} are allowed.", field="text"
        )
    async with joined(database, work) as connection:
        project = await projects.get(connection, project_id)
        found = await runs.lock_project(connection, project_id)
        root = own_run(found).run
        if root.status in FINISHED:
            raise Conflict(
                f"Project {str(project.id)[:8]} is over ({root.status}): no agent would read this.",
                hint="A failed one can be resumed first." if root.status == "failed" else "",
            )
        if task:
            await _check_task(connection, project_id, task, found)
        message_id = uuid4()
        data = {"message_id": str(message_id), "task": task, "text": said, "by": by}
        seq = await events.append(connection, project_id, "message_sent", data, run_id=root.id)
        message = Message(
            id=message_id,
            project_id=project_id,
            seq=seq,
            task=task,
            text=said,
            sent_by=by,
            at=await _following(connection, project_id),
        )
        await messages.add(connection, message)
    return message


async def _following(connection: AsyncConnection, project_id: UUID) -> datetime:
    """Return the time, and one after the last message's: a fork's copies are told apart by their times."""
    last = await messages.last_at(connection, project_id)
    now = datetime.now(UTC)
    return now if last is None else max(now, last + timedelta(microseconds=1))


async def copy_messages(
    connection: AsyncConnection, source: UUID, fork: UUID, *, until: datetime, run_id: UUID
) -> None:
    """Copy what was said to a project up to a moment to its fork, with the times at which it was said.

    Conversations that are copied as well know by the times what they have read; all others read it anew.
    """
    for message in await messages.until(connection, source, until):
        copied_id = uuid4()
        data = {"message_id": str(copied_id), "task": message.task, "text": message.text}
        told = data | {"by": message.sent_by, "from": str(source)}
        seq = await events.append(connection, fork, "message_sent", told, run_id=run_id)
        own = {"id": copied_id, "project_id": fork, "seq": seq}
        await messages.add(connection, message.model_copy(update=own))


async def _check_task(
    connection: AsyncConnection, project_id: UUID, task: str, found: Sequence[LockedRun]
) -> None:
    """Check that a task is there, and that its agents still work or will."""
    opened = [locked.run for locked in found if locked.run.key.rpartition("/")[2] == task]
    if opened:
        if all(run.status in FINISHED for run in opened):
            raise Conflict(f"Task {task} is over ({opened[0].status}): no agent would read this.")
        return
    plan = await artifacts.latest_of(connection, project_id, "plan")
    known = [str(t.get("id")) for t in plan[0].get("tasks", [])] if plan else []
    if not _TASK.fullmatch(task) or task not in known:
        named = f"Its tasks are {', '.join(known)}." if known else "It has no tasks yet."
        raise PayloadInvalid(
            f"The project has no task {task[:40]!r}. {named}",
            field="task",
            hint="Leave the task out to speak to all agents of the project.",
        )
