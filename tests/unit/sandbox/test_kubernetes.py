"""Pods of sandboxes: what they are made of, when they are made, and that none is left."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from phoenix.domain.execution import Environment
from phoenix.errors import SandboxUnavailable, SettingInvalid
from phoenix.sandbox import pods as pods_module
from phoenix.sandbox.choice import choose_sandboxes
from phoenix.sandbox.kubernetes import KubernetesSandboxes
from phoenix.sandbox.pods import SEEN, KubernetesOptions, Pods, connected, manifest
from tests.contract.emulated_cluster import PODS, Cluster, emulated_cluster
from tests.contract.sandbox_adapters import working

OPTIONS = KubernetesOptions(image="phoenix:1")
SECONDS = 30.0


@pytest.fixture
def bubblewrap() -> None:
    """Skip where no container can be emulated."""
    working("bubblewrap")


@pytest.fixture
async def cluster(
    bubblewrap: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Cluster]:
    """Run a cluster that KUBECONFIG names."""
    async with emulated_cluster(tmp_path) as (found, config):
        monkeypatch.setenv("KUBECONFIG", str(config))
        yield found


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Return a workspace folder with a file."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    (folder / "file").write_text("one")
    return folder


def test_a_pod_is_confined_as_the_restricted_standard_asks() -> None:
    """Valid in two versions; no token, no root, no capability, no write to its root, nothing of the node."""
    options = replace(OPTIONS, runtime_class="gvisor")
    pod = manifest(options, "sandbox-1", environments=Path("/home/environments"), read_only=True)
    for version in ("1.31", "1.37"):
        kubernetes_validate.validate(pod, version, strict=True)
    spec = pod["spec"]
    assert spec["runtimeClassName"] == "gvisor"
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["activeDeadlineSeconds"] == options.life_seconds
    assert all(set(volume) == {"name", "emptyDir"} for volume in spec["volumes"])
    for container in spec["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert set(container["resources"]["limits"]) == {"cpu", "memory", "ephemeral-storage"}
    sandbox, loader = spec["containers"]
    writes = {m["name"] for m in sandbox["volumeMounts"] if not m["readOnly"]}
    assert writes == {"tmp"}
    assert {m["name"] for m in loader["volumeMounts"]} == {"workspace", "loading", "environments"}


async def test_one_pod_serves_a_task_and_only_changes_are_sent(cluster: Cluster, workspace: Path) -> None:
    """The second command finds the first one's pod; a file that changed here in between is there."""
    sandboxes = KubernetesSandboxes(OPTIONS)
    sandbox = sandboxes.open(workspace)
    assert (
        await sandbox.execute("cat file; rm file; echo new > made", timeout_seconds=SECONDS)
    ).stdout == "one"
    assert not (workspace / "file").exists()
    (workspace / "made").write_text("changed here")
    (workspace / "link").symlink_to("/etc/passwd")
    done = await sandboxes.open(workspace).execute("cat made; readlink link", timeout_seconds=SECONDS)
    assert done.stdout == "changed here/etc/passwd\n"
    before = len(cluster.execs)
    await sandbox.execute("true", timeout_seconds=SECONDS)
    assert [container for _, container in cluster.execs[before:]] == ["sandbox", "loader"]
    assert len(cluster.pods()) == 1
    await sandboxes.close()
    assert cluster.pods() == {}


async def test_an_environment_can_be_read_and_not_written(
    cluster: Cluster, workspace: Path, tmp_path: Path
) -> None:
    """It is at its own place, and what a command would write there is refused."""
    root = tmp_path / "environments" / "e"
    root.mkdir(parents=True)
    (root / "tool").write_text("tool")
    environment = Environment(id="e", root=root)
    sandbox = KubernetesSandboxes(OPTIONS).open(workspace, environment=environment)
    done = await sandbox.execute(f"cat {root}/tool; echo x > {root}/tool", timeout_seconds=SECONDS)
    assert done.stdout == "tool"
    assert "Read-only file system" in done.stderr


async def test_a_command_cannot_forge_the_files_that_come_back(cluster: Cluster, workspace: Path) -> None:
    """What is fetched is what the other container sees: the command's own container holds none of that."""
    command = "ls -A /tmp | grep -c manifest; kill -9 $PPID; sleep 5"
    sandboxes = KubernetesSandboxes(OPTIONS)
    with pytest.raises(SandboxUnavailable, match="without an answer"):
        await sandboxes.open(workspace).execute(command, timeout_seconds=SECONDS)
    assert cluster.pods() == {}
    assert (await sandboxes.open(workspace).execute("cat file", timeout_seconds=SECONDS)).stdout == "one"


