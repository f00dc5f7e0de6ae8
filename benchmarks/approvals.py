"""Race eight people for each of many approvals: one wins each time, and the others are told so.

The racers are spread over several engines, as over replicas of the service: within one they take turns, and
between them the database decides. Prints winners, conflicts and the rate. Exits 0 only where every approval
has exactly one winner, one vote, one decision and one event, every other racer got a conflict that names who
won, and every run is woken. PHOENIX_BENCH_APPROVALS says how many (10,000), PHOENIX_BENCH_ENGINES over how
many engines (2; with 8 the database decides between all). PHOENIX_TEST_DATABASE_URL names a server whose
database may be filled; else one is started. Run as `python -m benchmarks.approvals`.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from phoenix.checkpoints.saver import open_saver
from phoenix.checkpoints.serializer import StrictSerializer
from phoenix.domain.approval import Decision
from phoenix.domain.identity import Principal
from phoenix.domain.run import DEFAULT_ORGANISATION
from phoenix.engine.engine import Engine
from phoenix.engine.launch import Launch
from phoenix.engine.queue import open_queue
from phoenix.errors import DecisionConflict
from phoenix.events.log import PostgresEventLog
from phoenix.flow import approve
from phoenix.ports import Ports
from phoenix.storage.database import connect, conninfo
from phoenix.storage.embedded import EmbeddedPostgres
from phoenix.storage.events import EventRows
from phoenix.storage.migrate import upgrade
from phoenix.telemetry.logs import configure_logs

APPROVALS = int(os.environ.get("PHOENIX_BENCH_APPROVALS", "10000"))
RACERS = 8
ENGINES = int(os.environ.get("PHOENIX_BENCH_ENGINES", "2"))
AT_ONCE = 8
"""Approvals that are raced for at the same time."""
CONNECTIONS = 32
"""Of all engines together; twice as many where all are in use."""
IN_A_PROJECT = 100
GATE = approve("spec", of=dict)
APPROVE = Decision(verdict="approve")

# Each run waits at its own gate, as a worker leaves it.
FILL = """
    WITH made AS (SELECT gen_random_uuid() AS id FROM generate_series(1, :count)),
    lines AS (INSERT INTO threads (id, project_id) SELECT id, :project FROM made),
    waiting AS (
        INSERT INTO runs (id, thread_id, project_id, organisation_id, parent_id, key, flow, status, input,
            interrupts)
        SELECT made.id, made.id, p.id, p.organisation_id, root.id, made.id::text, 'gate', 'waiting', '{}',
            jsonb_build_array(jsonb_build_object('id', 'i', 'request', CAST(:request AS jsonb)))
        FROM made, (SELECT * FROM projects WHERE id = :project) AS p,
            (SELECT id FROM runs WHERE project_id = :project AND parent_id IS NULL) AS root
    )
    INSERT INTO approvals (id, project_id, run_id, interrupt_id, request, value_digest)
    SELECT gen_random_uuid(), :project, made.id, 'i', CAST(:request AS jsonb), :digest FROM made
"""

TRUTH = """
    SELECT count(*) AS approvals, count(*) FILTER (WHERE a.decided_how = 'person') AS decided,
        (SELECT count(*) FROM approval_votes) AS votes,
        (SELECT count(DISTINCT approval_id) FROM approval_votes) AS voted,
        (SELECT count(DISTINCT data->>'approval_id') FROM events WHERE kind = 'approval_decided') AS told,
        (SELECT count(*) FROM events WHERE kind = 'approval_decided') AS events,
        (SELECT count(*) FROM runs WHERE status = 'waiting' AND wake) AS woken
    FROM approvals a
