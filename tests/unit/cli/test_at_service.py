"""Commands that look back, fork and clean up at a service elsewhere; here nothing is started for them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

import pytest
from pydantic import SecretStr

from phoenix.api.serving import serve
from phoenix.bootstrap import open_system
from phoenix.domain.identity import Principal
from phoenix.domain.run import DEFAULT_ORGANISATION
from phoenix.door import open_door
from phoenix.engine.identity import Identity
from phoenix.settings import Settings
from phoenix.workflows.loading import load_flow
from tests.unit.cli.test_commands import Shell, lines, shell  # noqa: F401 a fixture

LONGEST_SECONDS = 60.0


@dataclass
class Service:
    """A service that runs in another thread, with a project that it has worked on."""

    url: str
    key: str
    viewer_key: str
    project: str


@dataclass
class Started:
    """What the service's thread tells."""

    loop: asyncio.AbstractEventLoop
    stopping: asyncio.Event
    url: str
    key: str
    viewer_key: str


async def viewer_key(identity: Identity, admin_key: str) -> str:
    """Return the key of a member who may only read."""
    root = await identity.of_key(admin_key)
    made = await identity.add_member(root, email="v@example.org", name="", role="viewer", password=None)
    who = Principal(
        user_id=made.user.id,
        organisation_id=DEFAULT_ORGANISATION,
        email=made.user.email,
        role="viewer",
        via="key",
        credential_id=UUID(int=0),
    )
    return (await identity.make_key(who, name="v", scopes=["read"], expires_at=None))[1]


async def run_service(
    settings: Settings, target: str, started: list[Started], ready: threading.Event
) -> None:
    """Serve and work until it is told to stop."""
    loaded, stopping = load_flow(target), asyncio.Event()
    flows = {loaded.name: loaded.flow}
    async with (
        open_system(settings, flows=flows, types=loaded.types) as system,
        system.engine.worker(),
        open_door(system) as (app, key),
    ):
        assert key is not None
        lesser = await viewer_key(Identity(system.rows), key)

        def tell(port: int) -> None:
            url = f"http://127.0.0.1:{port}"
            started.append(Started(asyncio.get_running_loop(), stopping, url, key, lesser))
            ready.set()

        await serve(app, host="127.0.0.1", port=0, stopping=stopping, drain_seconds=1, ready=tell)


@pytest.fixture
def service(shell: Shell, migrated_database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:  # noqa: F811
    """Return a service; the shell is on a machine that knows its address and has no database."""
    assert shell.run("reviewed", '{"text": "hi"}', "--approve", "auto").exit_code == 0
    project = lines(shell.phoenix("list", "--json"))[0]["project_id"]
    settings = Settings(
        home=shell.folder / "home", sandbox="host", DATABASE_URL=SecretStr(migrated_database_url)
    )  # type: ignore[call-arg]
    started, ready = list[Started](), threading.Event()
    running = run_service(settings, shell.flow("reviewed"), started, ready)
    thread = threading.Thread(target=lambda: asyncio.run(running), name="service")
    thread.start()
    assert ready.wait(LONGEST_SECONDS), "the service did not start"
    (found,) = started
    monkeypatch.delenv("DATABASE_URL")
    monkeypatch.setenv("PHOENIX_HOME", str(shell.folder / "client"))
    monkeypatch.setenv("PHOENIX_API_KEY", found.key)
    yield Service(found.url, found.key, found.viewer_key, project)
    found.loop.call_soon_threadsafe(found.stopping.set)
    thread.join(LONGEST_SECONDS)
    assert not thread.is_alive()
    assert not (shell.folder / "client").exists(), "a command started something of its own"


def test_a_project_elsewhere_is_looked_back_at_forked_and_cleaned_up(
    shell: Shell,  # noqa: F811
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same commands with the same answers as for a project of this machine."""
    at = ("--server", service.url)
    found = lines(shell.phoenix("history", service.project[:8], *at, "--json"))
    assert [(f["step"], f["asks"]) for f in found] == [("start", []), ("shout", ["note"]), ("note", [])]
    one = lines(shell.phoenix("history", service.project, "--at", found[1]["id"], "--json", *at))
    assert one == [found[1]]
    wrong = shell.phoenix("history", service.project, "--at", "nowhere", *at)
    assert (wrong.exit_code, "There is no checkpoint 'nowhere'" in wrong.stderr) == (2, True)

    form = shell.phoenix("history", service.project, "--at", "note", "--yaml", *at)
    assert (form.exit_code, form.stdout.splitlines()[-1]) == (0, "text: HI"), form.output
    edited = shell.folder / "note.yaml"
    edited.write_text(form.stdout.replace("HI", "edited"))
    monkeypatch.setenv("PHOENIX_SERVER", service.url)
    forked = shell.phoenix("fork", service.project[:8], "--at", "note", "--edit", str(edited), "--json")
    assert forked.exit_code == 0, forked.output
    (fork, source) = lines(shell.phoenix("list", "--json"))
    latest = shell.phoenix("list", "--limit", "1", "--json")
    assert (lines(latest), "more projects" in latest.stderr) == ([fork], True)
    assert (fork["status"], source["project_id"]) == ("delivered", service.project)
    shown = json.loads(shell.phoenix("show", fork["project_id"], "--json").stdout)
    assert shown["forked_from"]["project_id"] == service.project

    asked = shell.phoenix("delete", fork["project_id"])
    assert (asked.exit_code, "Give --yes" in asked.stderr) == (2, True)
    gone = shell.phoenix("delete", fork["project_id"][:8], "--yes", "--json")
    assert lines(gone) == [{"project_id": fork["project_id"], "status": "deleted"}]
    assert len(lines(shell.phoenix("list", "--json"))) == 1

    assert shell.phoenix("prune").stdout == "nothing is due\n"
    dry = lines(shell.phoenix("prune", "--older-than", "0", "--dry-run", "--json"))[0]
    assert ([p["project_id"] for p in dry["projects"]], dry["dry_run"]) == ([service.project], True)
    assert len(lines(shell.phoenix("history", service.project, "--json"))) == 3
    assert shell.phoenix("prune", "--older-than", "0").stdout.endswith("gone\n")
    assert "has no checkpoint" in shell.phoenix("history", service.project).stdout
    assert shell.phoenix("prune", "--older-than", "0").stdout == "nothing is due\n"

    monkeypatch.setenv("PHOENIX_API_KEY", service.viewer_key)
    for command in (["prune", "--older-than", "0"], ["delete", service.project, "--yes"]):
        refused = shell.phoenix(*command)
        assert (refused.exit_code, "may not administer" in refused.stderr) == (1, True), refused.output
