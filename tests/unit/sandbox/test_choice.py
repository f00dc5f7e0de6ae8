"""Choosing a sandbox: tried for real, refused with reasons, never silently unisolated."""

from __future__ import annotations

from pathlib import Path

import pytest

from phoenix.errors import SandboxUnavailable, SettingInvalid
from phoenix.sandbox import bubblewrap
from phoenix.sandbox.bubblewrap import BubblewrapSandboxes
from phoenix.sandbox.choice import choose_sandboxes, probe, probe_all
from phoenix.sandbox.docker import DockerSandboxes
from phoenix.sandbox.host import HostSandboxes


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let no program be found, so that only sandlock, which needs none, can work."""
    monkeypatch.setenv("PATH", str(tmp_path))
    bubblewrap._program.cache_clear()
    yield
    bubblewrap._program.cache_clear()


async def test_auto_takes_what_works() -> None:
    """On a machine with any working sandbox one is chosen, and never the host."""
    working = [p.kind for p in await probe_all() if p.works]
    if not working:
        pytest.skip("no sandbox works here")
    assert (await choose_sandboxes("auto")).kind == working[0]


async def test_every_kind_says_why_it_does_not_work(nothing_installed: None) -> None:
    """A probe that fails has a reason and says what to do."""
    probes = {p.kind: p for p in await probe_all()}
    assert list(probes) == ["bubblewrap", "sandlock", "docker"]
    assert probes["bubblewrap"].reason == "bubblewrap is not installed."
    assert "apt install bubblewrap" in probes["bubblewrap"].hint
    assert probes["docker"].reason == "docker is not installed."


async def test_a_named_kind_that_does_not_work_is_refused(nothing_installed: None) -> None:
    """Asking for one kind never falls through to another."""
    with pytest.raises(SandboxUnavailable, match="bubblewrap is not installed") as caught:
        await choose_sandboxes("bubblewrap")
    assert "apt install" in caught.value.hint


async def test_an_unknown_kind_is_refused() -> None:
    """A typo names the setting and the kinds there are."""
    with pytest.raises(SettingInvalid, match="bubblewrap"):
        await choose_sandboxes("bublewrap")


async def test_the_host_is_taken_only_when_named() -> None:
    """The host is there by explicit setting, and a probe sees that it isolates nothing."""
    assert (await choose_sandboxes("host")).kind == "host"
    tried = await probe(HostSandboxes())
    assert not tried.works
    assert "file outside" in tried.reason


async def test_a_broken_bubblewrap_does_not_run_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A bwrap that fails in its set-up raises with its own words, and nothing has run."""
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(bubblewrap, "_program", lambda: str(fake))
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    with pytest.raises(SandboxUnavailable, match="No permissions to create new namespace"):
        await BubblewrapSandboxes().open(workspace).execute("touch ran", timeout_seconds=5)
    assert not (workspace / "ran").exists()


async def test_a_bubblewrap_that_prints_success_without_starting_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Exit code 0 without the mark from inside is no success."""
    monkeypatch.setattr(bubblewrap, "_program", lambda: "/bin/true")
    with pytest.raises(SandboxUnavailable):
        await BubblewrapSandboxes().open(tmp_path).execute("touch ran", timeout_seconds=5)


def test_docker_gets_no_network_and_no_rights(tmp_path: Path) -> None:
    """The container's arguments close what docker leaves open by default."""
    from phoenix.domain.execution import Limits

    sandbox = DockerSandboxes().open(tmp_path, read_only=True)
    argv = sandbox.arguments("name", Limits(processes=7), {"A": "b c"})
    text = " ".join(argv)
    for part in ("--network none", "--read-only", "--cap-drop ALL", "no-new-privileges", "--pids-limit 7"):
        assert part in text
    assert f"type=bind,source={tmp_path},target=/workspace,readonly" in argv
    assert "A=b c" in argv
