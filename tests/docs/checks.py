"""Whether what the documentation tells readers to type can be right: what it names exists."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import yaml

from manual.commands import commands
from phoenix.api.app import PREFIX, bare_app
from tests.docs.blocks import ROOT, Block, Command

ENDS = {"&&", "||", "|", ";", "&", "(", ")", ">", ">>", "<"}
OTHERS = {
    "cat", "cd", "cp", "createdb", "curl", "docker", "docker-compose", "echo", "export", "git", "grep",
    "kubectl", "ollama",
    "openssl", "pip", "psql", "rm", "sh", "tar", "tee", "mkdir", "PASSWORD", "apt", "$EDITOR", "sed",
    "sleep", "redis-cli", "tr",
}  # fmt: skip
"""Programs that are not ours."""


def problems(block: Block) -> list[str]:
    """Return what is wrong with a block."""
    if block.language in {"console", "bash", "sh"}:
        return [problem for command in block.commands() for problem in of_command(command)]
    reader = READERS.get(block.language)
    if reader is None:
        return []
    try:
        reader(block.text)
    except (SyntaxError, ValueError, yaml.YAMLError) as error:
        return [f"{block.language}: {error}"]
    return []


READERS: Mapping[str, Callable[[str], Any]] = {
    "python": ast.parse,
    "json": json.loads,
    "yaml": lambda text: [*yaml.safe_load_all(text)],
}


def of_command(command: Command) -> list[str]:
    """Return what is wrong with a command line."""
    return [problem for words in _parts(command.text) for problem in _of_words(words)]


def _parts(text: str) -> Iterator[list[str]]:
    reader = shlex.shlex(text.replace("\\\n", " "), posix=True, punctuation_chars="();<>|&")
    reader.whitespace_split, reader.commenters = True, "#"
    part: list[str] = []
    after = ""
    for word in reader:
        if word in ENDS:
            if part and after not in {">", ">>", "<"}:
                yield part
            part, after = [], word
        else:
            part.append(word)
    if part and after not in {">", ">>", "<"}:
        yield part


def _of_words(words: list[str]) -> list[str]:
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    if not words:
        return []
    program = words[0].rsplit("/", 1)[-1]
    check = PROGRAMS.get(program)
    if check is not None:
        return list(check(words[1:]))
    return [] if program in OTHERS else [f"{program} is no program that the tests know"]


def _phoenix(words: list[str]) -> Iterator[str]:
    known = dict(commands())
    for length in (2, 1):
        command = known.get(tuple(words[:length]))
        if command is not None:
            break
    else:
        yield f"there is no command phoenix {' '.join(words[:2])}"
        return
    names = {name: p for p in command.params for name in (*p.opts, *p.secondary_opts)}
    given, is_value = words[length:], False
    for word in given:
        if is_value:
            is_value = False
        elif word.startswith("-") and word != "-":
            name, has_value, _ = word.partition("=")
            option = names.get(name)
            if option is None and name not in {"--help", "-h"}:
                yield f"phoenix {' '.join(words[:length])} has no option {name}"
            elif option is not None:
                is_value = not option.is_flag and not has_value


def _make(words: list[str]) -> Iterator[str]:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    yield from (f"make has no target {word}" for word in words if "=" not in word and word not in targets)


def _python(words: list[str]) -> Iterator[str]:
    if words[:1] == ["-m"]:
        path = ROOT / words[1].replace(".", "/")
        own = words[1].split(".")[0] in {"phoenix", "tests", "benchmarks", "manual", "grafana"}
        if own and not (path.with_suffix(".py").is_file() or (path / "__main__.py").is_file()):
            yield f"there is no module {words[1]}"
    elif words and words[0].endswith(".py") and not (ROOT / words[0]).is_file():
        yield f"there is no file {words[0]}"


@cache
def routes() -> frozenset[tuple[str, str]]:
    """Return method and path of every route, from the description."""
    paths = bare_app().openapi()["paths"]
    return frozenset((method.upper(), path) for path, methods in paths.items() for method in methods)


def _curl(words: list[str]) -> Iterator[str]:
    method, path = "", ""
    for at, word in enumerate(words):
        if word == "-X":
            method = words[at + 1]
        elif word in {"--json", "-d"}:
            method = method or "POST"
            yield from _json(words[at + 1])
        elif word.startswith("$URL"):
            path = PREFIX + word.removeprefix("$URL").removeprefix(PREFIX).split("?")[0]
    if path and not any(m == (method or "GET") and _fits(path, p) for m, p in routes()):
        yield f"there is no route {method or 'GET'} {path}"


def _json(text: str) -> Iterator[str]:
    if text.startswith("@"):
        return
    try:
        json.loads(text)
    except ValueError as error:
        yield f"not JSON: {error}"


def _fits(path: str, route: str) -> bool:
    parts, wanted = path.strip("/").split("/"), route.strip("/").split("/")
    return len(parts) == len(wanted) and all(
        w.startswith("{") or w == p for p, w in zip(parts, wanted, strict=True)
    )


def _kubectl(words: list[str]) -> Iterator[str]:
    for at, word in enumerate(words):
        if word in {"-k", "-f"} and words[at + 1] != "-" and not (ROOT / words[at + 1]).exists():
            yield f"there is no {words[at + 1]}"


def _compose(words: list[str]) -> Iterator[str]:
    file = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    services = file["services"]
    profiles = {name for service in services.values() for name in service.get("profiles", ())}
    for at, word in enumerate(words):
        if word == "--profile" and words[at + 1] not in profiles:
            yield f"docker-compose.yml has no profile {words[at + 1]}"
        if word == "--scale" and words[at + 1].split("=")[0] not in services:
            yield f"docker-compose.yml has no service {words[at + 1]}"
        if word in {"run", "logs", "exec"}:
            named = next((w for w in words[at + 1 :] if not w.startswith("-")), "")
            if named and named not in services:
                yield f"docker-compose.yml has no service {named}"


PROGRAMS: Mapping[str, Callable[[list[str]], Iterator[str]]] = {
    "phoenix": _phoenix,
    "make": _make,
    "python": _python,
    "python3": _python,
    "curl": _curl,
    "kubectl": _kubectl,
    "docker": lambda words: _compose(words[1:]) if words[:1] == ["compose"] else iter(()),
    "docker-compose": _compose,
    "sh": lambda words: (f"there is no {w}" for w in words[:1] if not (ROOT / w).is_file()),
}