"""


@asynccontextmanager
async def open_engines(folder: Path) -> AsyncIterator[tuple[list[Engine], AsyncEngine]]:
    """Open engines over a new or given database; no worker takes up what is decided."""
    async with AsyncExitStack() as stack:
        url = os.environ.get("PHOENIX_TEST_DATABASE_URL") or await stack.enter_async_context(
            EmbeddedPostgres(folder)
        )
        assert url is not None
        await upgrade(url)
        opened = [await open_engine(url, stack) for _ in range(ENGINES)]
        yield [engine for engine, _ in opened], opened[0][1]


async def open_engine(url: str, stack: AsyncExitStack) -> tuple[Engine, AsyncEngine]:
    """Open an engine with connections of its own."""
    database = connect(url, pool_size=max(2, CONNECTIONS // ENGINES))
    stack.push_async_callback(database.dispose)
    queue = open_queue(conninfo(url))
    await stack.enter_async_context(queue.open_async())
    saver = await stack.enter_async_context(open_saver(conninfo(url), serializer=StrictSerializer()))
    log = await stack.enter_async_context(PostgresEventLog(conninfo(url), EventRows(database).read))
    engine = Engine(
        database=database,
        queue=queue,
        checkpointer=saver,
        flows={"gate": GATE},
        ports_for=lambda *_: cast("Ports", SimpleNamespace()),
        log=log,
    )
    return engine, database


async def fill(engine: Engine, database: AsyncEngine) -> list[UUID]:
    """Let runs wait, and return their approvals."""
    request = GATE.request({"text": "what is decided on"})
    left = APPROVALS
    while left > 0:
        launch = Launch(requirement="Race.", model="none", flow="gate", input={"text": "x"})
        project = await engine.launch(launch)
        values = {"project": project.id, "count": min(left, IN_A_PROJECT), "digest": request.value_digest}
        async with database.begin() as connection:
            await connection.execute(text(FILL), values | {"request": request.model_dump_json()})
        left -= IN_A_PROJECT
    async with database.begin() as connection:
        return list((await connection.execute(text("SELECT id FROM approvals ORDER BY id"))).scalars())


async def race(
    engines: Sequence[Engine], approval_id: UUID, people: Sequence[Principal], digest: str
) -> list[str]:
    """Let all decide at once; return how each fared."""
    late: list[str] = []

    async def decide(engine: Engine, who: Principal) -> str:
        try:
            await engine.decide(approval_id, APPROVE, by=who.email, who=who, digest=digest)
        except DecisionConflict as error:
            late.append(error.message)
            return "conflict"
        return who.email

    pairs = zip(cycle(engines), people, strict=False)
    fared = await asyncio.gather(*(decide(engine, who) for engine, who in pairs))
    winner = next((one for one in fared if one != "conflict"), "nobody")
    told = sum(winner in message for message in late)
    return ["won" if one == winner else one for one in fared] + ["told"] * told


def person(number: int) -> Principal:
    """Return an approver."""
    return Principal(
        user_id=uuid4(),
        organisation_id=DEFAULT_ORGANISATION,
        email=f"racer{number}@example.org",
        role="approver",
        via="key",
        credential_id=uuid4(),
    )


async def main() -> int:
    """Race, and look into the database afterwards."""
    configure_logs("error")
    people = [person(n) for n in range(RACERS)]
    digest = GATE.request({"text": "what is decided on"}).value_digest
    with TemporaryDirectory() as folder:
        async with open_engines(Path(folder)) as (engines, database):
            opened = await fill(engines[0], database)
            fared: Counter[str] = Counter()
            winners: Counter[int] = Counter()
            start, began = time.perf_counter(), time.process_time()
            for n in range(0, len(opened), AT_ONCE):
                races = (race(engines, one, people, digest) for one in opened[n : n + AT_ONCE])
                for ends in await asyncio.gather(*races):
                    fared.update(ends)
                    winners[ends.count("won")] += 1
            seconds, own = time.perf_counter() - start, time.process_time() - began
            async with database.begin() as connection:
                truth: dict[str, Any] = dict((await connection.execute(text(TRUTH))).one()._mapping)
    print(
        f"approvals {len(opened)}, racers {RACERS} each over {ENGINES} engines: {fared['won']} won,"
        f" {fared['conflict']} conflicts, {fared['told']} of them told who won"
    )
    print(f"approvals by number of winners: {dict(winners)}; rows: {truth}")
    tried = fared["won"] + fared["conflict"]
    print(
        f"{seconds:.1f} s: {len(opened) / seconds:.0f} approvals, {tried / seconds:.0f} decisions a second,"
        f" {own * 1000 / tried:.1f} ms of this process's CPU a decision"
    )
    late = APPROVALS * (RACERS - 1)
    one_each = winners == {1: APPROVALS} and fared["conflict"] == late and fared["told"] == late
    kept = set(truth.values()) == {APPROVALS}
    return 0 if one_each and kept else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