async def test_a_pod_that_is_lost_is_replaced(cluster: Cluster, workspace: Path) -> None:
    """The command that finds it gone fails as the sandbox's fault, and the next one has another."""
    sandboxes = KubernetesSandboxes(OPTIONS)
    sandbox = sandboxes.open(workspace)
    await sandbox.execute("true", timeout_seconds=SECONDS)
    (name,) = cluster.pods()
    async with connected() as clients:
        await Pods(OPTIONS, clients).end(name)
    with pytest.raises(SandboxUnavailable):
        await sandbox.execute("true", timeout_seconds=SECONDS)
    assert (await sandbox.execute("cat file", timeout_seconds=SECONDS)).stdout == "one"
    assert name not in cluster.pods()


async def test_warm_pods_are_kept_idle_ones_ended_and_orphans_reaped(
    cluster: Cluster, workspace: Path
) -> None:
    """A task takes a warm pod, another is started in its place, and what nobody owns goes."""
    sandboxes = KubernetesSandboxes(replace(OPTIONS, warm=1, idle_seconds=0.0))
    other = replace(OPTIONS, owner="dead-worker", orphan_seconds=60.0)
    async with connected() as clients:
        pods, theirs = Pods(sandboxes.options, clients), Pods(other, clients)
        orphan = await theirs.start(environments=None, read_only=False)
        living = await theirs.start(environments=None, read_only=False)
        old = {"metadata": {"annotations": {SEEN: "2020-01-01T00:00:00+00:00"}}}
        await theirs.api.patch_namespaced_pod(orphan, other.namespace, old)
        await sandboxes.tend(pods)
        assert orphan not in cluster.pods()
        (warm,) = set(cluster.pods()) - {living}
        await sandboxes.open(workspace).execute("true", timeout_seconds=SECONDS)
        assert set(cluster.pods()) == {living, warm}
        await sandboxes.tend(pods)
        assert warm not in cluster.pods()
        assert len(cluster.pods()) == 2
        await sandboxes.close()
        assert set(cluster.pods()) == {living}


async def test_pods_that_are_over_are_reaped(cluster: Cluster) -> None:
    """A pod that the cluster ended at its deadline does not stay as an object."""
    async with connected() as clients:
        pods = Pods(OPTIONS, clients)
        name = await pods.start(environments=None, read_only=False)
        cluster.objects[PODS, OPTIONS.namespace, name].patch({"status": {"phase": "Failed"}})
        assert await pods.reap() == [name]


async def test_a_pod_that_cannot_start_says_why_and_does_not_stay(cluster: Cluster, workspace: Path) -> None:
    """An image that is none ends the wait at once, with the cluster's own reason."""
    cluster.broken = "ErrImagePull"
    with pytest.raises(SandboxUnavailable, match="ErrImagePull: no such image"):
        await KubernetesSandboxes(OPTIONS).open(workspace).execute("true", timeout_seconds=SECONDS)
    cluster.broken = "ContainerCreating"
    slow = KubernetesSandboxes(replace(OPTIONS, start_seconds=0.3))
    with pytest.raises(SandboxUnavailable, match=r"did not start within 0\.3 s"):
        await slow.open(workspace).execute("true", timeout_seconds=SECONDS)
    assert cluster.pods() == {}


async def test_a_cluster_whose_pods_reach_out_is_not_used(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probe holds while the API cannot be reached from a pod, and says so when it can."""
    found = await choose_sandboxes("kubernetes", OPTIONS)
    assert found.kind == "kubernetes"
    contained = Cluster._contained

    def opened(self: Cluster, **where: Any) -> list[str]:
        return [word for word in contained(self, **where) if word != "--unshare-all"]

    monkeypatch.setattr(
        Cluster, "_contained", lambda self, a, b, c: opened(self, namespace=a, name=b, container=c)
    )
    # This machine's own listener is reached as well here, and would be named first.
    monkeypatch.setattr("phoenix.sandbox.choice._seen", lambda *_: 0)
    with pytest.raises(SandboxUnavailable, match="the cluster's API, so no NetworkPolicy"):
        await choose_sandboxes("kubernetes", OPTIONS)
    assert cluster.pods() == {}


async def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No image, no cluster and no library are each an error that says what to do."""
    with pytest.raises(SettingInvalid, match="no image") as unset:
        await choose_sandboxes("kubernetes", KubernetesOptions(image=""))
    assert unset.value.field == "PHOENIX_KUBERNETES_IMAGE"
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(SandboxUnavailable, match="No cluster is configured"):
        async with connected():
            pass
    monkeypatch.setitem(sys.modules, "kubernetes_asyncio", None)
    with pytest.raises(SandboxUnavailable) as missing:
        async with connected():
            pass
    assert missing.value.hint == pods_module.MISSING
