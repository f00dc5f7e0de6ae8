"""Commands right on this machine: nothing is isolated. Only for machines that are throwaway."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from phoenix.domain.execution import Environment, ExecuteResult, Limits
from phoenix.sandbox.folder import Folder
from phoenix.sandbox.guarded import Guarded
from phoenix.sandbox.process import refusal, run

HINT = "Check that this Python and /bin/sh can be started."


class HostSandbox(Folder):
    """Runs commands with this process's rights; time, output and leftovers are still limited."""

    kind = "host"

    def __init__(self, workspace: Path, environment: Environment | None, read_only: bool) -> None:
        super().__init__(workspace, environment, read_only)
        self.root = str(self.workspace.resolve())

    async def execute(
        self,
        command: str,
        *,
        timeout_seconds: float,
        limits: Limits | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> ExecuteResult:
        """Run a shell command in the workspace; return when it and all it started are gone."""
        if refused := refusal(command):
            return refused
        limits = limits or Limits()
        workspace = self.require()
        guarded = Guarded(limits, HINT)
        python = [f"{sys.base_prefix}/bin"]
        tmp = str(guarded.tmp)
        inner = self.inner_variables(variables, home=str(guarded.home), tmp=tmp, python=python)
        guarded.prepare(command, inner, cwd=workspace, policy=None)
        return await run(guarded, timeout_seconds=timeout_seconds, limits=limits)


class HostSandboxes:
    """Opens sandboxes that isolate nothing."""

    kind = "host"

    def open(
        self, workspace: Path, *, environment: Environment | None = None, read_only: bool = False
    ) -> HostSandbox:
        """Return a sandbox over a folder; `read_only` cannot be enforced here."""
        return HostSandbox(workspace, environment, read_only)
