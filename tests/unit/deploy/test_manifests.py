"""The Kubernetes manifests, as each overlay renders them."""

from __future__ import annotations

import copy
import functools
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import psycopg
import pytest
import yaml

from phoenix.settings import Settings
from tests.unit.deploy.custom import SPECS
from tests.unit.deploy.kustomize import Document, identity, pod_of, render
from tests.unit.deploy.manifests import problems_of

OVERLAYS = Path(__file__).parents[3] / "k8s" / "overlays"
VERSIONS = ("1.31", "1.37")
NAMES = ("dev", "prod")


@functools.cache
def _rendered(name: str) -> list[Document]:
    return render(OVERLAYS / name)


def rendered(name: str) -> list[Document]:
    """Return an overlay's documents, free to be changed."""
    return copy.deepcopy(_rendered(name))


def find(documents: list[Document], kind: str, name: str) -> Document:
    """Return one object."""
    (found,) = (d for d in documents if d["kind"] == kind and d["metadata"]["name"] == name)
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", NAMES)
def test_every_object_keeps_its_schema(name: str, version: str) -> None:
    """Kubernetes' own objects are valid, strictly, in both versions; custom ones by the fields in use."""
    for document in rendered(name):
        kind = (document["apiVersion"], document["kind"])
        if kind in SPECS:
            jsonschema.validate(document["spec"], SPECS[kind])
        else:
            kubernetes_validate.validate(document, version, strict=True)


def test_a_misspelt_field_is_seen() -> None:
    """Both kinds of validation refuse a field that is none."""
    deployment = find(rendered("prod"), "Deployment", "phoenix-api")
    deployment["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSIONS[0], strict=True)
    scaled = find(rendered("prod"), "ScaledObject", "phoenix-worker")
    scaled["spec"]["maxReplicas"] = 3
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(scaled["spec"], SPECS["keda.sh/v1alpha1", "ScaledObject"])


@pytest.mark.parametrize("name", NAMES)
def test_the_manifests_are_sound(name: str) -> None:
    """Everything is confined, closed by default, and every name leads somewhere."""
    assert problems_of(rendered(name)) == []


@pytest.mark.parametrize("name", NAMES)
def test_no_object_is_there_twice(name: str) -> None:
    """One apply would overwrite the other."""
    found = [identity(document) for document in rendered(name)]
    assert len(set(found)) == len(found)


def _pod(change: Callable[[dict[str, Any]], Any]) -> Callable[[list[Document]], Any]:
    return lambda documents: change(pod_of(find(documents, "Deployment", "phoenix-worker")) or {})


def _object(kind: str, name: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[list[Document]], Any]:
    return lambda documents: change(find(documents, kind, name))


def _without(kind: str, name: str) -> Callable[[list[Document]], Any]:
    return lambda documents: documents.remove(find(documents, kind, name))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (_pod(lambda p: p["securityContext"].update(runAsUser=0)), "may run as root"),
        (_pod(lambda p: p["securityContext"].pop("seccompProfile")), "no seccomp profile"),
        (_pod(lambda p: p.update(automountServiceAccountToken=False)), "its token"),
        (_pod(lambda p: p.update(hostNetwork=True)), "shares a namespace"),
        (
            _pod(lambda p: p["volumes"].append({"name": "x", "hostPath": {"path": "/"}})),
            "a folder of the node",
        ),
        (_pod(lambda p: p["containers"][0]["securityContext"].pop("capabilities")), "may gain privileges"),
        (
            _pod(lambda p: p["containers"][0]["securityContext"].pop("readOnlyRootFilesystem")),
            "write its root",
        ),
        (_pod(lambda p: p["containers"][0]["resources"].pop("limits")), "no requests and limits"),
        (_pod(lambda p: p["containers"][0].pop("readinessProbe")), "no readinessProbe"),
        (_pod(lambda p: p["containers"][0]["volumeMounts"].append({"name": "no"})), "mounts no"),
        (_pod(lambda p: p["containers"][0].update(image="phoenix:0.0.9")), "different images"),
        (_without("PriorityClass", "phoenix-worker"), "no PriorityClass phoenix-worker"),
        (_without("ServiceAccount", "phoenix-worker"), "no ServiceAccount phoenix-worker"),
        (_without("ConfigMap", "phoenix-worker-settings"), "no ConfigMap phoenix-worker-settings"),
        (_without("PersistentVolumeClaim", "phoenix-home"), "no PersistentVolumeClaim phoenix-home"),
        (_without("NetworkPolicy", "default-deny"), "default-deny"),
        (
            _object("Role", "phoenix-sandboxes", lambda r: r["rules"][0].update(resources=["secrets"])),
            "gives more than pods",
        ),
        (_object("Role", "phoenix-sandboxes", lambda r: r["rules"][0].update(verbs=["*"])), "every verb"),
        (_object("Role", "phoenix-sandboxes", lambda r: r.update(kind="ClusterRole")), "the whole cluster"),
        (
            _object("RoleBinding", "phoenix-sandboxes", lambda r: r["metadata"].update(namespace="phoenix")),
            "outside of the sandboxes",
        ),
        (
            _object("Namespace", "phoenix", lambda n: n["metadata"]["labels"].clear()),
            "not restricted",
        ),
        (
            _object("NetworkPolicy", "worker", lambda n: n["metadata"].update(namespace="phoenix-sandboxes")),
            "let through to sandboxes",
        ),
        (
            _object("ConfigMap", "phoenix-settings", lambda c: c["data"].update(PHOENIX_TSL="1")),
            "PHOENIX_TSL is no setting",
        ),
        (_object("Service", "phoenix-api", lambda s: s["spec"]["selector"].update(x="y")), "selects nothing"),
        (
            _object("ScaledObject", "phoenix-worker", lambda s: s["spec"]["scaleTargetRef"].update(name="w")),
            "scales nothing",
        ),
    ],
)
def test_what_is_unsound_is_named(change: Callable[[list[Document]], Any], problem: str) -> None:
    """Each rule sees the mistake that it is for."""
    documents = rendered("prod")
    if problem == "default-deny":
        documents = [d for d in documents if identity(d)[1:] != ("NetworkPolicy", "phoenix", "default-deny")]
        problem = "namespace phoenix is not closed by default"
    else:
        change(documents)
    assert problem in "\n".join(problems_of(documents))


