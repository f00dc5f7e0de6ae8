"""Sandboxes of Kubernetes: a pod for each task, whose files are those of a folder of this machine.

Before a command what changed here is sent, after it what changed there is fetched. Whether its network is
closed, and how far its kernel is another, are up to the cluster: its NetworkPolicies and the RuntimeClass.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import structlog

from phoenix.domain.execution import Environment, ExecuteResult, Limits
from phoenix.errors import SandboxUnavailable
from phoenix.sandbox import pod_files, pod_runner
from phoenix.sandbox.folder import Folder
from phoenix.sandbox.output import Capture
from phoenix.sandbox.pod_exec import Conversation, conversation
from phoenix.sandbox.pods import WORKSPACE, KubernetesOptions, Pods, connected
from phoenix.sandbox.process import refusal, uncancelled
from phoenix.sandbox.shell import prelude

log = structlog.get_logger(__name__)

FILES, RUNNER = Path(pod_files.__file__), Path(pod_runner.__file__)
GRACE_SECONDS = 30.0
"""How long the pod may take to answer beyond the command's own deadline."""
FILE_SECONDS = 600.0
ANSWER_BYTES = 4 * 1024**3
TEND_SECONDS = 30.0
Key = tuple[str, str, bool]


@dataclass
class _Pod:
    """A pod of one workspace. `sent` is what this machine's folders held when they were last the same."""

    name: str = ""
    """Empty until it was started."""
    sent: dict[str, pod_files.Manifest] = field(default_factory=dict)
    used_at: float = field(default_factory=time.monotonic)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class KubernetesSandbox(Folder):
    """Runs commands in a pod over one folder, seen inside as /workspace."""

    kind = "kubernetes"
    root = WORKSPACE

    def __init__(
        self, workspace: Path, environment: Environment | None, read_only: bool, owner: KubernetesSandboxes
    ) -> None:
        super().__init__(workspace, environment, read_only)
        self._owner = owner

    async def execute(
        self,
        command: str,
        *,
        timeout_seconds: float,
        limits: Limits | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> ExecuteResult:
        """Run a shell command in the workspace; return when it and all it started are gone.

        Commands of one workspace run one after the other.

        Raises:
            SandboxUnavailable: the cluster gave no pod, or lost it.
        """
        if refused := refusal(command):
            return refused
        limits = limits or Limits()
        tmp = f"/tmp/phoenix-{secrets.token_hex(8)}"  # noqa: S108 - inside the pod
        shell = ["/bin/bash", "-c", prelude("", limits, processes=False, bash=True), "phoenix"]
        request = {
            "argv": [*shell, command.encode("utf-8", "replace").decode()],
            "variables": self.inner_variables(variables, home=f"{tmp}/home", tmp=tmp),
            "cwd": WORKSPACE,
            "tmp": tmp,
            "seconds": timeout_seconds,
            "limits": asdict(limits),
        }
        async with connected() as clients:
            pods = Pods(self._owner.options, clients)
            return await self._in_pod(pods, request, limits)

    async def _in_pod(self, pods: Pods, request: dict[str, Any], limits: Limits) -> ExecuteResult:
        workspace = self.require()
        async with self._owner.pod(pods, workspace, self.environment, self.read_only) as pod:
            if self.environment is not None:
                await _push(pods, pod, "environment", self.environment.root, str(self.environment.root))
            await _push(pods, pod, "workspace", workspace, WORKSPACE)
            result = await _run(pods, pod, request, limits)
            if not self.read_only:
                await uncancelled(_pull(pods, pod, workspace))
        return result


async def _push(pods: Pods, pod: _Pod, name: str, folder: Path, root: str) -> None:
    """Send what changed in a folder since it was last the same."""
    now = await asyncio.to_thread(pod_files.scan, str(folder))
    gone, new = pod_files.changes(pod.sent.get(name, {}), now)
    if name in pod.sent and not gone and not new:
        return
    with tempfile.TemporaryFile() as packed:
        await asyncio.to_thread(pod_files.pack, str(folder), new, packed)
        packed.seek(0)
        request = {"do": "push", "root": root, "name": name, "gone": gone}
        async with asyncio.timeout(FILE_SECONDS), conversation(pods, pod.name, "loader") as talk:
            await talk.say(FILES, request, packed)
            await talk.answer(most_bytes=ANSWER_BYTES)
    pod.sent[name] = now


async def _pull(pods: Pods, pod: _Pod, workspace: Path) -> None:
    """Fetch what a command changed, and make the same of this machine's folder."""
    request = {"do": "pull", "root": WORKSPACE, "name": "workspace"}
    async with asyncio.timeout(FILE_SECONDS), conversation(pods, pod.name, "loader") as talk:
        await talk.say(FILES, request)
        said, packed = await talk.answer(most_bytes=ANSWER_BYTES)
        await asyncio.to_thread(pod_files.apply, str(workspace), said["gone"], packed)
    pod.sent["workspace"] = await asyncio.to_thread(pod_files.scan, str(workspace))


async def _run(pods: Pods, pod: _Pod, request: dict[str, Any], limits: Limits) -> ExecuteResult:
    """Run the command; when this task is cancelled, end it first."""
    async with conversation(pods, pod.name, "sandbox") as talk:
        await talk.say(RUNNER, request)
        answer = asyncio.ensure_future(talk.answer(most_bytes=ANSWER_BYTES))
        try:
            async with asyncio.timeout(request["seconds"] + GRACE_SECONDS):
                said, body = await asyncio.shield(answer)
                return _result(said, body, limits)
        except TimeoutError as error:
            raise SandboxUnavailable(f"The pod {pod.name} does not answer.") from error
        finally:
            await uncancelled(_ended(talk, answer))


async def _ended(talk: Conversation, answer: asyncio.Future[Any]) -> None:
    """See to it that the command is over: its script answers only when nothing of it is left."""
    if answer.done():
        return
    await talk.interrupt()
    await asyncio.wait([answer], timeout=GRACE_SECONDS)
    answer.cancel()


def _result(said: dict[str, Any], body: IO[bytes], limits: Limits) -> ExecuteResult:
    streams = []
    for head, tail, total in said["parts"]:
        streams.append(Capture.of(limits.output_bytes, body.read(head), body.read(tail), total))
    stdout, stderr = streams
    return ExecuteResult(
        exit_code=said["exit"],
        stdout=stdout.text(),
        stderr=stderr.text(),
        seconds=said["seconds"],
        killed=said["killed"],
        truncated=stdout.truncated or stderr.truncated,
    )


class KubernetesSandboxes:
    """Opens sandboxes of Kubernetes, and keeps their pods.

    A pod belongs to one workspace, environment and mode of this process; when something goes wrong with it,
    the next command gets another.
    """

    kind = "kubernetes"

    def __init__(self, options: KubernetesOptions | None = None) -> None:
        self.options = options or KubernetesOptions()
        self._pods: dict[Key, _Pod] = {}
        self._warm: list[str] = []

    def open(
        self, workspace: Path, *, environment: Environment | None = None, read_only: bool = False
    ) -> KubernetesSandbox:
        """Return a sandbox over a folder. Costs nothing until it executes."""
        return KubernetesSandbox(workspace, environment, read_only, self)

    @asynccontextmanager
    async def pod(
        self, pods: Pods, workspace: Path, environment: Environment | None, read_only: bool
    ) -> AsyncIterator[_Pod]:
        """Hold a workspace's pod for one command; one that something went wrong with is ended."""
        key = (str(workspace), environment.id if environment else "", read_only)
        while True:
            found = self._pods.setdefault(key, _Pod())
            async with found.lock:
                if self._pods.get(key) is not found:
                    continue  # something went wrong with it while this waited
                try:
                    if not found.name:
                        places = environment.root.parent if environment else self.options.environments
                        found.name = await self._start(pods, places, read_only)
                    yield found
                except BaseException:
                    del self._pods[key]
                    if found.name:
                        await uncancelled(self._ended(pods, found.name))
                    raise
                finally:
                    found.used_at = time.monotonic()
                return

    async def _start(self, pods: Pods, environments: Path | None, read_only: bool) -> str:
        if self._warm and not read_only and environments == self.options.environments:
            return self._warm.pop()
        return await pods.start(environments=environments, read_only=read_only)

    @asynccontextmanager
    async def tended(self) -> AsyncIterator[None]:
        """Keep pods warm beside the body, end idle ones and orphans; at the end, all of this process."""
        tending = asyncio.create_task(self._tend(), name="sandbox pods")
        try:
            yield
        finally:
            tending.cancel()
            await asyncio.wait([tending])
            await uncancelled(self.close())

    async def close(self) -> None:
        """End all pods of this process; the next command gets another."""
        try:
            async with connected() as clients:
                for name in self._names():
                    await self._ended(Pods(self.options, clients), name)
        except SandboxUnavailable as error:
            log.warning("sandbox_pods_left", error=error.message)
        self._warm, self._pods = [], {}

    async def _tend(self) -> None:
        while True:
            try:
                async with connected() as clients:
                    await self.tend(Pods(self.options, clients))
            except SandboxUnavailable as error:
                log.warning("sandbox_pods_untended", error=error.message)
            await asyncio.sleep(TEND_SECONDS)

    async def tend(self, pods: Pods) -> None:
        """Look after the pods once.

        Raises:
            SandboxUnavailable: the cluster cannot be asked.
        """
        idle = time.monotonic() - self.options.idle_seconds
        for key, pod in list(self._pods.items()):
            if pod.used_at < idle and not pod.lock.locked():
                del self._pods[key]
                await pods.end(pod.name)
        await pods.show(self._names())
        for name in await pods.reap():
            log.info("sandbox_pod_reaped", pod=name)
            self._forget(name)
        while len(self._warm) < self.options.warm:
            self._warm.append(await pods.start(environments=self.options.environments, read_only=False))

    def _names(self) -> list[str]:
        return [*self._warm, *(pod.name for pod in self._pods.values() if pod.name)]

    def _forget(self, name: str) -> None:
        self._warm = [other for other in self._warm if other != name]
        self._pods = {key: pod for key, pod in self._pods.items() if pod.name != name}

    async def _ended(self, pods: Pods, name: str) -> None:
        try:
            await pods.end(name)
        except SandboxUnavailable as error:
            # Others reap it when its owner has not shown itself for a while.
            log.warning("sandbox_pod_left", pod=name, error=error.message)
