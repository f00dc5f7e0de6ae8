"""Roll out an image in a cluster through a canary: python k8s/canary.py IMAGE

Beside the deployments `phoenix-worker` and `phoenix-api` a small one of each is started from the new image,
after its migrations, in all else their copies. While both versions work, `phoenix upgrade watch` in the
canary compares failed runs and dead workers. Worse, or not known to be healthy when the time is over: the
canary is taken away, and nothing else was touched. Healthy: both deployments get the image; a roll-out that
does not come about is undone.

Needs kubectl and nothing else. Exits with 0 when the image is everywhere, 1 when kubectl fails or a roll-out
does not come about, 3 when there was too little to tell, 4 when the new version is worse.
"""

from __future__ import annotations

import argparse
import copy
import json
import signal
import subprocess
import sys
import time
from typing import Any

Document = dict[str, Any]

WORKER, API, JOB = "phoenix-worker", "phoenix-api", "phoenix-migrate-canary"
SUFFIX = "-canary"
TRACK = "phoenix.dev/track"
HEALTHY, UNCLEAR, WORSE = 0, 3, 4
LEAST_MINUTES = 30.0
"""So far back is looked at least: the work of the old version before the canary is compared with, too."""
TRIES = 5
"""So often in a row the comparison itself may fail."""


class Failed(Exception):
    """What is wrong, for people."""