def test_settings_in_the_manifests_can_be_read() -> None:
    """The values of both ConfigMaps make settings, as a worker of production reads them."""
    documents = rendered("prod")
    data = find(documents, "ConfigMap", "phoenix-settings")["data"]
    data |= find(documents, "ConfigMap", "phoenix-worker-settings")["data"]
    given = {k.removeprefix("PHOENIX_").lower(): v for k, v in data.items() if k.startswith("PHOENIX_")}
    settings = Settings.model_validate(given)
    assert settings.sandbox == "kubernetes"
    assert settings.auto_migrate is False
    pod = pod_of(find(documents, "Deployment", "phoenix-worker"))
    assert pod is not None
    assert pod["terminationGracePeriodSeconds"] > settings.drain_seconds + 15


def scaling_query() -> str:
    """Return the query that KEDA asks."""
    (trigger,) = find(rendered("prod"), "ScaledObject", "phoenix-worker")["spec"]["triggers"]
    return str(trigger["metadata"]["query"])


async def test_workers_are_scaled_on_what_waits_and_what_runs(migrated_database_url: str) -> None:
    """The query counts each run that has a job or waits for a place, and none that is paused or over."""
    async with await psycopg.AsyncConnection.connect(migrated_database_url, autocommit=True) as connection:

        async def depth() -> int:
            row = await (await connection.execute(scaling_query())).fetchone()
            assert row is not None
            return int(row[0])

        async def add(*statements: str) -> None:
            for statement in statements:
                await connection.execute(statement)

        assert await depth() == 0
        for status, more in (("todo", 1), ("doing", 1), ("succeeded", 0)):
            before = await depth()
            await add(
                "INSERT INTO procrastinate_jobs (queue_name, task_name, args, status)"
                f" VALUES ('default', 'advance', '{{}}', '{status}')"
            )
            assert await depth() == before + more, status
        await add(
            "INSERT INTO projects (id, title, requirement, model, approvals, path)"
            " VALUES (gen_random_uuid(), 't', 'r', 'm', '[]', 'full')"
        )
        columns = "id, project_id, thread_id, flow, input, key, status, admitted, paused, wake"
        values = "SELECT gen_random_uuid(), project_id, id, 'develop', '{}'"
        for key, values_of, more in (
            ("held", "'pending', false, false, false", 1),
            ("woken", "'waiting', false, false, true", 1),
            ("asleep", "'waiting', false, false, false", 0),
            ("paused", "'pending', false, true, false", 0),
            ("admitted", "'pending', true, false, false", 0),
        ):
            before = await depth()
            await add(
                "INSERT INTO threads (id, project_id) SELECT gen_random_uuid(), id FROM projects",
                f"INSERT INTO runs ({columns}) {values}, '{key}', {values_of} FROM threads"
                " WHERE id NOT IN (SELECT thread_id FROM runs)",
            )
            assert await depth() == before + more, key


def test_a_patch_that_cannot_be_rendered_is_refused(tmp_path: Path) -> None:
    """A list of objects is merged by keys in kustomize; the rendering here says so instead of guessing."""
    shutil.copytree(OVERLAYS.parent, tmp_path / "k8s")
    spread = tmp_path / "k8s/overlays/prod/spread.yaml"
    spread.write_text(spread.read_text().replace("        - $patch: replace\n", ""))
    with pytest.raises(ValueError, match="topologySpreadConstraints"):
        render(tmp_path / "k8s/overlays/prod")
    plan = tmp_path / "k8s/base/kustomization.yaml"
    plan.write_text(plan.read_text() + "namePrefix: x-\n")
    with pytest.raises(ValueError, match="namePrefix"):
        render(tmp_path / "k8s/overlays/prod")


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_kustomize_itself_renders_the_same(name: str) -> None:
    """Where kubectl is at hand, it is asked whether the rendering of these tests is right."""
    done = subprocess.run(
        ["kubectl", "kustomize", str(OVERLAYS / name)], capture_output=True, text=True, check=True
    )
    real = {identity(d): d for d in yaml.safe_load_all(done.stdout)}
    assert {identity(d): d for d in rendered(name)} == real
