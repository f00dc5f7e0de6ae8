"""Holds and accounts in PostgreSQL: no limit is passed, whoever asks and however many at once."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from decimal import Decimal
from uuid import uuid4

import orjson
import psycopg
import pytest
from sqlalchemy import text

from phoenix.domain.budget import Budget, Hold, ProjectLimits, Spent
from phoenix.domain.run import Project, Run
from phoenix.storage.budgets import Wanted
from phoenix.storage.database import conninfo, transaction
from tests.unit.storage.budget_rows import Process, call, most, open_process

CALLERS = 50


@pytest.fixture
async def process(migrated_database_url: str) -> AsyncIterator[Process]:
    """Return a process on a migrated database."""
    async with AsyncExitStack() as stack:
        yield await open_process(migrated_database_url, stack)


async def spend(process: Process, run: Run, project: Project, seed: int) -> int:
    """Make calls of random cost, some of which fail, until the budget is spent; return how many."""
    luck = random.Random(seed)
    made = 0
    while True:
        dear = Decimal(luck.randint(1, 90_000)) / 1_000_000
        found = await process.hold(run, project, most(str(dear)), task=f"T{luck.randint(1, 4)}/review")
        if isinstance(found, Spent):
            return made
        if found is None:
            await asyncio.sleep(0.002)
            continue
        await asyncio.sleep(0)
        if luck.random() < 0.2:
            await process.budgets(run, project).release(found)
        else:
            cost = dear * luck.randint(1, 100) / 100
            await process.settle(run, found, call(str(cost), task="T1"))
        made += 1


async def test_fifty_callers_in_three_processes_never_pass_a_limit(migrated_database_url: str) -> None:
    """Settled and held together stay within the budget at every moment, and nothing is lost at the end."""
    limit, over = Decimal("1.25"), []
    async with AsyncExitStack() as stack:
        processes = [await open_process(migrated_database_url, stack) for _ in range(3)]
        run, project = await processes[0].launch(str(limit))

        async def watch() -> None:
            # One statement, so one moment.
            query = text(
                "SELECT (SELECT coalesce(sum(cost_usd), 0) FROM model_calls)"
                " + (SELECT coalesce(sum(usd), 0) FROM budget_holds)"
            )
            while True:
                async with transaction(processes[0].database) as connection:
                    total = Decimal((await connection.execute(query)).scalar_one())
                over.extend([total] if total > limit else [])
                await asyncio.sleep(0.005)

        watching = asyncio.create_task(watch())
        callers = [spend(processes[n % 3], run, project, n) for n in range(CALLERS)]
        made = sum(await asyncio.gather(*callers))
        watching.cancel()
        spent = await processes[0].spent(project.id)
        assert made > CALLERS // 2
        assert over == []
        assert limit - Decimal("0.09") < spent <= limit
        assert await processes[0].count_holds() == 0


async def test_the_first_choice_that_fits_what_is_left_is_held(process: Process) -> None:
    """A shorter answer is what a nearly spent budget affords, and the limit that shortens it is named."""
    run, project = await process.launch("1")
    await process.settle(run, None, call("0.70"))
    choices = (most("0.50", output=4096), most("0.25", output=2048), most("0.10", output=1024))
    found = await process.hold(run, project, *choices)
    assert isinstance(found, Hold)
    assert (found.most.output_tokens, found.lowered_by is not None) == (2048, True)
    assert found.lowered_by == Spent(scope="project", measure="usd", limit=Decimal(1), used=Decimal("0.70"))


async def test_what_is_held_is_waited_for_and_not_taken_for_spent(process: Process) -> None:
    """Whoever would fit once others are counted waits; then there is room, or the budget is spent."""
    run, project = await process.launch("1")
    first = await process.hold(run, project, most("0.60"))
    assert isinstance(first, Hold)
    assert await process.hold(run, project, most("0.60"), most("0.30")) is None
    await process.settle(run, first, call("0.10"))
    assert isinstance(await process.hold(run, project, most("0.60")), Hold)
    assert isinstance(await process.hold(run, project, most("0.95")), Spent)


@pytest.mark.parametrize(
    ("limits", "measure"),
    [
        (ProjectLimits(tokens=100), "tokens"),
        (ProjectLimits(calls=2), "calls"),
        (ProjectLimits(task=Budget(usd=Decimal("0.2"))), "usd"),
        (ProjectLimits(task=Budget(tokens=100)), "tokens"),
        (ProjectLimits(task=Budget(calls=2)), "calls"),
    ],
)
async def test_every_measure_has_its_limit(process: Process, limits: ProjectLimits, measure: str) -> None:
    """Tokens and calls are held as USD are; a task's limits hold for its reviewer too, and no other task."""
    run, project = await process.launch(limits=limits)
    asked = most("0.1", tokens=50)
    for _ in range(2):
        found = await process.hold(run, project, asked, task="T1")
        assert isinstance(found, Hold)
        await process.settle(run, found, call("0.1", tokens=50, task="T1"))
    spent = await process.hold(run, project, asked, task="T1/review")
    assert isinstance(spent, Spent)
    assert spent.measure == measure
    other = await process.hold(run, project, asked, task="T2")
    assert isinstance(other, Hold) == (spent.scope == "task")


