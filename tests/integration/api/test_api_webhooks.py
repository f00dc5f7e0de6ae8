"""Webhooks over HTTP: made, changed, tried out and deleted by administrators, and by nobody else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
import structlog
from httpx import AsyncClient
from sqlalchemy import text

from phoenix.delivery.posting import Poster
from phoenix.domain.addresses import Allowed
from phoenix.domain.webhook import NOTABLE
from phoenix.engine.courier import Courier, CourierOptions
from phoenix.storage.database import transaction
from phoenix.telemetry.logs import configure_logs
from tests.integration.api.conftest import Front
from tests.integration.api.test_api_projects import NEW
from tests.unit.delivery.receiver import Receiver, answer, receiving
from tests.unit.domain.test_webhook import example

HOOKS = "/api/v1/webhooks"
URL = "https://hooks.example.org/phoenix?token=only-for-the-receiver"
FAST = CourierOptions(poll=0.02, first_wait=0.05, longest_wait=0.2)
verify = example()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as running:
        yield running


@pytest.fixture
async def admin(front: Front) -> AsyncIterator[AsyncClient]:
    """Return a client of an administrator."""
    async with front.client(await front.member("admin")) as http:
        yield http


def courier(front: Front) -> Courier:
    return Courier(front.system.database, Poster(Allowed(["127.0.0.0/8"])), FAST)


async def made(http: AsyncClient, url: str = URL, **more: Any) -> tuple[dict[str, Any], str]:
    answered = await http.post(HOOKS, json={"url": url, **more})
    assert answered.status_code == 201, answered.text
    body = answered.json()
    return body["webhook"], body["secret"]


async def until_ended(http: AsyncClient, webhook: dict[str, Any], count: int = 1) -> list[dict[str, Any]]:
    async with asyncio.timeout(30):
        while True:
            items = (await http.get(f"{HOOKS}/{webhook['id']}/deliveries")).json()["items"]
            over: list[dict[str, Any]] = [d for d in items if d["status"] != "pending"]
            if len(over) >= count:
                return over
            await asyncio.sleep(0.05)


async def test_a_webhook_from_making_to_deleting(admin: AsyncClient) -> None:
    """Made with defaults, listed, read, changed under its ETag, deleted."""
    answered = await admin.post(HOOKS, json={"url": URL})
    webhook = answered.json()["webhook"]
    place = f"{HOOKS}/{webhook['id']}"
    assert (answered.status_code, answered.headers["location"]) == (201, place)
    assert webhook["kinds"] == list(NOTABLE)
    assert (await admin.get(HOOKS)).json() == [webhook]
    read = await admin.get(place)
    assert (read.json(), read.headers["etag"]) == (webhook, '"1"')

    changed = await admin.patch(
        place, json={"kinds": ["*"], "digest_every": "daily"}, headers={"If-Match": '"1"'}
    )
    assert (changed.status_code, changed.headers["etag"]) == (200, '"2"')
    assert (changed.json()["kinds"], changed.json()["digest_every"]) == (["*"], "daily")
    stale = await admin.patch(place, json={"active": False}, headers={"If-Match": '"1"'})
    assert (stale.status_code, stale.json()["code"]) == (412, "version_conflict")
    assert (await admin.get(place)).json() == changed.json()

    assert (await admin.delete(place)).status_code == 204
    for answered in (await admin.get(place), await admin.delete(place), await admin.patch(place, json={})):
        assert answered.status_code == 404
    assert (await admin.get(HOOKS)).json() == []


async def test_a_test_delivery_arrives_signed_and_is_logged(
    front: Front, admin: AsyncClient, receiver: Receiver
) -> None:
    """The secret of the first answer verifies it, as the documentation shows."""
    webhook, secret = await made(admin, receiver.url())
    receiver.reply = lambda _: answer(200, b"welcome")
    asked = await admin.post(f"{HOOKS}/{webhook['id']}/test")
    assert asked.status_code == 202, asked.text
    async with courier(front).running():
        (delivery,) = await until_ended(admin, webhook)
    (got,) = receiver.got
    assert verify(secret, got.headers, got.body) == delivery["id"] == asked.json()["id"]
    assert json.loads(got.body) == delivery["payload"]
    assert (delivery["type"], delivery["status"], delivery["response_status"]) == (
        "webhook_test",
        "delivered",
        200,
    )
    (attempt,) = delivery["log"]
    assert (attempt["status"], attempt["error"], delivery["response_body"]) == (200, "", "welcome")
    assert attempt["seconds"] >= 0


async def test_a_launched_project_is_told_of(front: Front, admin: AsyncClient, receiver: Receiver) -> None:
    """Launch over HTTP, event, delivery, receiver."""
    webhook, secret = await made(admin, receiver.url(), kinds=["project_created"])
    project = (await admin.post("/api/v1/projects", json=NEW)).json()
    async with courier(front).running():
        await until_ended(admin, webhook)
    (got,) = receiver.got
    assert verify(secret, got.headers, got.body)
    assert json.loads(got.body)["data"]["project_id"] == project["id"]


async def test_both_secrets_sign_while_they_are_exchanged(
    front: Front, admin: AsyncClient, receiver: Receiver
) -> None:
    """A receiver that has the old one goes on; without overlap the old one is worth nothing at once."""
    webhook, first = await made(admin, receiver.url())
    place = f"{HOOKS}/{webhook['id']}"
    rotated = await admin.post(f"{place}/rotate", json={})
    second = rotated.json()["secret"]
    assert (rotated.status_code, rotated.headers["etag"]) == (200, '"2"')
    assert rotated.json()["webhook"]["old_secret_until"] is not None
    assert len({first, second}) == 2
    async with courier(front).running():
        await admin.post(f"{place}/test")
        await until_ended(admin, webhook)
        third = (await admin.post(f"{place}/rotate", json={"overlap_hours": 0})).json()["secret"]
        await admin.post(f"{place}/test")
        await until_ended(admin, webhook, 2)
    during, after = receiver.got
    assert verify(first, during.headers, during.body) == verify(second, during.headers, during.body)
    assert verify(third, after.headers, after.body)
    for secret in (first, second):
        with pytest.raises(ValueError, match="not signed"):
            verify(secret, after.headers, after.body)


async def test_an_old_secret_ends_with_its_time(front: Front, admin: AsyncClient, receiver: Receiver) -> None:
    """Once the overlap is over only the new one signs."""
    webhook, first = await made(admin, receiver.url())
    place = f"{HOOKS}/{webhook['id']}"
    second = (await admin.post(f"{place}/rotate", json={"overlap_hours": 1})).json()["secret"]
    async with transaction(front.system.database) as connection:
        past = "UPDATE webhooks SET old_secret_until = clock_timestamp() - interval '1 second'"
        await connection.execute(text(past))
    await admin.post(f"{place}/test")
    async with courier(front).running():
        await until_ended(admin, webhook)
    (got,) = receiver.got
    assert verify(second, got.headers, got.body)
    with pytest.raises(ValueError, match="not signed"):
        verify(first, got.headers, got.body)


async def test_a_secret_is_nowhere_but_in_the_answer_that_made_it(
    front: Front,
    admin: AsyncClient,
    receiver: Receiver,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not in other answers, the log, events, the audit log or the log of deliveries; nor is a URL's query."""
    configure_logs("debug")
    for module in ("phoenix.engine.courier", "phoenix.api.middleware"):
        # One that was used before keeps the level that it had then.
        monkeypatch.setattr(f"{module}.log", structlog.get_logger(module))
    receiver.reply = lambda got: answer(500, json.dumps(got.headers).encode())
    webhook, first = await made(admin, f"{receiver.url()}?token=hush", kinds=["*"])
    place = f"{HOOKS}/{webhook['id']}"
    second = (await admin.post(f"{place}/rotate", json={})).json()["secret"]
    await admin.patch(place, json={"url": f"{receiver.url()}?token=hush"})
    await admin.post(f"{place}/test")
    await admin.post("/api/v1/projects", json=NEW)
    async with courier(front).running():
        await receiver.until(6)
    said = [capsys.readouterr().err]
    for path in (HOOKS, place, f"{place}/deliveries", "/api/v1/audit"):
        said.append((await admin.get(path)).text)
    async with transaction(front.system.database) as connection:
        for table in ("events", "audit", "webhook_deliveries", "procrastinate_jobs"):
            said.append(str((await connection.execute(text(f"SELECT * FROM {table}"))).all()))
    everything = "\n".join(said)
    assert "webhook_attempted" in everything
    for secret in (first, second):
        assert secret.removeprefix("whsec_") not in everything
    shown = [(await admin.get(path)).text for path in (HOOKS, place)]
    assert "hush" in shown[0]  # administrators see the URL
    assert not any("hush" in part for part in said if part not in shown)


