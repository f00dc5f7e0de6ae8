"""What happens in projects reaches receivers: nothing is lost, and nothing comes under two ids."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from phoenix.delivery.posting import Poster
from phoenix.domain.addresses import Allowed
from phoenix.domain.approval import Decision
from phoenix.domain.run import DEFAULT_ORGANISATION
from phoenix.domain.webhook import Received, Webhook, WebhookDelivery, signature
from phoenix.engine.courier import Courier, CourierOptions
from phoenix.engine.upkeep import tidy
from phoenix.engine.webhooks import put_digests
from phoenix.storage import deliveries, events, webhooks
from phoenix.storage.database import connect, conninfo_of, transaction
from phoenix.storage.deliveries import DueDeliveries
from phoenix.storage.direct import Direct
from phoenix.storage.event_batch import EventBatches
from phoenix.storage.tables import CLOCK, organisations
from phoenix.storage.tables_identity import audit
from phoenix.storage.tables_webhooks import webhook_deliveries
from phoenix.storage.tables_webhooks import webhooks as webhook_rows
from tests.integration.engine.engine_toy import System, open_system
from tests.unit.delivery.receiver import Got, Receiver, answer, receiving

ROOT = Path(__file__).parents[3]
ALLOWED = Allowed(["127.0.0.0/8"])
SECRET = b"s" * 32
FAST = CourierOptions(poll=0.02, first_wait=0.05, longest_wait=0.2, max_attempts=6, digest_poll=0.05)


@pytest.fixture
async def system(migrated_database_url: str, tmp_path: Path) -> AsyncIterator[System]:
    async with open_system(migrated_database_url, tmp_path) as opened:
        yield opened


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as running:
        yield running


async def hook(
    system: System, receiver: Receiver, *kinds: str, organisation_id: UUID = DEFAULT_ORGANISATION, **more: Any
) -> Webhook:
    async with transaction(system.database) as connection:
        return await webhooks.add(
            connection,
            organisation_id,
            url=receiver.url(),
            secret=SECRET,
            created_by=uuid4(),
            kinds=list(kinds),
            **more,
        )


def courier(system: System, **options: Any) -> Courier:
    is_due = DueDeliveries(Direct(system.queue))
    return Courier(
        system.database, Poster(ALLOWED), CourierOptions(**{**vars(FAST), **options}), is_due=is_due
    )


async def told(database: AsyncEngine, webhook: Webhook) -> list[WebhookDelivery]:
    """Return what a webhook is told, oldest first."""
    async with transaction(database) as connection:
        return (await deliveries.page(connection, webhook.id, limit=1000))[0][::-1]


async def ended(system: System, webhook: Webhook, count: int = 1) -> list[WebhookDelivery]:
    async with asyncio.timeout(30):
        while True:
            found = [d for d in await told(system.database, webhook) if d.status != "pending"]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.02)


async def webhook_of(system: System, webhook: Webhook) -> Webhook:
    async with transaction(system.database) as connection:
        return await webhooks.get(connection, webhook.organisation_id, webhook.id)


def types(got: list[Got]) -> list[str]:
    return [json.loads(g.body)["type"] for g in got]


async def test_a_project_is_told_of_from_launch_to_end(system: System, receiver: Receiver) -> None:
    """Signed messages of the chosen kinds, once each, with project and number, over a real worker."""
    kinds = ("approval_requested", "approval_decided", "project_waiting", "project_finished")
    webhook = await hook(system, receiver, *kinds)
    async with courier(system).running(), system.engine.worker():
        project = await system.launch("gate")
        await system.until(project.id, "waiting")
        (approval,) = (await system.engine.overview(project.id)).approvals
        await system.engine.decide(approval.id, Decision(verdict="approve"), by="ann")
        await system.until(project.id, "success")
        await ended(system, webhook, 4)
    assert Counter(types(receiver.got)) == Counter(kinds)
    log = {event.seq: event for event in await system.events(project.id)}
    for got in receiver.got:
        signed = signature(SECRET, got.id, int(got.headers["webhook-timestamp"]), got.body)
        assert got.headers["webhook-signature"] == signed
        data = json.loads(got.body)["data"]
        assert data["project_id"] == str(project.id)
        event = log[data["seq"]]
        assert data.items() >= event.data.items()
    assert len({got.id for got in receiver.got}) == 4


async def test_every_way_to_append_makes_a_delivery_in_its_transaction(
    system: System, receiver: Receiver
) -> None:
    """A batch and a single event alike; what is rolled back is told to nobody; large data is left out."""
    webhook = await hook(system, receiver, "*")
    project = await system.launch("plain")
    async with EventBatches(conninfo_of(system.database)).open() as batches:
        await asyncio.gather(*(batches.append(project.id, "note", {"n": n}) for n in range(20)))
        await batches.append(project.id, "large", {"text": "x" * 20_000})

    async def cut() -> None:
        async with transaction(system.database) as connection:
            await events.append(connection, project.id, "note", {"n": "lost"})
            raise RuntimeError("cut")

    with pytest.raises(RuntimeError):
        await cut()
    stored = await system.events(project.id)
    found = await told(system.database, webhook)
    assert [d.payload["data"]["seq"] for d in found] == [e.seq for e in stored]
    assert [d.type for d in found] == [e.kind for e in stored]
    large = found[-1].payload["data"]
    assert large == {
        "truncated": True,
        "project_id": str(project.id),
        "seq": stored[-1].seq,
        "run_id": None,
    }


async def test_nobody_else_is_told(system: System, receiver: Receiver) -> None:
    """Not another organisation, not what is switched off, not of other kinds."""
    other = uuid4()
    async with transaction(system.database) as connection:
        await connection.execute(organisations.insert().values(id=other, name="other"))
    silent = [
        await hook(system, receiver, "*", organisation_id=other),
        await hook(system, receiver, "*", active=False),
        await hook(system, receiver, "project_finished"),
        await hook(system, receiver, digest_every="daily"),
    ]
    await system.launch("plain")
    assert [await told(system.database, webhook) for webhook in silent] == [[], [], [], []]


async def test_a_childs_end_is_not_the_projects(system: System, receiver: Receiver) -> None:
    """Children end as runs, and a project that waits for them alone does not wait for people."""
    webhook = await hook(system, receiver, "*")
    kinds: Counter[str] = Counter()
    async with system.engine.worker():
        # Where all children end before their parent stops, it never waits: then another one is looked at.
        for _ in range(20):
            project = await system.launch("parent")
            await system.until(project.id, "success")
            kinds = Counter(d.type for d in await told(system.database, webhook))
            if kinds["run_waiting"]:
                break
    assert kinds["run_waiting"] >= 1
    assert kinds["run_finished"] == 3 * kinds["project_created"]
    assert kinds["project_finished"] == kinds["project_created"]
    assert kinds["project_waiting"] == 0


async def test_a_receiver_that_fails_is_tried_again(system: System, receiver: Receiver) -> None:
    """After 500s and silence: the same id and body each time, a new signature, and a log of it all."""
    answers = iter([answer(500, b"broken"), answer(503), b"", answer(200, b"thanks")])
    receiver.reply = lambda _: next(answers)
    webhook = await hook(system, receiver, "project_created")
    await system.launch("plain")
    async with courier(system).running():
        (delivery,) = await ended(system, webhook)
    assert (delivery.status, delivery.attempts, delivery.response_status) == ("delivered", 4, 200)
    assert [a.status for a in delivery.log] == [500, 503, None, 200]
    assert [bool(a.error) for a in delivery.log] == [True, True, True, False]
    assert (delivery.response_body, delivery.error) == ("thanks", "")
    assert delivery.next_attempt_at is None
    assert {(g.id, g.body) for g in receiver.got} == {(str(delivery.id), receiver.got[0].body)}
    assert (await webhook_of(system, webhook)).failures == 0


async def test_a_receiver_that_comes_back_gets_what_it_missed(system: System) -> None:
    """Connections are refused at first."""
    async with receiving() as gone:
        webhook = await hook(system, gone, "project_created")
    await system.launch("plain")
    async with courier(system, max_attempts=100).running():
        async with asyncio.timeout(20):
            while (await told(system.database, webhook))[0].attempts < 3:
                await asyncio.sleep(0.02)
        async with receiving(port=gone.port) as back:
            (delivery,) = await ended(system, webhook)
    assert delivery.status == "delivered"
    assert "connect error" in delivery.log[0].error
    assert len(back.got) == 1


async def test_it_is_given_up_after_so_many_attempts_and_can_be_sent_again(
    system: System, receiver: Receiver
) -> None:
    """Failed for good; a retry begins anew under the same id."""
    receiver.reply = lambda _: answer(400)
    webhook = await hook(system, receiver, "project_created")
    await system.launch("plain")
    async with courier(system, max_attempts=3).running():
        (delivery,) = await ended(system, webhook)
        assert (delivery.status, len(receiver.got)) == ("failed", 3)
        receiver.reply = lambda _: answer(200)
        async with transaction(system.database) as connection:
            assert (await deliveries.retry(connection, webhook.id, delivery.id)).attempts == 0
        await receiver.until(4)
        async with asyncio.timeout(20):
            while (await ended(system, webhook))[0].status != "delivered":
                await asyncio.sleep(0.02)
    assert len({g.id for g in receiver.got}) == 1


def test_the_waits_cover_a_day() -> None:
    """Doubled, capped, spread by a fifth; a receiver's wish counts where it is longer, within the cap."""
    options = CourierOptions()
    waits = [options.wait_seconds(n, Received(status=500), 0.5) for n in range(1, 18)]
    assert waits[:3] == [5.0, 10.0, 20.0]
    assert max(w for w in waits if w) == options.longest_wait
    assert 20 * 3600 < sum(w for w in waits if w) < 30 * 3600
    assert options.wait_seconds(18, Received(status=500), 0.5) is None
    assert options.wait_seconds(1, Received(), 0.0) == 4.0
    assert options.wait_seconds(1, Received(), 1.0) == pytest.approx(6.0)
    assert options.wait_seconds(1, Received(status=429, after_seconds=60), 0.5) == 60
    assert options.wait_seconds(1, Received(status=429, after_seconds=1e9), 0.5) == options.longest_wait


