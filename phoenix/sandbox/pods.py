"""Pods of sandboxes: what they are made of, and the calls to the cluster that make, list and end them."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from phoenix.errors import SandboxUnavailable

HINT = (
    "Check PHOENIX_KUBERNETES_NAMESPACE and PHOENIX_KUBERNETES_IMAGE, and that the service account may make "
    "pods there: kubectl auth can-i create pods --subresource=exec -n NAMESPACE."
)
MISSING = "Install it: pip install 'phoenix-engine[kubernetes]'."
WORKSPACE = "/workspace"
OWNER, SEEN = "phoenix.dev/owner", "phoenix.dev/seen"
LABELS = {"app.kubernetes.io/name": "phoenix-sandbox", "app.kubernetes.io/part-of": "phoenix"}
SELECTOR = ",".join(f"{name}={value}" for name, value in LABELS.items())
POLL_SECONDS = 0.2
HOPELESS = {
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "CreateContainerConfigError",
    "CreateContainerError",
}


@dataclass(frozen=True)
class KubernetesOptions:
    """Where and how pods are made.

    Args:
        namespace: Where; nothing else should be in it.
        image: What they run: Phoenix's own image, so that environments find their Python at the same place.
        runtime_class: Their RuntimeClass; empty for the cluster's default.
        warm: How many are kept started for the next task.
        environments: The folder of installed environments; one elsewhere gets a pod of its own kind.
        start_seconds: How long one may take to start, its image fetched.
        idle_seconds: After so long without a command a pod is ended.
        orphan_seconds: A pod whose owner has not shown itself for so long is ended by any other.
        life_seconds: The longest that a pod lives; the cluster ends it by itself.
    """

    namespace: str = "phoenix-sandboxes"
    image: str = "phoenix"
    runtime_class: str = ""
    warm: int = 0
    environments: Path | None = None
    start_seconds: float = 180.0
    idle_seconds: float = 300.0
    orphan_seconds: float = 600.0
    life_seconds: int = 4 * 3600
    memory: str = "4Gi"
    cpu: str = "2"
    disk: str = "8Gi"
    owner: str = field(
        default_factory=lambda: f"{socket.gethostname()[:40].rstrip('.-')}-{secrets.token_hex(4)}"
    )


@dataclass(frozen=True)
class Clients:
    """Of one cluster: for calls, and for those that become a websocket, which is all that one can do."""

    calls: Any
    sockets: Any

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the cluster's API."""
        parts = urlsplit(self.calls.configuration.host)
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _own_name() -> str:
    """Return a name of this process that a label can hold."""
    return f"{socket.gethostname()[:40].rstrip('.-')}-{secrets.token_hex(4)}"


@asynccontextmanager
async def connected() -> AsyncIterator[Clients]:
    """Yield clients of the cluster: of the pod that this runs in, else of KUBECONFIG.

    Raises:
        SandboxUnavailable: the library is missing, or no cluster is configured.
    """
    try:
        from kubernetes_asyncio import config
        from kubernetes_asyncio.client import ApiClient, Configuration
        from kubernetes_asyncio.stream import WsApiClient
    except ImportError as error:
        raise SandboxUnavailable("The package kubernetes-asyncio is not installed.", hint=MISSING) from error
    settings = Configuration()
    try:
        if "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ:
            config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
        else:
            # The library reads that variable when it is imported, and never again.
            named = os.environ.get("KUBECONFIG")
            await config.load_kube_config(config_file=named, client_configuration=settings)
    except config.ConfigException as error:
        raise SandboxUnavailable(f"No cluster is configured: {error}", hint=HINT) from error
    async with ApiClient(settings) as client, WsApiClient(settings, heartbeat=30.0) as socket_client:
        yield Clients(client, socket_client)