class Cluster:
    """The namespace, through kubectl."""

    def __init__(self, namespace: str) -> None:
        self._kubectl = ["kubectl", "--namespace", namespace]

    def run(self, *arguments: str, given: str | None = None) -> str:
        """Run kubectl; raise `Failed` with what it says."""
        done = subprocess.run(
            [*self._kubectl, *arguments], input=given, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Failed(f"kubectl {' '.join(arguments)}: {done.stderr.strip() or done.returncode}")
        return done.stdout

    def deployment(self, name: str) -> Document:
        """Return a deployment."""
        found: Document = json.loads(self.run("get", "deployment", name, "--output=json"))
        return found

    def apply(self, document: Document) -> None:
        """Make an object."""
        self.run("create", "--filename=-", given=json.dumps(document))

    def rolled_out(self, name: str, seconds: int) -> None:
        """Return once all pods of a deployment are ready; raise `Failed` when they are not in time."""
        self.run("rollout", "status", f"deployment/{name}", f"--timeout={seconds}s")

    def compared(self, minutes: float, runs: int) -> tuple[int, str]:
        """Return the exit code of `phoenix upgrade watch` in the canary, and what it said."""
        command = ["phoenix", "upgrade", "watch", f"--minutes={minutes:g}", f"--runs={runs}"]
        where = ["exec", f"deployment/{WORKER}{SUFFIX}", "--container=worker", "--"]
        done = subprocess.run([*self._kubectl, *where, *command], capture_output=True, text=True, check=False)
        said = (done.stdout if done.returncode in {HEALTHY, UNCLEAR, WORSE} else done.stderr).strip()
        return done.returncode, said.splitlines()[-1] if said else f"exit code {done.returncode}"


def canary_of(stable: Document, image: str, replicas: int) -> Document:
    """Return the canary of a deployment, with its labels: services, walls and budgets hold for it."""
    spec = copy.deepcopy(stable["spec"])
    labels = dict(spec["template"]["metadata"]["labels"]) | {TRACK: "canary"}
    spec["template"]["metadata"]["labels"] = labels
    spec["selector"] = {"matchLabels": dict(spec["selector"]["matchLabels"]) | {TRACK: "canary"}}
    spec["replicas"] = replicas
    for container in containers_of(spec["template"]):
        container["image"] = image
    name, namespace = stable["metadata"]["name"] + SUFFIX, stable["metadata"]["namespace"]
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def migration_of(stable: Document, image: str) -> Document:
    """Return a job that migrates with an image, made of the container that waits for the schema."""
    template = copy.deepcopy(stable["spec"]["template"])
    try:
        (container,) = [c for c in template["spec"].pop("initContainers") if c["name"] == "schema"]
    except (KeyError, ValueError):
        raise Failed(f"{stable['metadata']['name']} has no first container `schema`.") from None
    container |= {"name": "migrate", "image": image, "args": ["migrate"]}
    template["spec"] |= {"containers": [container], "restartPolicy": "Never"}
    template["spec"]["automountServiceAccountToken"] = False
    # Not the deployment's own: a service would send requests to it.
    template["metadata"] = {"labels": {"app.kubernetes.io/name": "phoenix-migrate"}}
    metadata = {"name": JOB, "namespace": stable["metadata"]["namespace"]}
    spec = {"backoffLimit": 6, "ttlSecondsAfterFinished": 600, "template": template}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def containers_of(template: Document) -> list[Document]:
    """Return all containers of a pod's template, the first ones included."""
    spec = template["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


def watched(cluster: Cluster, options: argparse.Namespace) -> int:
    """Compare until the time is over, or the canary is worse; return what is found."""
    end = time.monotonic() + options.minutes * 60
    broken, last = 0, ""
    while True:
        code, said = cluster.compared(max(options.minutes, LEAST_MINUTES), options.runs)
        broken = 0 if code in {HEALTHY, UNCLEAR, WORSE} else broken + 1
        if broken >= TRIES:
            raise Failed(f"The versions cannot be compared: {said}")
        if said != last:
            print(said, flush=True)
        last = said
        if code == WORSE or (time.monotonic() >= end and not broken):
            return code
        time.sleep(options.pause)


def promote(cluster: Cluster, stable: list[Document], options: argparse.Namespace) -> None:
    """Give all deployments the image, workers first; undo it in all where one does not come about."""
    begun: list[str] = []
    try:
        for deployment in stable:
            name = deployment["metadata"]["name"]
            images = [f"{c['name']}={options.image}" for c in containers_of(deployment["spec"]["template"])]
            cluster.run("set", "image", f"deployment/{name}", *images)
            begun.append(name)
            cluster.rolled_out(name, options.rollout_seconds)
    except BaseException:
        for name in reversed(begun):
            cluster.run("rollout", "undo", f"deployment/{name}")
        print(f"undone: {', '.join(begun) or 'nothing'}", flush=True)
        raise


def roll_out(cluster: Cluster, options: argparse.Namespace) -> int:
    """Start the canary, watch it, promote the image or not; take the canary away in any case."""
    stable = [cluster.deployment(name) for name in ((WORKER,) if options.no_api else (WORKER, API))]
    canaries = [f"deployment/{d['metadata']['name']}{SUFFIX}" for d in stable]
    if left := cluster.run("get", *canaries, f"job/{JOB}", "--ignore-not-found", "--output=name").split():
        raise Failed(f"A canary is there already: {', '.join(left)}. Another roll-out goes on, or delete it.")
    try:
        cluster.apply(migration_of(stable[0], options.image))
        for deployment in stable:
            replicas = options.workers if deployment["metadata"]["name"] == WORKER else 1
            cluster.apply(canary_of(deployment, options.image, replicas))
        for canary in canaries:
            cluster.rolled_out(canary.partition("/")[2], options.rollout_seconds)
        print("the canary works", flush=True)
        if (found := watched(cluster, options)) == HEALTHY:
            promote(cluster, stable, options)
        print("promoted" if found == HEALTHY else "rolled back", flush=True)
        return found
    finally:
        cluster.run("delete", *canaries, f"job/{JOB}", "--ignore-not-found", "--wait=false")


def main() -> int:
    """Read the command line, and roll out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("image", help="with its tag or digest")
    parser.add_argument("--namespace", default="phoenix")
    parser.add_argument("--workers", type=int, default=1, help="pods of the canary that work (1)")
    parser.add_argument("--no-api", action="store_true", help="leave the API as it is")
    parser.add_argument("--minutes", type=float, default=30, help="how long to watch (30)")
    parser.add_argument("--runs", type=int, default=30, help="that must have ended on both sides (30)")
    parser.add_argument("--pause", type=float, default=15, help="seconds between two looks (15)")
    parser.add_argument("--rollout-seconds", type=int, default=900, help="a roll-out may take so long (900)")
    # The canary goes when this is stopped, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        options = parser.parse_args()
        return roll_out(Cluster(options.namespace), options)
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