async def test_a_receivers_wish_to_be_left_alone_is_kept(system: System, receiver: Receiver) -> None:
    """Retry-After puts the next attempt off."""
    receiver.reply = lambda _: answer(429, Retry_After="30")
    webhook = await hook(system, receiver, "project_created")
    await system.launch("plain")
    async with courier(system, longest_wait=3600.0).running():
        await receiver.until(1)
        await asyncio.sleep(0.5)
    (delivery,) = await told(system.database, webhook)
    assert len(receiver.got) == 1
    assert delivery.next_attempt_at is not None
    assert delivery.next_attempt_at - delivery.log[0].at > timedelta(seconds=25)


KILLED = """
import asyncio, os, signal, sys
from phoenix.delivery.posting import Poster
from phoenix.domain.addresses import Allowed
from phoenix.engine.courier import Courier, CourierOptions
from phoenix.storage.database import connect

async def main() -> None:
    post = Poster(Allowed(["127.0.0.0/8"]))
    async def send(url, headers, body):
        await post(url, headers, body)
        os.kill(os.getpid(), signal.SIGKILL)
    async with Courier(connect(sys.argv[1]), send, CourierOptions(poll=0.02, lease=0.5)).running():
        await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_a_process_killed_between_effect_and_mark_sends_it_again_under_its_id(
    system: System, receiver: Receiver, migrated_database_url: str
) -> None:
    """kill -9 after the receiver has it: its claim runs out, another repeats it, receivers can tell."""
    webhook = await hook(system, receiver, "project_created")
    await system.launch("plain")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", KILLED, migrated_database_url), cwd=ROOT, env=dict(os.environ)
    )
    assert await asyncio.wait_for(process.wait(), 60) == -9
    assert len(receiver.got) == 1
    (before,) = await told(system.database, webhook)
    assert (before.status, before.attempts, before.log) == ("pending", 1, [])
    async with courier(system).running():
        (delivery,) = await ended(system, webhook)
    assert (delivery.status, delivery.attempts) == ("delivered", 2)
    assert [g.id for g in receiver.got] == [str(delivery.id)] * 2


async def test_couriers_of_many_processes_send_each_once(system: System, receiver: Receiver) -> None:
    """Three of them share 200 messages; in order, nearly."""
    webhook = await hook(system, receiver, "note")
    project = await system.launch("plain")
    async with EventBatches(conninfo_of(system.database)).open() as batches:
        await asyncio.gather(*(batches.append(project.id, "note", {"n": n}) for n in range(200)))
    one, two, three = (courier(system) for _ in range(3))
    async with one.running(), two.running(), three.running():
        await ended(system, webhook, 200)
    assert len(receiver.got) == len({g.id for g in receiver.got}) == 200


async def test_a_receiver_that_hangs_delays_no_other(system: System, receiver: Receiver) -> None:
    """It holds only its own share of what goes on at once."""
    async with receiving() as hanging:
        hanging.reply = lambda _: None
        stuck = await hook(system, hanging, "note")
        webhook = await hook(system, receiver, "note")
        project = await system.launch("plain")
        async with EventBatches(conninfo_of(system.database)).open() as batches:
            await asyncio.gather(*(batches.append(project.id, "note", {"n": n}) for n in range(40)))
        async with courier(system, patience=0.1).running():
            await ended(system, webhook, 40)
            assert len(hanging.got) == FAST.each
    assert {d.status for d in await told(system.database, stuck)} == {"pending"}


async def test_a_receiver_that_keeps_failing_is_switched_off(system: System, receiver: Receiver) -> None:
    """Only after long enough; with the reason on it and in the audit log; what waits stays."""
    receiver.reply = lambda _: answer(500)
    webhook = await hook(system, receiver, "*")
    await system.launch("plain")
    async with courier(system, max_attempts=1000, off_failures=3, off_seconds=3600.0).running():
        await receiver.until(6)
        assert (await webhook_of(system, webhook)).active
        async with transaction(system.database) as connection:
            await connection.execute(update(webhook_rows).values(failing_since=CLOCK - timedelta(hours=2)))
        async with asyncio.timeout(20):
            while (found := await webhook_of(system, webhook)).active:
                await asyncio.sleep(0.02)
        await system.launch("plain")
        count = len(receiver.got)
        await asyncio.sleep(0.5)
        assert len(receiver.got) <= count + 1
    assert "500" in found.inactive_reason
    assert found.version > webhook.version
    assert [d.status for d in await told(system.database, webhook)] == ["pending"]
    async with transaction(system.database) as connection:
        query = select(audit.c.actor, audit.c.object_id).where(audit.c.action == "webhook.deactivate")
        assert (await connection.execute(query)).all() == [("phoenix", str(webhook.id))]
        again = await webhooks.change(connection, webhook.organisation_id, webhook.id, active=True)
    assert (again.failures, again.inactive_reason, again.active) == (0, "", True)
    receiver.reply = lambda _: answer(200)
    async with courier(system).running():
        assert (await ended(system, webhook))[0].status == "delivered"


async def test_a_receiver_that_is_gone_is_switched_off_at_once(system: System, receiver: Receiver) -> None:
    """410 says so."""
    receiver.reply = lambda _: answer(410)
    webhook = await hook(system, receiver, "*")
    await system.launch("plain")
    async with courier(system).running():
        (delivery,) = await ended(system, webhook)
    assert (delivery.status, delivery.attempts) == ("failed", 1)
    assert not (await webhook_of(system, webhook)).active


async def claim(system: System, *, lease_seconds: float = 60.0, limit: int = 10) -> list[deliveries.Claimed]:
    """Take what is due, as one more courier would."""
    async with transaction(system.database) as connection:
        return await deliveries.claim(
            connection, limit=limit, each=limit, busy=[], lease_seconds=lease_seconds
        )


async def test_what_is_being_sent_is_nobody_elses_until_its_lease_runs_out(
    system: System, receiver: Receiver
) -> None:
    """An attempt that takes long is not made twice; one whose process is gone is made again."""
    await hook(system, receiver, "project_created")
    await system.launch("plain")
    (taken,) = await claim(system)
    assert taken.attempt == 1
    assert await claim(system) == []
    async with transaction(system.database) as connection:
        (left,) = (await connection.execute(text(LEASE_LEFT))).scalars()
    assert 50 < left <= 60
    async with transaction(system.database) as connection:
        await connection.execute(update(webhook_deliveries).values(next_attempt_at=CLOCK))
    (again,) = await claim(system)
    assert (again.id, again.attempt) == (taken.id, 2)


LEASE_LEFT = "SELECT extract(epoch FROM next_attempt_at - clock_timestamp()) FROM webhook_deliveries"


async def test_a_courier_does_not_wait_for_what_another_is_taking(system: System, receiver: Receiver) -> None:
    """It takes the rest: a process that hangs between claim and commit holds up nobody."""
    await hook(system, receiver, "project_created")
    for _ in range(3):
        await system.launch("plain")
    async with transaction(system.database) as holding:
        (first,) = await deliveries.claim(holding, limit=1, each=1, busy=[], lease_seconds=60)
        async with asyncio.timeout(10):
            rest = await claim(system)
    assert len(rest) == 2
    assert first.id not in {one.id for one in rest}


async def test_a_late_failure_changes_nothing(system: System, receiver: Receiver) -> None:
    """An attempt that was taken for lost comes back after a later one has begun, or has succeeded."""
    webhook = await hook(system, receiver, "*")
    await system.launch("plain")

    (late,), (current,) = await claim(system, lease_seconds=-1.0), await claim(system)
    slow = courier(system)
    slow.send = lambda *_: _failing()
    await slow._attempt(late, [SECRET])
    (found,) = await told(system.database, webhook)
    assert (found.attempts, found.log) == (2, [])
    await courier(system)._attempt(current, [SECRET])
    await slow._attempt(current, [SECRET])
    (found,) = await told(system.database, webhook)
    assert (found.status, len(found.log)) == ("delivered", 1)
    assert (await webhook_of(system, webhook)).failures == 0


async def _failing() -> Received:
    return Received(status=500, error="The receiver answered 500.")


async def test_deleting_a_webhook_neither_fails_nor_holds_up_an_event(
    system: System, receiver: Receiver
) -> None:
    """A delete that is not committed yet: the event goes through, and upkeep removes what is left over."""
    webhook = await hook(system, receiver, "*")
    project = await system.launch("plain")
    async with transaction(system.database) as deleting:
        await webhooks.remove(deleting, webhook.organisation_id, webhook.id)
        async with asyncio.timeout(10), transaction(system.database) as connection:
            await events.append(connection, project.id, "note", {})
    assert len(await told(system.database, webhook)) == 1
    await tidy(system.database)
    assert await told(system.database, webhook) == []


async def test_what_ended_long_ago_is_forgotten(system: System, receiver: Receiver) -> None:
    """After 30 days; what waits stays, however old."""
    webhook = await hook(system, receiver, "*")
    for _ in range(3):
        await system.launch("plain")
    first, second, third = [d.id for d in await told(system.database, webhook)]
    async with transaction(system.database) as connection:
        rows = webhook_deliveries
        for row_id, days in ((first, 31), (second, 29)):
            values = {"status": "delivered", "ended_at": CLOCK - timedelta(days=days)}
            await connection.execute(update(rows).where(rows.c.id == row_id).values(**values))
        old = {"created_at": CLOCK - timedelta(days=90)}
        await connection.execute(update(rows).where(rows.c.id == third).values(**old))
    await tidy(system.database)
    assert {d.id for d in await told(system.database, webhook)} == {second, third}


async def test_a_digest_is_told_once_to_who_asked_for_it(system: System, receiver: Receiver) -> None:
    """Ten workers look at once; the next one comes at its time; nothing is told when nothing waits."""
    webhook = await hook(system, receiver, digest_every="hourly")
    other = await hook(system, receiver, "project_finished")

    async def due(**ago: float) -> list[WebhookDelivery]:
        async with transaction(system.database) as connection:
            late = update(webhook_rows).where(webhook_rows.c.id == webhook.id)
            await connection.execute(late.values(digest_at=CLOCK - timedelta(**ago)))

        async def look() -> None:
            async with transaction(system.database) as connection:
                await put_digests(connection)

        await asyncio.gather(*(look() for _ in range(10)))
        return await told(system.database, webhook)

    assert await due(hours=3) == []
    async with system.engine.worker():
        project = await system.launch("gate")
        await system.until(project.id, "waiting")
    (approval,) = (await system.engine.overview(project.id)).approvals
    (digest,) = await due(hours=3.5)
    assert digest.type == "approvals_digest"
    (waiting,) = digest.payload["data"]["waiting"]
    assert (waiting["approval_id"], waiting["gate"]) == (str(approval.id), "spec")
    assert waiting["project_id"] == str(project.id)
    assert digest.payload["data"]["more"] is False
    async with transaction(system.database) as connection:
        query = select(func.extract("epoch", webhook_rows.c.digest_at - CLOCK))
        left = (await connection.execute(query.where(webhook_rows.c.id == webhook.id))).scalar_one()
    assert 25 * 60 < left < 31 * 60
    assert await told(system.database, other) == []
    async with courier(system).running():
        await ended(system, webhook)
    assert types(receiver.got) == ["approvals_digest"]


async def test_a_courier_outlives_a_lost_database(
    system: System, receiver: Receiver, migrated_database_url: str
) -> None:
    """Its connections are cut; it goes on."""
    webhook = await hook(system, receiver, "*")
    own = connect(migrated_database_url)
    async with Courier(own, Poster(ALLOWED), FAST).running():
        async with transaction(system.database) as connection:
            await connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            )
        # Whoever has not heard of a connection for a second looks before it is used.
        await asyncio.sleep(1.2)
        await system.launch("plain")
        await ended(system, webhook)
    await own.dispose()
    assert len(receiver.got) == 1


async def test_what_is_cut_at_the_end_is_sent_later(system: System, receiver: Receiver) -> None:
    """A process that stops waits a moment for its attempts, and leaves what hangs to the claim."""
    receiver.reply = lambda _: None
    webhook = await hook(system, receiver, "*")
    await system.launch("plain")
    async with courier(system, patience=0.1, lease=0.3).running():
        await receiver.until(1)
    assert (await told(system.database, webhook))[0].status == "pending"
    receiver.reply = lambda _: answer(200)
    async with courier(system).running():
        (delivery,) = await ended(system, webhook)
    assert delivery.status == "delivered"