def manifest(
    options: KubernetesOptions, name: str, *, environments: Path | None, read_only: bool
) -> dict[str, Any]:
    """Return a pod of two containers over the same volumes.

    Commands run in `sandbox`. Files go in and out through `loader`, which commands cannot reach, so that what
    they leave behind forges no answer; it alone can write the environment, and a workspace that is read-only.
    """
    volumes = [{"name": n, "emptyDir": {"sizeLimit": options.disk}} for n in ("workspace", "tmp", "loading")]
    mounts = [_mount("workspace", WORKSPACE, read_only), _mount("tmp", "/tmp")]  # noqa: S108
    loads = [_mount("workspace", WORKSPACE), _mount("loading", "/tmp")]  # noqa: S108
    if environments is not None:
        volumes.append({"name": "environments", "emptyDir": {"sizeLimit": options.disk}})
        mounts.append(_mount("environments", str(environments), True))
        loads.append(_mount("environments", str(environments)))
    spec: dict[str, Any] = {
        "containers": [
            _container("sandbox", options, mounts, {"cpu": options.cpu, "memory": options.memory}),
            _container("loader", options, loads, {"cpu": "1", "memory": "512Mi"}),
        ],
        "volumes": volumes,
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "priorityClassName": "phoenix-sandbox",
        "terminationGracePeriodSeconds": 0,
        "activeDeadlineSeconds": options.life_seconds,
        "dnsPolicy": "None",
        "dnsConfig": {"nameservers": ["127.0.0.1"]},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    if options.runtime_class:
        spec["runtimeClassName"] = options.runtime_class
    meta = {
        "name": name,
        "namespace": options.namespace,
        "labels": {**LABELS, OWNER: options.owner},
        "annotations": {SEEN: now()},
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def _mount(name: str, path: str, read_only: bool = False) -> dict[str, Any]:
    return {"name": name, "mountPath": path, "readOnly": read_only}


def _container(
    name: str, options: KubernetesOptions, mounts: list[dict[str, Any]], limits: dict[str, str]
) -> dict[str, Any]:
    return {
        "name": name,
        "image": options.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "infinity"],
        "workingDir": "/",
        "resources": {
            "limits": {**limits, "ephemeral-storage": options.disk},
            "requests": {"cpu": "100m", "memory": "128Mi", "ephemeral-storage": "256Mi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }


def now() -> str:
    """Return this moment as an annotation holds it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Pods:
    """Makes, lists and ends pods of one namespace.

    Raises:
        SandboxUnavailable: from each call, when the cluster refuses or cannot be reached; says what it said.
    """

    def __init__(self, options: KubernetesOptions, clients: Clients) -> None:
        from kubernetes_asyncio.client import CoreV1Api

        self.options = options
        # The library's annotations are those of other calls than it makes.
        self.api: Any = CoreV1Api(clients.calls)
        self.sockets: Any = CoreV1Api(clients.sockets)

    async def start(self, *, environments: Path | None, read_only: bool) -> str:
        """Make a pod and wait until its containers run; return its name."""
        name = f"sandbox-{secrets.token_hex(8)}"
        body = manifest(self.options, name, environments=environments, read_only=read_only)
        async with _translated(f"The pod {name} could not be made"):
            await self.api.create_namespaced_pod(self.options.namespace, body)
        try:
            await self._running(name)
        except BaseException:
            await self.end(name)
            raise
        return name

    async def _running(self, name: str) -> None:
        try:
            async with asyncio.timeout(self.options.start_seconds):
                while True:
                    async with _translated(f"The pod {name} could not be looked at"):
                        pod = await self.api.read_namespaced_pod(name, self.options.namespace)
                    if _runs(pod.status):
                        return
                    if reason := _hopeless(pod.status):
                        raise SandboxUnavailable(f"The pod {name} does not start: {reason}.", hint=HINT)
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError as error:
            seconds = self.options.start_seconds
            raise SandboxUnavailable(
                f"The pod {name} did not start within {seconds:g} s.", hint=HINT
            ) from error

    async def end(self, name: str) -> None:
        """End a pod at once; one that is gone is as well."""
        from kubernetes_asyncio.client.exceptions import ApiException

        async with _translated(f"The pod {name} could not be ended"):
            try:
                await self.api.delete_namespaced_pod(name, self.options.namespace, grace_period_seconds=0)
            except ApiException as error:
                if error.status != 404:
                    raise

    async def show(self, names: list[str]) -> None:
        """Say of pods that their owner lives."""
        body = {"metadata": {"annotations": {SEEN: now()}}}
        for name in names:
            async with _translated(f"The pod {name} could not be marked"):
                await self.api.patch_namespaced_pod(name, self.options.namespace, body)

    async def reap(self) -> list[str]:
        """End pods that are over, and those whose owner has not shown itself for long; return their names."""
        async with _translated("The pods could not be listed"):
            found = await self.api.list_namespaced_pod(self.options.namespace, label_selector=SELECTOR)
        over = [pod.metadata.name for pod in found.items if self._is_over(pod)]
        for name in over:
            await self.end(name)
        return over

    def _is_over(self, pod: Any) -> bool:
        if pod.status is not None and pod.status.phase in {"Succeeded", "Failed"}:
            return True
        try:
            seen = datetime.fromisoformat((pod.metadata.annotations or {})[SEEN])
        except (KeyError, ValueError):
            return True  # none of ours looks so, and only ours may be here
        return (datetime.now(UTC) - seen).total_seconds() > self.options.orphan_seconds


def _runs(status: Any) -> bool:
    states = status.container_statuses or [] if status is not None else []
    return bool(states) and status.phase == "Running" and all(s.state and s.state.running for s in states)


def _hopeless(status: Any) -> str:
    """Return why a pod will never run; empty while it may."""
    if status is None:
        return ""
    if status.phase in {"Failed", "Succeeded"}:
        return status.message or status.reason or "it has ended"
    for state in status.container_statuses or []:
        waiting = state.state.waiting if state.state else None
        if waiting is not None and waiting.reason in HOPELESS:
            return f"{waiting.reason}: {waiting.message or state.image}"
    return ""


@asynccontextmanager
async def _translated(what: str) -> AsyncIterator[None]:
    import aiohttp
    from kubernetes_asyncio.client.exceptions import ApiException

    try:
        yield
    except ApiException as error:
        said = f"{error.status} {error.reason}: {str(error.body or '')[:300]}"
        raise SandboxUnavailable(f"{what}: {said}", hint=HINT) from error
    except (aiohttp.ClientError, OSError) as error:
        raise SandboxUnavailable(f"{what}: {error or type(error).__name__}.", hint=HINT) from error