async def test_only_administrators_see_webhooks(front: Front, admin: AsyncClient) -> None:
    """Everybody else is refused on every route, and another organisation's find nothing."""
    webhook, _ = await made(admin)
    place = f"{HOOKS}/{webhook['id']}"
    delivery = (await admin.post(f"{place}/test")).json()["id"]
    calls: list[tuple[str, str, Any]] = [
        ("GET", HOOKS, None),
        ("POST", HOOKS, {"url": URL}),
        ("GET", place, None),
        ("PATCH", place, {"active": False}),
        ("POST", f"{place}/rotate", {}),
        ("POST", f"{place}/test", None),
        ("GET", f"{place}/deliveries", None),
        ("POST", f"{place}/deliveries/{delivery}/retry", None),
        ("DELETE", place, None),
    ]
    for role in ("viewer", "developer", "approver"):
        async with front.client(await front.member(role)) as http:
            for method, path, body in calls:
                assert (await http.request(method, path, json=body)).status_code == 403, (method, path)
    async with front.client() as http:
        for method, path, body in calls:
            assert (await http.request(method, path, json=body)).status_code == 401, (method, path)
    other = await front.member("admin", organisation_id=await front.organisation())
    async with front.client(other) as http:
        assert (await http.get(HOOKS)).json() == []
        for method, path, body in calls[2:]:
            answered = await http.request(method, path, json=body)
            missing = await http.request(method, path.replace(webhook["id"], str(uuid4())), json=body)
            assert (answered.status_code, answered.json()["code"]) == (404, "not_found"), (method, path)
            assert missing.status_code == 404
    assert (await admin.get(place)).json() == webhook


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://hooks.example.org/", "https only"),
        ("https://10.0.0.1/", "not a public address"),
        ("https://[::ffff:169.254.169.254]/", "not a public address"),
        ("https://user:hunter2@hooks.example.org/", "credentials"),
        ("ftp://hooks.example.org/", "no https URL"),
    ],
)
async def test_a_url_that_is_not_used_is_refused(admin: AsyncClient, url: str, why: str) -> None:
    """When it is given and when it is changed; the field is named, and no password is repeated."""
    webhook, _ = await made(admin)
    for answered in (
        await admin.post(HOOKS, json={"url": url}),
        await admin.patch(f"{HOOKS}/{webhook['id']}", json={"url": url}),
    ):
        problem = answered.json()
        assert (answered.status_code, problem["code"]) == (422, "address_refused"), problem
        assert problem["field"] == "body.url"
        assert why in problem["detail"]
        assert "hunter2" not in answered.text
    assert len((await admin.get(HOOKS)).json()) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"kinds": []},
        {"kinds": ["Not A Kind"]},
        {"kinds": ["x"] * 51},
        {"digest_every": "monthly"},
        {"secret": "mine"},
        {"url": 5},
    ],
)
async def test_a_body_that_does_not_fit_is_refused(admin: AsyncClient, body: dict[str, Any]) -> None:
    """Nobody chooses a secret, and a webhook is told something."""
    answered = await admin.post(HOOKS, json={"url": URL, **body})
    assert answered.status_code == 422, answered.text
    assert answered.json()["field"].startswith("body.")


