"""What is learned from a delivery. The delivery is made before, and nothing here can take it back."""

from __future__ import annotations

import asyncio

from langgraph.runtime import Runtime

from phoenix.agents.remembering import remember
from phoenix.agents.retrospective import retrospect, setbacks_of
from phoenix.domain.evidence import Build, Delivery, Evidence
from phoenix.domain.lessons import Lessons
from phoenix.errors import AgentError, InputError, ModelError
from phoenix.flow import step
from phoenix.ports import Ports

LEARN_SECONDS = 180.0
"""The work is handed over already: nobody waits longer than this for lessons."""


@step
async def learn(delivery: Delivery, runtime: Runtime[Ports]) -> Delivery:
    """Write down what the project taught. Whatever goes wrong is told, and the delivery stands.

    A short path that passed at once has nothing to tell, and no model is asked.
    """
    ports = runtime.context
    lessons = Lessons(delivery=delivery.digest())
    if await _has_a_story(delivery, ports):
        lessons = await _lessons(delivery, ports)
    await ports.artifacts.put(lessons)
    try:
        await ports.outlet.annotate(lessons)
    except OSError as error:
        await ports.events.emit("lessons_missed", reason=f"They cannot be written: {error.strerror}.")
    await remember(delivery, lessons, ports)
    return delivery


async def _has_a_story(delivery: Delivery, ports: Ports) -> bool:
    evidence = await ports.artifacts.get(delivery.evidence, Evidence)
    build = await ports.artifacts.get(evidence.build, Build)
    return build.plan is not None or bool(await setbacks_of(build, ports))


async def _lessons(delivery: Delivery, ports: Ports) -> Lessons:
    digest = delivery.digest()
    try:
        async with asyncio.timeout(LEARN_SECONDS):
            learned = await retrospect(delivery, ports)
    except TimeoutError:
        reason = f"No answer came within {LEARN_SECONDS:g} s."
    except (ModelError, AgentError, InputError) as error:
        reason = str(error)
    else:
        await ports.events.emit(
            "lessons_learned",
            lessons=len(learned.lessons),
            kinds=[lesson.kind for lesson in learned.lessons],
            refused=learned.refused,
            masked=learned.masked,
        )
        return Lessons(delivery=digest, items=learned.lessons)
    await ports.events.emit("lessons_missed", reason=reason[:1000])
    return Lessons(delivery=digest, why_none=reason[:1000])
