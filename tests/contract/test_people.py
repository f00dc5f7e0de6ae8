"""Ports `Permissions` and `Steering`, in memory and over rows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from phoenix.domain.permissions import Ground, Rule, RuleSet, ToolCall
from phoenix.domain.run import Project, Run
from phoenix.domain.steering import Message
from phoenix.engine.permissions import RunPermissions
from phoenix.engine.steering import RunSteering, send
from phoenix.ports import Caller, Permissions, Steering
from phoenix.storage import messages, projects, runs
from phoenix.storage.database import connect, transaction
from phoenix.storage.in_memory import MemorySteering
from phoenix.tools.in_memory import MemoryPermissions
from phoenix.tools.rule_files import layers_of

RULES = RuleSet(rules=[Rule(effect="deny", tool="bash", command="rm *"), Rule(effect="allow", tool="bash")])
CODER, REVIEWER = Caller("code", "T1/r1"), Caller("review", "T1/r1")


@dataclass
class People:
    """Both ports of one run; `say` sends a message, `rule` changes the rules, `noted` counts readings."""

    permissions: Permissions
    steering: Steering
    say: Callable[[str], Awaitable[None]]
    rule: Callable[[RuleSet], None]
    noted: Callable[[], Awaitable[int]]


def in_memory() -> People:
    permissions, steering = MemoryPermissions(layers_of(RULES)), MemorySteering()

    async def say(text: str) -> None:
        number = len(steering.messages) + 1
        message = Message(
            id=uuid4(), project_id=uuid4(), seq=number, text=text, sent_by="ada", at=datetime.now(UTC)
        )
        steering.messages.append(message)

    def rule(rules: RuleSet) -> None:
        permissions.layers = layers_of(rules)

    async def noted() -> int:
        return len(steering.reads)

    return People(permissions, steering, say, rule, noted)


@pytest.fixture(params=["memory", "rows"])
async def people(request: pytest.FixtureRequest, migrated_database_url: str) -> AsyncIterator[People]:
    """Return each kind of both ports, with rules and without messages."""
    if request.param == "memory":
        yield in_memory()
        return
    database = connect(migrated_database_url)
    now = datetime.now(UTC)
    project = Project(id=uuid4(), title="t", requirement="r", model="m", created_at=now)
    run = Run(id=uuid4(), project_id=project.id, flow="develop", status="running", attempt=1, created_at=now)
    async with transaction(database) as connection:
        await projects.add(connection, project)
        await runs.add(connection, run, flow_input={})
    permissions = RunPermissions(database, project, run, RULES)

    async def say(text: str) -> None:
        await send(database, project.id, text, by="ada")

    def rule(rules: RuleSet) -> None:
        permissions._service = rules

    async def noted() -> int:
        async with transaction(database) as connection:
            return sum(len(one.reads) for one in await messages.sent(connection, project.id))

    yield People(permissions, RunSteering(database, run), say, rule, noted)
    await database.dispose()


def call(command: str) -> ToolCall:
    """Return a call of bash."""
    return ToolCall(tool="bash", arguments={"command": command})


async def test_a_call_keeps_the_ruling_that_it_had(people: People) -> None:
    """The same key again, after the rules have changed; another key is judged by the rules of now."""
    judge, ground = people.permissions.judge, Ground()
    first = await judge(call("rm x"), key="a", ground=ground)
    assert (first.effect, first.rule) == ("deny", "service rule 1: deny bash command rm *")
    people.rule(RuleSet(rules=[Rule(effect="allow")]))
    assert await judge(call("rm x"), key="a", ground=ground) == first
    assert (await judge(call("rm x"), key="b", ground=ground)).effect == "allow"


async def test_what_a_person_changed_is_judged_by_the_rules_of_now(people: People) -> None:
    """And nothing is kept of it."""
    assert (await people.permissions.check(call("rm x"), ground=Ground())).effect == "deny"
    people.rule(RuleSet(rules=[Rule(effect="allow")]))
    assert (await people.permissions.check(call("rm x"), ground=Ground())).effect == "allow"


async def test_messages_come_in_order_after_a_number(people: People) -> None:
    """Reading them again in the same conversation is noted once; another conversation is another reading."""
    for text in ("one", "two", "three"):
        await people.say(text)
    found = await people.steering.unread(CODER, after=0)
    assert [m.text for m in found] == ["one", "two", "three"]
    assert [m.text for m in await people.steering.unread(REVIEWER, after=found[1].seq)] == ["three"]
    assert await people.steering.unread(CODER, after=found[-1].seq) == []
    for _ in range(2):
        await people.steering.read(CODER, found, conversation="c", turn=1)
    assert await people.noted() == 3
    await people.steering.read(REVIEWER, found[:1], conversation="r", turn=1)
    assert await people.noted() == 4