async def test_wall_time_leaves_out_what_people_take(process: Process) -> None:
    """Time counts from the start of the work; while an approval was open, nobody worked."""
    run, project = await process.launch(limits=ProjectLimits(wall_seconds=100))
    async with transaction(process.database) as connection:
        await connection.execute(text("UPDATE runs SET started_at = now() - interval '130 seconds'"))
    spent = await process.hold(run, project, most("0"))
    assert isinstance(spent, Spent)
    assert (spent.measure, 130 <= spent.used < 140) == ("wall_seconds", True)
    asked = (
        "INSERT INTO approvals (id, project_id, run_id, interrupt_id, request, value_digest, created_at,"
        " decided_at) VALUES (gen_random_uuid(), :p, :r, :i, '{}', '', now() - make_interval(secs => :a),"
        " now() - make_interval(secs => :b))"
    )
    async with transaction(process.database) as connection:
        for n, (begun, ended) in enumerate([(120, 90), (100, 60), (500, 125)]):
            values = {"p": project.id, "r": run.id, "i": str(n), "a": begun, "b": ended}
            await connection.execute(text(asked), values)
    assert isinstance(await process.hold(run, project, most("0")), Hold)


async def test_an_organisation_and_its_day_are_budgets_of_all_its_projects(process: Process) -> None:
    """What one project spent is gone for the other; yesterday's calls count for the organisation only."""
    whole = await process.organisation(limits={"usd": "3"}, max_usd_day=Decimal(1))
    first, one = await process.launch(organisation_id=whole)
    second, other = await process.launch(organisation_id=whole)
    await process.settle(first, None, call("1.5"))
    async with transaction(process.database) as connection:
        await connection.execute(text("UPDATE model_calls SET at = at - interval '1 day'"))
    await process.settle(first, None, call("0.4"))
    found = await process.hold(first, one, most("0.3"))
    assert isinstance(found, Hold)
    assert await process.hold(second, other, most("0.4")) is None
    day = await process.hold(second, other, most("0.61"))
    assert isinstance(day, Spent)
    assert (day.scope, day.used) == ("day", Decimal("0.4"))
    all_time = await process.hold(second, other, most("1.2"))
    assert isinstance(all_time, Spent)
    assert (all_time.scope, all_time.used) == ("organisation", Decimal("1.9"))
    assert await process.budgets(second, other).limited()


async def test_without_a_limit_nothing_is_held(process: Process) -> None:
    """Nobody is asked to count what has no end."""
    run, project = await process.launch()
    assert not await process.budgets(run, project).limited()
    assert isinstance(await process.hold(run, project, most("1000")), Hold)
    assert await process.count_holds() == 0


async def test_recorded_calls_cost_nothing(process: Process) -> None:
    """The figures of a recording are shown, and no budget pays for them."""
    run, project = await process.launch("1")
    await process.hold(run, project, most("0.1"))
    await process.settle(run, None, call("5", recorded=True))
    assert isinstance(await process.hold(run, project, most("0.9")), Hold)


async def test_a_call_of_unknown_price_is_made_until_the_rest_is_spent(process: Process) -> None:
    """What is known counts beside it."""
    run, project = await process.launch("1")
    assert isinstance(await process.hold(run, project, most(None)), Hold)
    await process.settle(run, None, call("1"))
    assert isinstance(await process.hold(run, project, most(None)), Spent)


