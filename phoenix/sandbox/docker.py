"""Sandboxes of docker: one throwaway container a command, through the docker program."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from phoenix.domain.execution import Environment, ExecuteResult, Limits
from phoenix.errors import PathRefused, SandboxUnavailable
from phoenix.sandbox.folder import Folder
from phoenix.sandbox.process import refusal, run
from phoenix.sandbox.shell import OPEN_FILES, prelude
from phoenix.sandbox.system import python_roots
from phoenix.sandbox.usage import Usage

IMAGE = "python:3.12-slim"
ROOT = "/workspace"
HOME = "/tmp/home"  # noqa: S108 - inside the container
HINT = "Start the docker engine, and allow this user to use it (docker info must answer)."
REMOVE_SECONDS = 30.0


def _program() -> str:
    found = shutil.which("docker")
    if found is None:
        raise SandboxUnavailable("docker is not installed.", hint=HINT)
    return found


class _Container:
    """One container. Its limits are the engine's, so nothing is watched from here."""

    hint = HINT
    pass_fds: Sequence[int] = ()

    def __init__(self, name: str, argv: Sequence[str | bytes], ready: bytes) -> None:
        self.name = name
        self.argv = argv
        self.ready = ready
        kept = ("PATH", "HOME", "XDG_RUNTIME_DIR")
        self.variables = {n: v for n, v in os.environ.items() if n in kept or n.startswith("DOCKER_")}

    async def started(self, pid: int) -> None:
        """Nothing to note: the container is known by its name."""

    def usage(self) -> Usage | None:
        """Return None: the engine limits memory, processes and CPU by itself."""
        return None

    async def end(self) -> None:
        """Kill and remove the container; when it is already gone, that is as well."""
        process = await asyncio.create_subprocess_exec(
            _program(),
            "rm",
            "--force",
            self.name,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=self.variables,
        )
        try:
            async with asyncio.timeout(REMOVE_SECONDS):
                _, said = await process.communicate()
        except TimeoutError as error:
            process.kill()
            await process.wait()
            raise SandboxUnavailable(f"The container {self.name} could not be removed.") from error
        # An engine that does not answer never started the container: run() reports that itself.
        if process.returncode and b"removal" in said.lower():
            raise SandboxUnavailable(f"The container {self.name} could not be removed.")

    def close(self) -> None:
        """Nothing is held."""


class DockerSandbox(Folder):
    """Runs commands in fresh containers over one folder, seen inside as /workspace."""

    kind = "docker"
    root = ROOT

    def __init__(
        self, workspace: Path, environment: Environment | None, read_only: bool, image: str = IMAGE
    ) -> None:
        super().__init__(workspace, environment, read_only)
        self.image = image

    async def execute(
        self,
        command: str,
        *,
        timeout_seconds: float,
        limits: Limits | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> ExecuteResult:
        """Run a shell command in the workspace; return when it and all it started are gone.

        Raises:
            SandboxUnavailable: isolation could not be set up; the command did not run.
        """
        if refused := refusal(command):
            return refused
        limits = limits or Limits()
        name = f"phoenix-{secrets.token_hex(8)}"
        ready = f"[{secrets.token_hex(16)}]"
        argv: list[str | bytes] = [_program(), *self.arguments(name, limits, variables)]
        argv += [self.image, "/bin/sh", "-c", f"mkdir -p {HOME} && {self._prelude(ready, limits)}"]
        argv += ["phoenix", command.encode("utf-8", "replace")]
        container = _Container(name, argv, ready.encode())
        return await run(container, timeout_seconds=timeout_seconds, limits=limits)

    def _prelude(self, ready: str, limits: Limits) -> str:
        return prelude(ready, limits, processes=False, bash=False)

    def arguments(self, name: str, limits: Limits, variables: Mapping[str, str] | None) -> list[str]:
        """Return the arguments of `docker` up to the image."""
        argv = ["run", "--rm", "--init", "--name", name, "--hostname", "sandbox"]
        argv += ["--network", "none", "--ipc", "private", "--read-only", "--cap-drop", "ALL"]
        argv += ["--security-opt", "no-new-privileges", "--user", f"{os.getuid()}:{os.getgid()}"]
        argv += ["--pids-limit", str(limits.processes), "--memory", str(limits.memory_bytes)]
        argv += ["--memory-swap", str(limits.memory_bytes), "--ulimit", f"nofile={OPEN_FILES}:{OPEN_FILES}"]
        argv += ["--tmpfs", f"/tmp:rw,exec,nosuid,nodev,mode=1777,size={limits.tmp_bytes}"]  # noqa: S108
        argv += ["--shm-size", str(max(limits.tmp_bytes // 4, 1024**2)), "--workdir", ROOT]
        argv += self._mount(self.require(), ROOT, self.read_only)
        if self.environment is not None:
            argv += self._mount(self.environment.root, str(self.environment.root), True)
            for folder in python_roots():
                argv += self._mount(Path(folder), folder, True)
        inner = self.inner_variables(variables, home=HOME, tmp="/tmp")  # noqa: S108
        for key, value in inner.items():
            argv += ["--env", f"{key}={value}"]
        return argv

    def _mount(self, source: Path, target: str, read_only: bool) -> list[str]:
        if "," in f"{source}{target}" or '"' in f"{source}{target}":
            raise PathRefused(f"docker cannot mount {source}: its name holds a comma or a quote.")
        flag = ",readonly" if read_only else ""
        return ["--mount", f"type=bind,source={source},target={target}{flag}"]


class DockerSandboxes:
    """Opens docker sandboxes of one image."""

    kind = "docker"

    def __init__(self, image: str = IMAGE) -> None:
        self.image = image

    def open(
        self, workspace: Path, *, environment: Environment | None = None, read_only: bool = False
    ) -> DockerSandbox:
        """Return a sandbox over a folder. Costs nothing until it executes."""
        return DockerSandbox(workspace, environment, read_only, self.image)
