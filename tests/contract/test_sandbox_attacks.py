"""Attacks on the sandbox: each succeeds without one, and fails in every sandbox that works here."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from phoenix.ports import Sandboxes
from tests.contract.attacks_files import READING, WRITING
from tests.contract.attacks_kernel import KERNEL
from tests.contract.attacks_network import NETWORK
from tests.contract.attacks_processes import PROCESSES
from tests.contract.attacks_resources import RESOURCES
from tests.contract.sandbox_adapters import ISOLATING, working
from tests.contract.sandbox_world import Attack, bare, inside, made

ATTACKS = [*READING, *WRITING, *NETWORK, *PROCESSES, *KERNEL, *RESOURCES]


def _id(attack: Attack) -> str:
    return attack.name


def test_there_are_enough_attacks() -> None:
    """The table holds at least sixty attacks with names of their own."""
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) >= 60


@pytest.mark.parametrize("attack", ATTACKS, ids=_id)
async def test_an_attack_succeeds_without_a_sandbox(attack: Attack, tmp_path: Path) -> None:
    """Each attack is real: as a plain child process it gets what it wants."""
    if attack.root and os.geteuid() != 0:
        pytest.skip("it needs root")
    if (
        attack.needs
        and subprocess.run(["/bin/bash", "-c", attack.needs], capture_output=True, check=False).returncode
    ):
        pytest.skip("this machine lacks what it attacks")
    with made(tmp_path, victim=attack.victim) as world:
        result = await bare(attack, world)
        assert attack.won(world, result), result


@pytest.fixture(params=ISOLATING)
def sandboxes(request: pytest.FixtureRequest) -> Sandboxes:
    """Return each adapter that isolates and works here."""
    return working(request.param)


@pytest.mark.parametrize("attack", ATTACKS, ids=_id)
async def test_an_attack_fails_in_a_sandbox(
    sandboxes: Sandboxes, attack: Attack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside a sandbox the same attack does not get it."""
    if sandboxes.kind in attack.open_to:
        pytest.skip(f"{sandboxes.kind} does not stop this; the table says why")
    with made(tmp_path, victim=attack.victim) as world:
        monkeypatch.setenv("INHERITED_SECRET", world.canary)
        sandbox = sandboxes.open(world.workspace, environment=world.environment)
        result = await inside(attack, world, sandbox)
        assert not attack.won(world, result), result
        assert attack.victim == world.victim_lives()
        assert world.survivors() == []