async def test_a_digest_alone_is_enough(admin: AsyncClient) -> None:
    """Nothing else is told; taking the digest away too would leave nothing."""
    webhook, _ = await made(admin, kinds=[], digest_every="daily")
    answered = await admin.patch(f"{HOOKS}/{webhook['id']}", json={"digest_every": ""})
    assert (answered.status_code, answered.json()["field"]) == (422, "body.kinds")


async def test_posts_that_come_twice_are_done_once(front: Front, admin: AsyncClient) -> None:
    """One webhook, one secret, one delivery, however often they are asked for under a key."""
    keyed = {"Idempotency-Key": "make"}
    answers = [await admin.post(HOOKS, json={"url": URL}, headers=keyed) for _ in range(2)]
    assert answers[0].text == answers[1].text
    assert answers[1].headers["etag"] == '"1"'
    webhook = answers[0].json()["webhook"]
    place = f"{HOOKS}/{webhook['id']}"
    for path, body in (("test", None), ("rotate", {})):
        texts = {
            (await admin.post(f"{place}/{path}", json=body, headers={"Idempotency-Key": path})).text
            for _ in range(2)
        }
        assert len(texts) == 1
    assert len((await admin.get(f"{place}/deliveries")).json()["items"]) == 1
    assert (await admin.get(place)).json()["version"] == 2


