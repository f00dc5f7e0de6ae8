"""Which sandbox this machine gets: each is tried for real, and what does not hold is not used."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from phoenix.errors import SandboxError, SandboxUnavailable, SettingInvalid
from phoenix.ports import Sandboxes
from phoenix.sandbox import bubblewrap, docker, pods, sandlock
from phoenix.sandbox.bubblewrap import BubblewrapSandboxes
from phoenix.sandbox.docker import DockerSandboxes
from phoenix.sandbox.host import HostSandboxes
from phoenix.sandbox.kubernetes import KubernetesSandboxes
from phoenix.sandbox.pods import KubernetesOptions
from phoenix.sandbox.sandlock import SandlockSandboxes

log = structlog.get_logger(__name__)

PROBE_SECONDS = 10.0
FETCHING = frozenset({"docker", "kubernetes"})
FETCH_PROBE_SECONDS = 180.0
"""Their first start may fetch the image."""

_HINTS = {
    "bubblewrap": bubblewrap.HINT,
    "sandlock": sandlock.HINT,
    "docker": docker.HINT,
    "kubernetes": pods.HINT,
}
_FAILURES = {
    10: "a command could not write to its workspace",
    11: "a command could read a file outside",
    12: "a command could write a file outside",
    13: "a command could reach this machine's network",
    14: "a command could look into a process outside",
    15: "a command could reach the cluster's API, so no NetworkPolicy closes the pods' network",
}


@dataclass(frozen=True)
class Probe:
    """What trying one kind of sandbox gave."""

    kind: str
    works: bool
    reason: str = ""
    hint: str = ""


def _kinds() -> dict[str, Sandboxes]:
    """Return the kinds that isolate, best first."""
    return {"bubblewrap": BubblewrapSandboxes(), "sandlock": SandlockSandboxes(), "docker": DockerSandboxes()}


async def probe(sandboxes: Sandboxes, *, closed: tuple[str, int] | None = None) -> Probe:
    """Run a real command in the sandbox that checks from inside that isolation holds.

    Args:
        sandboxes: What is tried.
        closed: A host and port that answer this process, and must not answer a command.
    """
    seconds = FETCH_PROBE_SECONDS if sandboxes.kind in FETCHING else PROBE_SECONDS
    hint = _HINTS.get(sandboxes.kind, "")
    try:
        with _outside() as (outside, workspace):
            reached: list[int] = []
            server = await asyncio.start_server(partial(_reached, reached), "127.0.0.1", 0)
            async with server:
                port = server.sockets[0].getsockname()[1]
                command = _checks(outside, port, closed)
                result = await sandboxes.open(workspace).execute(command, timeout_seconds=seconds)
            code = _seen(outside, reached) or result.exit_code or 0
    except SandboxError as error:
        return Probe(sandboxes.kind, False, error.message, error.hint or hint)
    except OSError as error:
        return Probe(sandboxes.kind, False, f"It could not be tried: {error.strerror}.", hint)
    if result.ok and code == 0:
        return Probe(sandboxes.kind, True)
    default = result.killed or result.stderr.strip()[:200] or f"exit code {code}"
    return Probe(sandboxes.kind, False, f"Its isolation does not hold: {_FAILURES.get(code, default)}.", hint)


def _reached(seen: list[int], _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    seen.append(1)
    writer.close()


def _seen(outside: Path, reached: list[int]) -> int:
    """Return the failure that only this side can see for certain."""
    if (outside / "written").exists():
        return 12
    return 13 if reached else 0


@contextmanager
def _outside() -> Iterator[tuple[Path, Path]]:
    with tempfile.TemporaryDirectory(prefix="phoenix-probe-") as folder:
        outside, workspace = Path(folder, "outside"), Path(folder, "workspace")
        outside.mkdir()
        workspace.mkdir()
        (outside / "canary").write_text("canary")
        yield outside, workspace


def _checks(outside: Path, port: int, closed: tuple[str, int] | None) -> str:
    """Return a shell script whose exit code names the first check that failed."""
    place = shlex.quote(str(outside))
    own, name = f"/proc/{os.getpid()}/cmdline", shlex.quote(sys.argv[0])
    other = ""
    if closed is not None:
        opening = shlex.quote(f"exec 3<>/dev/tcp/{closed[0]}/{closed[1]}")
        other = f"timeout 3 bash -c {opening} 2>/dev/null && exit 15"
    return f"""
        touch inside || exit 10
        cat {place}/canary >/dev/null 2>&1 && exit 11
        (echo x > {place}/written) 2>/dev/null
        {other}
        (exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null && exit 13
        tr '\\0' '\\n' < {own} 2>/dev/null | grep -qxF -- {name} && exit 14
        exit 0
    """


async def probe_all() -> list[Probe]:
    """Try every kind that isolates, best first."""
    return [await probe(sandboxes) for sandboxes in _kinds().values()]


async def choose_sandboxes(setting: str, kubernetes: KubernetesOptions | None = None) -> Sandboxes:
    """Return the sandboxes to use: the named kind, or with `auto` the first that works on this machine.

    Raises:
        SandboxUnavailable: none works; says why each does not, and what to install.
        SettingInvalid: there is no such kind.
    """
    if setting == "host":
        log.warning("sandbox_chosen", kind="host", isolation="none")
        return HostSandboxes()
    if setting == "kubernetes":
        return await _kubernetes(kubernetes)
    kinds = _kinds()
    if setting != "auto" and setting not in kinds:
        known = ", ".join(["auto", *kinds, "kubernetes", "host"])
        raise SettingInvalid(
            f"There is no sandbox {setting!r}.", field="PHOENIX_SANDBOX", hint=f"Known: {known}."
        )
    failed: list[Probe] = []
    for kind, sandboxes in kinds.items():
        if setting not in {"auto", kind}:
            continue
        tried = await probe(sandboxes)
        if tried.works:
            log.info("sandbox_chosen", kind=kind)
            return sandboxes
        failed.append(tried)
    reasons = " ".join(f"{p.kind}: {p.reason}" for p in failed)
    raise SandboxUnavailable(
        f"No sandbox works on this machine, so nothing will be executed. {reasons}", hint=failed[0].hint
    )


async def _kubernetes(options: KubernetesOptions | None) -> Sandboxes:
    """Return sandboxes of the cluster, once a pod has shown that it is closed."""
    if options is None or not options.image:
        raise SettingInvalid(
            "The sandbox kubernetes has no image.",
            field="PHOENIX_KUBERNETES_IMAGE",
            hint="Name Phoenix's own image, the same as the workers'.",
        )
    found = KubernetesSandboxes(options)
    tried = await probe_kubernetes(found)
    if not tried.works:
        raise SandboxUnavailable(
            f"No sandbox works in this cluster, so nothing will be executed. {tried.reason}", hint=tried.hint
        )
    log.info("sandbox_chosen", kind="kubernetes", namespace=options.namespace)
    return found


async def probe_kubernetes(sandboxes: KubernetesSandboxes) -> Probe:
    """Try a pod, and that it cannot reach the cluster's API, which answers every pod without a policy."""
    try:
        async with pods.connected() as clients:
            address = clients.address
    except SandboxError as error:
        return Probe(sandboxes.kind, False, error.message, error.hint)
    tried = await probe(sandboxes, closed=address)
    await sandboxes.close()
    return tried