@pytest.mark.parametrize("lives", [True, False])
async def test_a_dead_workers_holds_go_and_a_frozen_ones_stay(
    process: Process, migrated_database_url: str, lives: bool
) -> None:
    """A worker that has its session may still be answered, however late its heartbeat is."""
    key = -7_000_000_000_000_000_001
    run, project = await process.launch("1", worker=key)
    async with await psycopg.AsyncConnection.connect(conninfo(migrated_database_url)) as session:
        if lives:
            await session.execute("SELECT pg_advisory_lock(%s)", (key,))
        assert isinstance(await process.hold(run, project, most("0.9")), Hold)
        async with transaction(process.database) as connection:
            await connection.execute(text("UPDATE budget_holds SET held_at = now() - interval '10 seconds'"))
        found = await process.hold(run, project, most("0.9"))
    assert found is None if lives else isinstance(found, Hold)


async def test_a_hold_ends_with_the_time_of_its_call(process: Process) -> None:
    """By the database's clock, and without anybody who sweeps."""
    run, project = await process.launch("1")
    assert isinstance(await process.hold(run, project, most("0.9"), seconds=0.01), Hold)
    await asyncio.sleep(0.02)
    assert isinstance(await process.hold(run, project, most("0.9")), Hold)


async def test_four_fifths_are_told_once_for_each_limit(process: Process) -> None:
    """Raised, a limit may be nearly reached again."""
    run, project = await process.launch("1", limits=ProjectLimits(task=Budget(calls=5)))
    assert isinstance(await process.hold(run, project, most("0.01"), task="T1"), Hold)
    for cost in ("0.79", "0.01", "0.01"):
        await process.settle(run, None, call(cost))
    for _ in range(4):
        await process.settle(run, None, call("0", task="T1"))
    async with transaction(process.database) as connection:
        await connection.execute(text("UPDATE projects SET budget_usd = 1.01"))
    await process.settle(run, None, call("0"))
    about = [
        (w["scope"], w["measure"], w["limit"], w["used"])
        for w in await process.told(project.id, "budget_warned")
    ]
    assert about == [
        ("project", "usd", "1", "0.80"),
        ("task", "calls", "5", "4"),
        ("project", "usd", "1.01", "0.81"),
    ]


async def test_an_account_that_is_opened_while_calls_are_counted_misses_none(process: Process) -> None:
    """Each call is either in the sum that an account begins with, or added to it."""
    run, project = await process.launch("100")
    counted = [process.settle(run, None, call("0.01")) for _ in range(30)]
    asked = [process.hold(run, project, most("0.01")) for _ in range(5)]
    await asyncio.gather(*counted[:15], *asked, *counted[15:])
    async with transaction(process.database) as connection:
        account = (await connection.execute(text("SELECT usd, calls FROM budget_accounts"))).one()
    assert (account.usd, account.calls) == (Decimal("0.30"), 30)


async def test_a_caller_that_goes_leaves_nothing_held(process: Process) -> None:
    """Cancelled while its statement is under way, it gives back what it got."""
    run, project = await process.launch("1")
    asking = asyncio.create_task(process.hold(run, project, most("0.9")))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert await process.count_holds() == 0


async def test_whoever_holds_at_the_same_moment_waits_for_the_first(
    process: Process, migrated_database_url: str
) -> None:
    """What another process has held, and not committed yet, is seen: accounts are locked."""
    run, project = await process.launch("1")
    first = Wanted(uuid4(), run, "", [most("0.9")], 60.0)
    warm = await process.hold(run, project, most("0.1"))
    assert isinstance(warm, Hold)
    await process.budgets(run, project).release(warm)
    async with await psycopg.AsyncConnection.connect(conninfo(migrated_database_url)) as session:
        items = orjson.dumps([first.row(1)]).decode()
        await session.execute("SELECT * FROM phoenix_hold_v2(%s::jsonb)", (items,))
        second = asyncio.create_task(process.hold(run, project, most("0.9")))
        blocked = text("SELECT count(*) FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0")
        while not second.done():
            async with transaction(process.database) as connection:
                if (await connection.execute(blocked)).scalar_one():
                    break
        await session.commit()
        assert await second is None
