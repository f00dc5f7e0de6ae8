"""The sandbox adapters under test, and which of them work on this machine."""

from __future__ import annotations

import asyncio
import functools

import pytest

from phoenix.ports import Sandboxes
from phoenix.sandbox.bubblewrap import BubblewrapSandboxes
from phoenix.sandbox.choice import Probe, probe
from phoenix.sandbox.docker import DockerSandboxes
from phoenix.sandbox.host import HostSandboxes
from phoenix.sandbox.sandlock import SandlockSandboxes

ADAPTERS = {
    "bubblewrap": BubblewrapSandboxes,
    "sandlock": SandlockSandboxes,
    "docker": DockerSandboxes,
    "host": HostSandboxes,
}
ISOLATING = [kind for kind in ADAPTERS if kind != "host"]


@functools.cache
def _tried(kind: str) -> Probe:
    return asyncio.run(probe(ADAPTERS[kind]()))


def working(kind: str) -> Sandboxes:
    """Return an adapter, or skip the test where it does not work."""
    if kind != "host" and not _tried(kind).works:
        pytest.skip(f"{kind}: {_tried(kind).reason}")
    return ADAPTERS[kind]()
