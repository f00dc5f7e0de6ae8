"""Renders overlays as kustomize does, as far as Phoenix's own use of it goes.

Known are resources, patches by strategic merge that replace lists, images, labels without selectors, and
files in ConfigMaps whose names get no hash. Anything else is refused, so that nothing is left out unseen.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Document = dict[str, Any]
KNOWN = {
    "apiVersion",
    "kind",
    "resources",
    "patches",
    "images",
    "labels",
    "configMapGenerator",
    "generatorOptions",
}
REPLACE = {"$patch": "replace"}


def render(folder: Path) -> list[Document]:
    """Return the documents of a kustomization.

    Raises:
        ValueError: it uses what is not known here, or a patch fits nothing.
    """
    plan = yaml.safe_load((folder / "kustomization.yaml").read_text())
    if unknown := set(plan) - KNOWN:
        raise ValueError(f"{folder}: {sorted(unknown)} is not known here")
    documents = [d for name in plan.get("resources", ()) for d in _resource(folder / name)]
    documents += [_config_map(folder, plan, made) for made in plan.get("configMapGenerator", ())]
    for patch in plan.get("patches", ()):
        changes = [yaml.safe_load(patch["patch"])] if "patch" in patch else read(folder / patch["path"])
        for change in changes:
            documents = _patched(documents, change)
    for image in plan.get("images", ()):
        for container in (c for d in documents for c in containers_of(d)):
            _set_image(container, image)
    for label in plan.get("labels", ()):
        if set(label) != {"pairs"}:
            raise ValueError(f"{folder}: labels in selectors are not known here")
        for document in documents:
            document["metadata"].setdefault("labels", {}).update(label["pairs"])
    return documents


def read(path: Path) -> list[Document]:
    """Return the documents of a file."""
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def identity(document: Document) -> tuple[str, ...]:
    """Return what makes an object itself."""
    meta = document["metadata"]
    group = document["apiVersion"].rpartition("/")[0]
    return group, document["kind"], meta.get("namespace", ""), meta["name"]


def pod_of(document: Document) -> Document | None:
    """Return the pod's spec in a document, where it has one."""
    spec = document.get("spec", {})
    if document["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    found = spec.get("template", {}).get("spec") if document["kind"] != "Pod" else spec
    return found if isinstance(found, dict) and "containers" in found else None


def containers_of(document: Document) -> Iterator[Document]:
    """Yield all containers of a document's pod."""
    pod = pod_of(document) or {}
    yield from pod.get("initContainers", ())
    yield from pod.get("containers", ())


def _resource(path: Path) -> list[Document]:
    return render(path) if path.is_dir() else read(path)


def _config_map(folder: Path, plan: Document, made: Document) -> Document:
    if not plan.get("generatorOptions", {}).get("disableNameSuffixHash"):
        raise ValueError(f"{folder}: names with a hash are not known here")
    data = {Path(name).name: (folder / name).read_text() for name in made["files"]}
    meta = {"name": made["name"], "namespace": made["namespace"]}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def _patched(documents: list[Document], change: Document) -> list[Document]:
    fitting = [d for d in documents if identity(d) == identity(change)]
    if len(fitting) != 1:
        raise ValueError(f"a patch fits {len(fitting)} objects: {identity(change)}")
    if change.get("$patch") == "delete":
        return [d for d in documents if d is not fitting[0]]
    _merge(fitting[0], change)
    return documents


def _merge(target: Document, change: Document) -> None:
    for key, value in change.items():
        old = target.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            _merge(old, value)
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            if REPLACE not in value:
                raise ValueError(f"items of {key} would be merged by their keys, which is not known here")
            target[key] = [copy.deepcopy(item) for item in value if item != REPLACE]
        else:
            target[key] = copy.deepcopy(value)


def _set_image(container: Document, image: Document) -> None:
    name, _, tag = container["image"].partition(":")
    if name == image["name"]:
        container["image"] = f"{image.get('newName', name)}:{image.get('newTag', tag)}"
