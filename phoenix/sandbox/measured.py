"""Counts what sandboxes execute, whatever their kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from phoenix.domain.execution import Environment, ExecuteResult, Limits
from phoenix.errors import SandboxUnavailable
from phoenix.ports import Sandbox, Sandboxes
from phoenix.telemetry import tracing
from phoenix.telemetry.metrics import SANDBOX_COMMANDS, SANDBOX_SECONDS


class MeasuredSandboxes:
    """Port `Sandboxes` around another."""

    def __init__(self, sandboxes: Sandboxes) -> None:
        self.kind = sandboxes.kind
        self._sandboxes = sandboxes

    def open(
        self, workspace: Path, *, environment: Environment | None = None, read_only: bool = False
    ) -> Sandbox:
        return _Measured(self._sandboxes.open(workspace, environment=environment, read_only=read_only))


class _Measured:
    """Port `Sandbox` around another."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.kind = sandbox.kind
        self.root = sandbox.root
        self._sandbox = sandbox

    async def execute(
        self,
        command: str,
        *,
        timeout_seconds: float,
        limits: Limits | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> ExecuteResult:
        with tracing.leaf("sandbox", f"execute {self.kind}", phoenix__sandbox__kind=self.kind) as span:
            try:
                result = await self._sandbox.execute(
                    command, timeout_seconds=timeout_seconds, limits=limits, variables=variables
                )
            except SandboxUnavailable:
                SANDBOX_COMMANDS.labels(self.kind, "unavailable").inc()
                raise
            code = -1 if result.exit_code is None else result.exit_code
            span.set(process__exit__code=code, phoenix__outcome=_outcome(result))
        SANDBOX_COMMANDS.labels(self.kind, _outcome(result)).inc()
        SANDBOX_SECONDS.labels(self.kind).observe(result.seconds)
        return result

    async def upload(self, files: Mapping[str, bytes]) -> None:
        await self._sandbox.upload(files)

    async def download(self, paths: Sequence[str]) -> dict[str, bytes]:
        return await self._sandbox.download(paths)


def _outcome(result: ExecuteResult) -> str:
    if result.killed:
        return "killed"
    return "succeeded" if result.exit_code == 0 else "failed"
