"""Stands in for kubectl in tests of `k8s/canary.py`: keeps objects in a folder, and notes each call.

STANDIN names the folder: `objects.json` holds what is there, `calls` gets a line for each call, `fails` holds
words of calls that fail. What is executed in a pod is executed here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

Objects = dict[str, Any]


def main(arguments: list[str]) -> int:
    """Do one call."""
    folder = Path(os.environ["STANDIN"])
    assert arguments[:2] == ["--namespace", "phoenix"], arguments
    arguments = arguments[2:]
    with (folder / "calls").open("a") as calls:
        calls.write(" ".join(arguments) + "\n")
    fails = folder / "fails"
    if fails.exists() and any(word in " ".join(arguments) for word in fails.read_text().splitlines()):
        print("error: timed out waiting for the condition", file=sys.stderr)
        return 1
    objects: Objects = json.loads((folder / "objects.json").read_text())
    if arguments[0] == "exec":
        return execute(arguments[1:], objects)
    if arguments[0] == "get":
        print(look(arguments[1:], objects))
        return 0
    if arguments[0] == "create":
        assert arguments[1:] == ["--filename=-"], arguments
        made = json.load(sys.stdin)
        name = f"{made['kind'].lower()}/{made['metadata']['name']}"
        assert name not in objects, f"{name} already exists"
        objects[name] = made
        (folder / f"{name.replace('/', '-')}.json").write_text(json.dumps(made))
    else:
        change(arguments, objects)
    (folder / "objects.json").write_text(json.dumps(objects))
    return 0


def execute(arguments: list[str], objects: Objects) -> int:
    """Run the program of a pod."""
    name, *before, program = arguments[:4]
    assert (before, program) == (["--container=worker", "--"], "phoenix"), arguments
    assert name in objects, f"{name} not found"
    return subprocess.run([sys.executable, "-m", "phoenix", *arguments[4:]], check=False).returncode


def look(arguments: list[str], objects: Objects) -> str:
    """Show objects, or their names."""
    match arguments:
        case ["deployment", name, "--output=json"]:
            return json.dumps(objects[f"deployment/{name}"])
        case [*names, "--ignore-not-found", "--output=name"]:
            return "\n".join(name for name in names if name in objects)
    raise AssertionError(f"not known here: {arguments}")


def change(arguments: list[str], objects: Objects) -> None:
    """Change objects."""
    match arguments:
        case ["set", "image", name, *images]:
            given = dict(image.split("=", 1) for image in images)
            for container in objects[name]["spec"]["template"]["spec"]["containers"]:
                container["image"] = given[container["name"]]
        case ["rollout", "status", name, _]:
            assert name in objects, f"{name} not found"
        case ["rollout", "undo", name]:
            objects[name]["undone"] = True
        case ["delete", *names, "--ignore-not-found", "--wait=false"]:
            for name in names:
                objects.pop(name, None)
        case _:
            raise AssertionError(f"not known here: {arguments}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
