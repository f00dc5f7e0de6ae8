"""A worker's probes, asked over the network while it works, loses its database, and drains."""

from __future__ import annotations

import asyncio
import socket

import pytest
from httpx import AsyncClient
from prometheus_client.parser import text_string_to_metric_families

from phoenix.api.exposition import Exposition
from phoenix.api.probe import open_probe
from phoenix.engine.fleet import FleetWatch
from phoenix.errors import SettingInvalid
from phoenix.storage.database import connect
from tests.integration.engine.engine_toy import System

PATIENCE_SECONDS = 30.0


def exposition_of(system: System) -> Exposition:
    """Return what writes the metrics of a system."""
    return Exposition(FleetWatch(system.database))


def samples(text: str) -> dict[str, float]:
    """Return what was scraped, by name and labels as they are written."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


def speaks_ipv6() -> bool:
    """Return whether this machine has an IPv6 loopback address: many containers have none."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


async def test_probes_follow_the_worker(system: System) -> None:
    """Alive from the start, ready once the heart beats, not ready when it no longer works."""
    worker = system.engine.own_worker
    async with (
        open_probe(worker, exposition_of(system), port=0, host="127.0.0.1") as port,
        AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        assert (await http.get("/livez")).status_code == 200
        before = await http.get("/readyz")
        assert before.status_code == 503
        assert before.json()["heartbeat_age_seconds"] is None
        async with system.engine.worker(), asyncio.timeout(PATIENCE_SECONDS):
            while (ready := await http.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.02)
            assert ready.json()["state"] == "active"
            assert ready.json()["heartbeat_age_seconds"] < 6
        assert (await http.get("/readyz")).status_code == 503
        assert (await http.get("/livez")).status_code == 200


async def test_a_heartbeat_that_no_longer_arrives_is_not_ready(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the last heartbeat is stale the worker takes no new runs' traffic, but is not restarted."""
    worker = system.engine.own_worker
    async with (
        open_probe(worker, exposition_of(system), port=0, host="127.0.0.1") as port,
        AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
        system.engine.worker(),
        asyncio.timeout(PATIENCE_SECONDS),
    ):
        while (await http.get("/readyz")).status_code != 200:
            await asyncio.sleep(0.02)
        monkeypatch.setattr("phoenix.api.probe.STALE_SECONDS", 0.0)
        assert (await http.get("/readyz")).status_code == 503
        assert (await http.get("/livez")).status_code == 200


async def test_only_probes_are_answered(system: System) -> None:
    """Other paths, other methods and what is no request at all get nothing that helps."""
    async with (
        open_probe(system.engine.own_worker, exposition_of(system), port=0, host="127.0.0.1") as port,
        AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        assert (await http.get("/metric")).status_code == 404
        assert (await http.post("/livez")).status_code == 405
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x" * 20_000 + b"\r\n\r\n")
        assert await reader.read() == b""
        writer.close()
        assert (await http.get("/livez")).status_code == 200


async def test_every_address_answers_on_the_one_port_that_is_told(system: System) -> None:
    """A free port is the same for IPv4 and IPv6, whatever order the system lists them in."""
    async with (
        open_probe(system.engine.own_worker, exposition_of(system), port=0) as port,
        AsyncClient() as http,
    ):
        for host in ("127.0.0.1", "[::1]") if speaks_ipv6() else ("127.0.0.1",):
            assert (await http.get(f"http://{host}:{port}/livez")).status_code == 200


async def test_a_port_that_is_taken_is_named(system: System) -> None:
    """The error says which option to change."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingInvalid, match=str(port)):
            async with open_probe(
                system.engine.own_worker, exposition_of(system), port=port, host="127.0.0.1"
            ):
                pass


async def test_metrics_tell_of_the_process_and_of_the_whole_installation(system: System) -> None:
    """A run that waits for a person and one that ended are seen, with nothing that names them."""
    watch = FleetWatch(system.database)
    async with (
        open_probe(None, Exposition(watch), port=0, host="127.0.0.1") as port,
        AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        assert (await http.get("/readyz")).status_code == 200
        before = samples((await http.get("/metrics")).text)
        ended = "phoenix_runs_ended_total{flow=plain,status=success}"
        first = await system.launch("plain")
        async with system.engine.worker():
            await system.until(first.id, "success")
            waits = await system.launch("gate")
            await system.until(waits.id, "waiting")
            later = Exposition(watch)
            now = samples((await later()).decode())
        assert now[ended] == before.get(ended, 0) + 1
        assert now["phoenix_runs{status=waiting}"] == 1
        assert now["phoenix_workers{state=active}"] == 1
        assert now["phoenix_database_up{}"] == 1
        assert [key for key in now if key.startswith("phoenix_approvals_waiting")]
        assert now["phoenix_queue_wait_seconds_count{queue=default}"] >= 2
        assert any(key.startswith("phoenix_step_seconds_count{outcome=finished") for key in now)
        assert now["phoenix_checkpoint_batch_calls_count{what=writes}"] > 0
        assert now["phoenix_event_write_seconds_count{}"] > 0
        for project in (first, waits):
            assert str(project.id) not in (await later()).decode()


async def test_metrics_outlive_the_database(migrated_database_url: str) -> None:
    """They say that it is away, and the process's own are there."""
    gone = connect(migrated_database_url.rsplit("/", 1)[0] + "/there_is_none")
    text = (await Exposition(FleetWatch(gone))()).decode()
    found = samples(text)
    assert found["phoenix_database_up{}"] == 0
    assert not [key for key in found if key.startswith("phoenix_runs{")]
    assert "phoenix_http_requests" in text
    await gone.dispose()
