"""What the manifests must hold beyond their schemas: confinement, and names that lead somewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.unit.deploy.kustomize import Document, containers_of, pod_of
from tests.unit.deploy.test_compose import known_settings

SANDBOXES = "phoenix-sandboxes"
WORKER = "phoenix-worker"


def problems_of(documents: list[Document]) -> list[str]:
    """Return what is wrong, each with the object's name."""
    found: list[str] = []
    for document in documents:
        name = f"{document['kind']} {document['metadata']['name']}"
        pod = pod_of(document)
        if pod is not None:
            found += [f"{name}: {problem}" for problem in (*_unconfined(pod), *_unnamed(documents, pod))]
        if document["kind"] == "Deployment":
            found += [f"{name}: {problem}" for problem in _unwatched(document)]
        found += [f"{name}: {problem}" for problem in _excess(document)]
    return [*found, *_open_namespaces(documents), *_wrong_settings(documents), *_loose_ends(documents)]


def _unconfined(pod: Document) -> Iterator[str]:
    context = pod.get("securityContext", {})
    if not context.get("runAsNonRoot") or context.get("runAsUser", 0) < 10_000:
        yield "may run as root, or as a user of the node"
    if context.get("seccompProfile") != {"type": "RuntimeDefault"}:
        yield "has no seccomp profile"
    if pod.get("automountServiceAccountToken") is not (pod.get("serviceAccountName") == WORKER):
        yield "its token is not as it should be"
    if any(pod.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
        yield "shares a namespace with the node"
    if any("hostPath" in volume for volume in pod.get("volumes", ())):
        yield "mounts a folder of the node"
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{container['name']} may gain privileges"
        if own.get("readOnlyRootFilesystem") is not True:
            yield f"{container['name']} can write its root"
        resources = container.get("resources", {})
        wanted = {"cpu", "memory", "ephemeral-storage"}
        if set(resources.get("requests", ())) != wanted or set(resources.get("limits", ())) != wanted:
            yield f"{container['name']} has no requests and limits"


def _unwatched(document: Document) -> Iterator[str]:
    for container in document["spec"]["template"]["spec"]["containers"]:
        ports = {port["name"] for port in container.get("ports", ())}
        for kind in ("livenessProbe", "readinessProbe"):
            probe = container.get(kind, {})
            asked = probe.get("httpGet") or probe.get("tcpSocket")
            if asked is None or asked["port"] not in ports:
                yield f"{container['name']} has no {kind} on a port of its own"


def _unnamed(documents: list[Document], pod: Document) -> Iterator[str]:
    """Yield names in a pod that lead nowhere."""
    names = {(d["kind"], d["metadata"]["name"]) for d in documents}
    wanted = [
        ("PriorityClass", pod.get("priorityClassName")),
        ("ServiceAccount", pod.get("serviceAccountName")),
    ]
    for volume in pod.get("volumes", ()):
        wanted.append(("PersistentVolumeClaim", volume.get("persistentVolumeClaim", {}).get("claimName")))
        wanted.append(("ConfigMap", volume.get("configMap", {}).get("name")))
    volumes = {volume["name"] for volume in pod.get("volumes", ())}
    for container in (*pod.get("initContainers", ()), *pod["containers"]):
        wanted += [("ConfigMap", source["configMapRef"]["name"]) for source in container.get("envFrom", ())]
        for mount in container.get("volumeMounts", ()):
            if mount["name"] not in volumes and mount["name"] != "data":
                yield f"mounts {mount['name']}, which is no volume"
    yield from (f"there is no {kind} {name}" for kind, name in wanted if name and (kind, name) not in names)


def _excess(document: Document) -> Iterator[str]:
    """Yield rights that go beyond pods of the sandboxes' namespace."""
    if document["kind"] in {"ClusterRole", "ClusterRoleBinding"}:
        yield "is for the whole cluster"
    if document["kind"] in {"Role", "RoleBinding"} and document["metadata"]["namespace"] != SANDBOXES:
        yield "gives rights outside of the sandboxes' namespace"
    for rule in document.get("rules", ()) if document["kind"] == "Role" else ():
        if rule["apiGroups"] != [""] or not set(rule["resources"]) <= {"pods", "pods/exec"}:
            yield "gives more than pods"
        if "*" in rule["verbs"]:
            yield "gives every verb"


def _open_namespaces(documents: list[Document]) -> Iterator[str]:
    for space in (d for d in documents if d["kind"] == "Namespace"):
        name = space["metadata"]["name"]
        if space["metadata"]["labels"].get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"namespace {name} takes pods that are not restricted"
        policies = [
            d["spec"]
            for d in documents
            if d["kind"] == "NetworkPolicy" and d["metadata"]["namespace"] == name
        ]
        closed = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
        if closed not in policies:
            yield f"namespace {name} is not closed by default"
        if name == SANDBOXES and len(policies) != 1:
            yield "something is let through to sandboxes"


def _wrong_settings(documents: list[Document]) -> Iterator[str]:
    given: dict[str, Any] = {}
    for document in documents:
        if document["kind"] == "ConfigMap" and document["metadata"]["name"].endswith("-settings"):
            given |= document["data"]
        for container in containers_of(document):
            if container["image"].split(":")[0].endswith("phoenix"):
                given |= {v["name"]: v.get("value") for v in container.get("env", ())}
    for name in sorted({n.removesuffix("_FILE") for n in given} - known_settings()):
        yield f"{name} is no setting"
    images = {c["image"] for d in documents for c in containers_of(d) if c["name"] == "worker"}
    if images != {given.get("PHOENIX_KUBERNETES_IMAGE")}:
        yield "sandboxes and workers have different images"


def _loose_ends(documents: list[Document]) -> Iterator[str]:
    """Yield selectors and targets that fit no workload."""
    pods = [_template_labels(d) for d in documents if pod_of(d) is not None]
    workloads = {(d["kind"], d["metadata"]["name"]) for d in documents}
    for document in documents:
        kind, spec = document["kind"], document.get("spec", {})
        if kind in {"Service", "PodDisruptionBudget"}:
            wanted = spec["selector"] if kind == "Service" else spec["selector"]["matchLabels"]
            if not any(wanted.items() <= labels.items() for labels in pods):
                yield f"{kind} {document['metadata']['name']} selects nothing"
        if kind in {"HorizontalPodAutoscaler", "ScaledObject"}:
            target = ("Deployment", spec["scaleTargetRef"]["name"])
            if target not in workloads:
                yield f"{kind} {document['metadata']['name']} scales nothing"


def _template_labels(document: Document) -> dict[str, str]:
    spec = document["spec"]
    if document["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    return dict(spec["template"]["metadata"]["labels"])