async def test_a_delivery_can_be_sent_again(front: Front, admin: AsyncClient, receiver: Receiver) -> None:
    """Under its id; an unknown one, and one of another webhook, are not there; nor when switched off."""
    webhook, _ = await made(admin, receiver.url())
    other, _ = await made(admin, receiver.url())
    place = f"{HOOKS}/{webhook['id']}"
    async with courier(front).running():
        await admin.post(f"{place}/test")
        (delivery,) = await until_ended(admin, webhook)
        again = await admin.post(f"{place}/deliveries/{delivery['id']}/retry")
        assert (again.status_code, again.json()["status"]) == (202, "pending")
        await receiver.until(2)
        (delivery,) = await until_ended(admin, webhook)
    assert {g.id for g in receiver.got} == {delivery["id"]}
    assert len(delivery["log"]) == 2
    for hook, wanted in ((webhook["id"], uuid4()), (other["id"], delivery["id"])):
        assert (await admin.post(f"{HOOKS}/{hook}/deliveries/{wanted}/retry")).status_code == 404
    await admin.patch(place, json={"active": False})
    for path in (f"{place}/deliveries/{delivery['id']}/retry", f"{place}/test"):
        assert (await admin.post(path)).status_code == 409


async def test_deliveries_come_in_pages(admin: AsyncClient) -> None:
    """Newest first, each once; a cursor of no list is refused."""
    webhook, _ = await made(admin)
    place = f"{HOOKS}/{webhook['id']}"
    asked = [(await admin.post(f"{place}/test")).json()["id"] for _ in range(5)]
    found: list[str] = []
    cursor = ""
    while True:
        page = (await admin.get(f"{place}/deliveries", params={"limit": 2, "cursor": cursor})).json()
        found += [d["id"] for d in page["items"]]
        if page["next"] is None:
            break
        cursor = page["next"]
    assert found == asked[::-1]
    answered = await admin.get(f"{place}/deliveries", params={"cursor": "x"})
    assert (answered.status_code, answered.json()["field"]) == (422, "query.cursor")


async def test_an_organisation_has_only_so_many(admin: AsyncClient) -> None:
    """Each event is compared with all of them."""
    for _ in range(50):
        await made(admin)
    answered = await admin.post(HOOKS, json={"url": URL})
    assert (answered.status_code, answered.json()["code"]) == (409, "conflict")


async def test_what_is_done_is_in_the_audit_log(admin: AsyncClient) -> None:
    """Each change with who did it."""
    webhook, _ = await made(admin)
    place = f"{HOOKS}/{webhook['id']}"
    delivery = (await admin.post(f"{place}/test")).json()["id"]
    await admin.post(f"{place}/deliveries/{delivery}/retry")
    await admin.post(f"{place}/rotate", json={})
    await admin.patch(place, json={"description": "ours"})
    await admin.delete(place)
    entries = (await admin.get("/api/v1/audit", params={"object_id": webhook["id"]})).json()
    actions = [entry["action"] for entry in reversed(entries)]
    assert actions == [f"webhook.{verb}" for verb in ("make", "test", "retry", "rotate", "change", "remove")]
    assert all(entry["actor"].startswith("admin-") for entry in entries)
    assert entries[-1]["data"]["host"] == "hooks.example.org"
