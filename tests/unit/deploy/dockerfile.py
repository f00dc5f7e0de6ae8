"""A reader of Dockerfiles, for checks that need no container engine."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field


@dataclass
class Stage:
    """One stage: what it is built from, and its instructions in order."""

    base: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all_of(self, word: str) -> list[str]:
        """Return the arguments of all instructions of a kind."""
        return [rest for found, rest in self.instructions if found == word]

    def last(self, word: str) -> str:
        """Return the arguments of the instruction that counts, empty where there is none."""
        return (self.all_of(word) or [""])[-1]


def stages_of(text: str) -> list[Stage]:
    """Return the stages of a Dockerfile; what stands before the first is left out."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found: list[Stage] = []
    for line in filter(None, map(str.strip, joined.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found.append(Stage(base.strip(), name.strip()))
        elif found:
            found[-1].instructions.append((word, rest.strip()))
    return found


def copied(stage: Stage) -> list[tuple[str, list[str]]]:
    """Return what a stage copies: from which other stage, or "" for the build's context; and the sources."""
    found = []
    for rest in stage.all_of("COPY"):
        words = rest.split()
        origin = next((w.removeprefix("--from=") for w in words if w.startswith("--from=")), "")
        found.append((origin, [w for w in words if not w.startswith("--")][:-1]))
    return found


def problems_of(text: str) -> list[str]:
    """Return what makes an image unsafe or impossible to rebuild."""
    stages = stages_of(text)
    names = {stage.name for stage in stages}
    found = _problems_of_final(stages[-1])
    for stage in stages:
        found += [f"{stage.name}: {problem}" for problem in _problems_of(stage, names)]
    return found


def _problems_of_final(final: Stage) -> list[str]:
    found = []
    user = final.last("USER")
    if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", user):
        found.append(f"USER is {user!r}, not the number of an unprivileged user and group")
    if not final.last("HEALTHCHECK"):
        found.append("there is no HEALTHCHECK")
    try:
        json.loads(final.last("ENTRYPOINT"))
    except ValueError:
        found.append("ENTRYPOINT is no JSON list, so a shell would swallow signals")
    return found


def _problems_of(stage: Stage, names: set[str]) -> list[str]:
    found = []
    if stage.all_of("ADD"):
        found.append("ADD fetches or unpacks; use COPY")
    for origin, sources in copied(stage):
        if origin and origin not in names:
            found.append(f"copies from {origin}, which is no stage")
        if not origin and "." in sources:
            found.append("copies the whole context")
    for command in (c for c in stage.all_of("RUN") if "pip install" in c):
        if "requirements/" in command and "--require-hashes" not in command:
            found.append("requirements are installed without --require-hashes")
        if not re.search(r"==| -r", command):
            found.append("installs packages of any version")
    return found
