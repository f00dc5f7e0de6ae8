"""A cluster without nodes: kmock keeps its pods, and each container is a real bubblewrap sandbox.

Volumes are folders; an exec call speaks the API's own websocket subprotocol with a process in the container.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from aiohttp import web
from kmock import KubernetesEmulator, Server, resource

PODS = resource("v1", "pods")
UID = "10001"


class Cluster(KubernetesEmulator):  # type: ignore[misc]
    """Serves pods, and exec calls into them.

    Args:
        folder: Where volumes are.
    """

    folder: Path
    execs: list[tuple[str, str]]
    broken: str = ""
    """Why no pod starts, such as ErrImagePull; empty while they do."""

    async def __call__(self, raw_request: web.BaseRequest) -> web.StreamResponse:
        parts = raw_request.path.split("/")
        if parts[-1] == "exec":
            return await self._exec(raw_request, namespace=parts[-4], name=parts[-2])
        answer = await super().__call__(raw_request)
        if raw_request.method == "POST" and parts[-1] == "pods" and answer.status < 300:
            body = json.loads(await raw_request.text())
            self._start(body["metadata"]["namespace"], body["metadata"]["name"], body["spec"])
        return answer

    def _start(self, namespace: str, name: str, spec: dict[str, Any]) -> None:
        state: dict[str, Any] = {"running": {"startedAt": datetime.now(UTC).isoformat()}}
        if self.broken:
            state = {"waiting": {"reason": self.broken, "message": "no such image"}}
        statuses = [
            {
                "name": container["name"],
                "image": container["image"],
                "imageID": "",
                "ready": not self.broken,
                "restartCount": 0,
                "state": state,
            }
            for container in spec["containers"]
        ]
        phase = "Pending" if self.broken else "Running"
        self.objects[PODS, namespace, name].patch({"status": {"phase": phase, "containerStatuses": statuses}})

    def pods(self) -> dict[str, dict[str, Any]]:
        """Return the pods that live, by name."""
        return {key[2]: dict(found.raw) for key, found in self.objects.items() if not found.deleted}

    async def _exec(self, request: web.BaseRequest, *, namespace: str, name: str) -> web.StreamResponse:
        pod = self.pods().get(name)
        if pod is None:
            return web.json_response({"kind": "Status", "code": 404, "reason": "NotFound"}, status=404)
        container = request.query["container"]
        self.execs.append((name, container))
        (found,) = (c for c in pod["spec"]["containers"] if c["name"] == container)
        socket = web.WebSocketResponse(protocols=["v4.channel.k8s.io"])
        await socket.prepare(request)
        process = await asyncio.create_subprocess_exec(
            *self._contained(namespace, name, found),
            *request.query.getall("command"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={},
        )
        tasks = [
            asyncio.create_task(_copied(process.stdout, socket, 1)),
            asyncio.create_task(_copied(process.stderr, socket, 2)),
            asyncio.create_task(_fed(socket, process)),
        ]
        try:
            code = await process.wait()
            await asyncio.gather(*tasks[:2])
            status = {"status": "Success"} if code == 0 else {"status": "Failure", "message": f"exit {code}"}
            with suppress(ConnectionError, aiohttp.ClientError):
                await socket.send_bytes(b"\x03" + json.dumps(status).encode())
                await socket.close()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        return socket

    def _contained(self, namespace: str, name: str, container: dict[str, Any]) -> list[str]:
        """Return the command that puts another into a container: its mounts and no others."""
        bwrap = shutil.which("bwrap")
        assert bwrap is not None
        argv = [
            bwrap,
            "--unshare-all",
            "--unshare-user",
            "--die-with-parent",
            "--new-session",
            "--cap-drop",
            "ALL",
        ]
        argv += ["--uid", UID, "--gid", UID, "--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev"]
        for top in ("bin", "sbin", "lib", "lib64"):
            argv += ["--symlink", f"usr/{top}", f"/{top}"]
        argv += ["--ro-bind", "/etc/alternatives", "/etc/alternatives"]
        if not Path(sys.base_prefix).is_relative_to("/usr"):
            argv += ["--ro-bind", sys.base_prefix, sys.base_prefix]
        for mount in sorted(container["volumeMounts"], key=lambda m: len(Path(m["mountPath"]).parts)):
            volume = self.folder / namespace / name / mount["name"]
            volume.mkdir(parents=True, exist_ok=True)
            argv += ["--ro-bind" if mount.get("readOnly") else "--bind", str(volume), mount["mountPath"]]
        path = f"{Path(sys.base_prefix) / 'bin'}:/usr/bin:/bin"
        return [*argv, "--chdir", "/", "--setenv", "PATH", path, "--"]


async def _copied(stream: asyncio.StreamReader | None, socket: web.WebSocketResponse, channel: int) -> None:
    assert stream is not None
    while data := await stream.read(32 * 1024):
        with suppress(ConnectionError, aiohttp.ClientError):
            await socket.send_bytes(bytes([channel]) + data)


async def _fed(socket: web.WebSocketResponse, process: asyncio.subprocess.Process) -> None:
    """Pass on what comes on the input's channel; when the client goes, the input ends."""
    assert process.stdin is not None
    async for message in socket:
        if message.type == aiohttp.WSMsgType.BINARY and message.data[:1] == b"\0":
            with suppress(ConnectionError):
                process.stdin.write(message.data[1:])
                await process.stdin.drain()
    process.stdin.close()


@asynccontextmanager
async def emulated_cluster(folder: Path) -> AsyncIterator[tuple[Cluster, Path]]:
    """Run a cluster; yield it and the file that KUBECONFIG is to name."""
    cluster = Cluster()
    cluster.folder, cluster.execs = folder / "volumes", []
    cluster.resources[PODS] = {"namespaced": True, "kind": "Pod"}
    async with cluster, Server(cluster) as server:
        config = folder / "kubeconfig"
        named = {"name": "emulated"}
        config.write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [named | {"cluster": {"server": f"http://127.0.0.1:{server.port}"}}],
                    "users": [named | {"user": {"token": "t"}}],
                    "contexts": [named | {"context": {"cluster": "emulated", "user": "emulated"}}],
                    "current-context": "emulated",
                }
            )
        )
        yield cluster, config
