"""Commands are counted by how they end, and what comes back is what the sandbox gave."""

from __future__ import annotations

from pathlib import Path

import pytest

from phoenix.domain.execution import ExecuteResult
from phoenix.errors import SandboxUnavailable
from phoenix.sandbox.host import HostSandbox, HostSandboxes
from phoenix.sandbox.measured import MeasuredSandboxes
from phoenix.telemetry.metrics import REGISTRY

COMMANDS = {"succeeded": "echo done", "failed": "exit 3", "killed": "sleep 30"}


def counted(outcome: str) -> float:
    """Return how many commands ended so."""
    labels = {"kind": "host", "outcome": outcome}
    return REGISTRY.get_sample_value("phoenix_sandbox_commands_total", labels) or 0.0


@pytest.mark.parametrize("outcome", COMMANDS)
async def test_a_command_counts_by_its_end(tmp_path: Path, outcome: str) -> None:
    """Once, whatever it is."""
    sandbox = MeasuredSandboxes(HostSandboxes()).open(tmp_path)
    assert (sandbox.kind, sandbox.root) == ("host", HostSandboxes().open(tmp_path).root)
    before = {name: counted(name) for name in COMMANDS}
    result = await sandbox.execute(COMMANDS[outcome], timeout_seconds=0.5 if outcome == "killed" else 20)
    assert (result.stdout, result.exit_code, bool(result.killed)) == {
        "succeeded": ("done\n", 0, False),
        "failed": ("", 3, False),
        "killed": ("", None, True),
    }[outcome]
    assert {name: counted(name) - before[name] for name in COMMANDS} == {
        name: float(name == outcome) for name in COMMANDS
    }


async def test_a_sandbox_that_is_not_to_be_had_counts_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is the sandbox's own."""

    async def refuse(*_: object, **__: object) -> ExecuteResult:
        raise SandboxUnavailable("Nothing isolates here.")

    monkeypatch.setattr(HostSandbox, "execute", refuse)
    before = counted("unavailable")
    with pytest.raises(SandboxUnavailable, match="Nothing isolates"):
        await MeasuredSandboxes(HostSandboxes()).open(tmp_path).execute("true", timeout_seconds=1)
    assert counted("unavailable") == before + 1


async def test_files_pass_through(tmp_path: Path) -> None:
    """Both ways."""
    sandbox = MeasuredSandboxes(HostSandboxes()).open(tmp_path)
    await sandbox.upload({"a.txt": b"one"})
    assert await sandbox.download(["a.txt", "missing"]) == {"a.txt": b"one"}
