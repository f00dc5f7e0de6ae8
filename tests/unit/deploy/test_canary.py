"""`k8s/canary.py` with a stand-in for kubectl; versions are compared for real, on a real database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from phoenix import __version__
from tests.unit.cli.test_upgrade_commands import OLD, ended
from tests.unit.deploy import standin_kubectl
from tests.unit.deploy.test_manifests import VERSIONS, find, rendered

__all__ = ["ended"]

SCRIPT = Path(__file__).parents[3] / "k8s" / "canary.py"
IMAGE = "registry.example.org/phoenix:9.0.0"
STABLE = {"deployment/phoenix-worker", "deployment/phoenix-api"}


class Run:
    """The script on a cluster that is a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        programs = folder / "programs"
        programs.mkdir()
        kubectl = programs / "kubectl"
        kubectl.write_text(f'#!/bin/sh\nexec {sys.executable} {standin_kubectl.__file__} "$@"\n')
        kubectl.chmod(0o755)
        self.path = f"{programs}:{os.environ['PATH']}"
        documents = rendered("prod")
        found = {name: find(documents, "Deployment", name.partition("/")[2]) for name in STABLE}
        (folder / "objects.json").write_text(json.dumps(found))

    def __call__(self, *options: str) -> subprocess.CompletedProcess[str]:
        fast = ["--minutes", "0.02", "--pause", "0.1", "--rollout-seconds", "5"]
        return subprocess.run(
            [sys.executable, SCRIPT, IMAGE, *fast, *options],
            env=os.environ | {"STANDIN": str(self.folder), "PATH": self.path},
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def objects(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "objects.json").read_text()))

    @property
    def calls(self) -> str:
        return (self.folder / "calls").read_text()

    def made(self, name: str) -> dict[str, Any]:
        return dict(json.loads((self.folder / f"{name}.json").read_text()))

    def images(self, name: str) -> set[str]:
        return {c["image"] for c in self.objects[name]["spec"]["template"]["spec"]["containers"]}


@pytest.fixture
def run(tmp_path: Path, ended: Callable[..., None]) -> Run:
    """Return the script, on a cluster where the old version has done its work."""
    ended(OLD, 200, failed=10)
    folder = tmp_path / "cluster"
    folder.mkdir()
    return Run(folder)


def test_a_healthy_image_is_promoted(run: Run, ended: Callable[..., None]) -> None:
    """Workers first, then the API; the canary and its job are gone afterwards."""
    ended(__version__, 40, failed=2)
    done = run()
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "promoted"
    assert set(run.objects) == STABLE
    assert [run.images(name) for name in STABLE] == [{IMAGE}, {IMAGE}]
    assert run.calls.index("set image deployment/phoenix-worker") < run.calls.index(
        "set image deployment/phoenix-api"
    )
    assert "schema=" + IMAGE in run.calls


def test_a_worse_image_goes_and_touches_nothing(run: Run, ended: Callable[..., None]) -> None:
    """Long before the time is over: 4."""
    ended(__version__, 40, failed=30)
    done = run("--minutes", "30")
    assert done.returncode == 4, done.stderr
    assert "30 of 40 runs failed, of the old 10 of 200" in done.stdout
    assert done.stdout.splitlines()[-1] == "rolled back"
    assert set(run.objects) == STABLE
    assert "set image" not in run.calls


def test_what_cannot_be_told_is_not_promoted(run: Run) -> None:
    """Nothing of the new version has ended: 3."""
    done = run()
    assert done.returncode == 3, done.stderr
    assert set(run.objects) == STABLE
    assert "set image" not in run.calls


def test_a_canary_that_does_not_start_goes(run: Run) -> None:
    """1, and the deployments are as they were."""
    (run.folder / "fails").write_text("rollout status deployment/phoenix-worker-canary\n")
    done = run()
    assert done.returncode == 1
    assert "timed out" in done.stderr
    assert set(run.objects) == STABLE
    assert "set image" not in run.calls


def test_a_roll_out_that_fails_is_undone_everywhere(run: Run, ended: Callable[..., None]) -> None:
    """The API's pods do not become ready: the workers go back as well."""
    ended(__version__, 40)
    (run.folder / "fails").write_text("rollout status deployment/phoenix-api --\n")
    done = run()
    assert done.returncode == 1
    assert {name for name, found in run.objects.items() if found.get("undone")} == STABLE
    assert set(run.objects) == STABLE


def test_a_comparison_that_does_not_work_is_no_verdict(run: Run) -> None:
    """It is tried some times, and then the canary goes."""
    (run.folder / "fails").write_text("exec \n")
    done = run("--minutes", "30")
    assert done.returncode == 1
    assert "cannot be compared" in done.stderr
    assert run.calls.count("exec ") == 5
    assert set(run.objects) == STABLE


def test_two_canaries_at_once_are_refused(run: Run) -> None:
    """The one that is there is left alone."""
    before = run.objects | {"deployment/phoenix-worker-canary": {}}
    (run.folder / "objects.json").write_text(json.dumps(before))
    done = run()
    assert done.returncode == 1
    assert "A canary is there already" in done.stderr
    assert run.objects == before


@pytest.mark.parametrize("version", VERSIONS)
def test_the_canary_is_a_small_copy(run: Run, version: str) -> None:
    """Valid objects, with the labels that services and walls go by, and selectors that are its own."""
    run("--workers", "2")
    for name, replicas in (("phoenix-worker", 2), ("phoenix-api", 1)):
        made, stable = run.made(f"deployment-{name}-canary"), run.objects[f"deployment/{name}"]
        kubernetes_validate.validate(made, version, strict=True)
        pod, its = made["spec"]["template"], stable["spec"]["template"]
        assert made["spec"]["replicas"] == replicas
        assert made["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
        assert its["metadata"]["labels"].items() < pod["metadata"]["labels"].items()
        assert not made["spec"]["selector"]["matchLabels"].items() <= its["metadata"]["labels"].items()
        assert {c["image"] for c in [*pod["spec"]["initContainers"], *pod["spec"]["containers"]]} == {IMAGE}
        assert pod["spec"]["volumes"] == its["spec"]["volumes"]
    job = run.made("job-phoenix-migrate-canary")
    kubernetes_validate.validate(job, version, strict=True)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert (container["image"], container["args"]) == (IMAGE, ["migrate"])
    assert "initContainers" not in job["spec"]["template"]["spec"]


def test_the_api_may_be_left_as_it_is(run: Run, ended: Callable[..., None]) -> None:
    """Only workers get a canary, and the image."""
    ended(__version__, 40)
    assert run("--no-api").returncode == 0
    assert "phoenix-api" not in run.calls
    assert run.images("deployment/phoenix-api") != {IMAGE}
