"""The image: what its Dockerfile says, and the parts of it that run without a container engine."""

from __future__ import annotations

import fnmatch
import http.server
import os
import re
import subprocess
import sys
import threading
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.deploy.dockerfile import copied, problems_of, stages_of

ROOT = Path(__file__).parents[3]
DOCKER = ROOT / "docker"
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_the_dockerfile_is_sound() -> None:
    """Unprivileged, with a health check, from pinned requirements."""
    assert problems_of(DOCKERFILE) == []


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ("USER 10001:10001", "USER phoenix", "USER is 'phoenix'"),
        ("USER 10001:10001", "USER 0:0", "USER is '0:0'"),
        ("HEALTHCHECK", "# HEALTHCHECK", "no HEALTHCHECK"),
        ("COPY poetry.lock ./", "ADD poetry.lock ./", "ADD fetches"),
        ("COPY phoenix /opt/phoenix/app/phoenix", "COPY . /opt", "whole context"),
        ("--require-hashes", "", "without --require-hashes"),
        ("--from=sbom", "--from=nowhere", "which is no stage"),
        ("cyclonedx-bom==7.5.0", "cyclonedx-bom", "of any version"),
        ('ENTRYPOINT ["tini", "--",', "ENTRYPOINT tini --", "no JSON list"),
    ],
)
def test_what_is_unsound_is_named(before: str, after: str, problem: str) -> None:
    """Each check sees the mistake that it is for."""
    assert before in DOCKERFILE
    assert problem in "\n".join(problems_of(DOCKERFILE.replace(before, after)))


def sent_to_the_builder(path: str) -> bool:
    """Tell whether .dockerignore lets a path through."""
    sent = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip().removeprefix("!")
        if not pattern or pattern.startswith("#"):
            continue
        parents = [path, *map(str, Path(path).parents)]
        if any(fnmatch.fnmatch(p, pattern.removeprefix("**/")) for p in parents if p != "."):
            sent = line.startswith("!")
    return sent


def test_all_that_is_copied_is_there_and_reaches_the_builder() -> None:
    """No COPY names what is missing, or what .dockerignore holds back; secrets and tests are held back."""
    sources = [
        s for stage in stages_of(DOCKERFILE) for origin, found in copied(stage) if not origin for s in found
    ]
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert sent_to_the_builder(source), source
    for name in ("secrets/database_url", ".env", "tests/conftest.py", ".git/config", "requirements/dev.txt"):
        assert not sent_to_the_builder(name), name


def run(*argv: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a program with an environment of exactly these variables."""
    environment = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run(
        argv, env=environment, capture_output=True, text=True, check=False, timeout=60, cwd="/"
    )


def test_extras_are_pinned_with_the_hashes_of_the_lock() -> None:
    """What an extra needs beside the runtime comes out as requirements that pip can check."""
    done = run(
        sys.executable, str(DOCKER / "extras.py"), str(ROOT / "poetry.lock"), "kubernetes", "anthropic"
    )
    assert done.returncode == 0, done.stderr
    lock = {p["name"]: p for p in tomllib.loads((ROOT / "poetry.lock").read_text())["package"]}
    pins = re.findall(r"^([a-z0-9-]+)==(\S+)", done.stdout, re.M)
    assert [name for name, _ in pins] == [
        "anthropic",
        "docstring-parser",
        "kubernetes-asyncio",
        "langchain-anthropic",
    ]
    assert all(lock[name]["version"] == version for name, version in pins)
    hashes = set(re.findall(r"--hash=(\S+)", done.stdout))
    assert hashes == {f["hash"] for name, _ in pins for f in lock[name]["files"]}


def test_an_extra_that_is_none_stops_the_build() -> None:
    """A typo in EXTRAS is no image without that extra."""
    done = run(sys.executable, str(DOCKER / "extras.py"), str(ROOT / "poetry.lock"), "kubernets")
    assert done.returncode != 0
    assert "There is no extra 'kubernets'" in done.stderr


def test_the_environment_of_the_image_finds_the_code_beside_it(tmp_path: Path) -> None:
    """The step that installs Phoenix makes it importable, and its command names that environment's Python."""
    root = tmp_path / "phoenix"
    venv.EnvBuilder(symlinks=True, with_pip=False).create(root)
    (root / "app").mkdir()
    (root / "app" / "phoenix").symlink_to(ROOT / "phoenix")
    done = run(sys.executable, str(DOCKER / "extras.py"), "--install", str(root))
    assert done.returncode == 0, done.stderr
    found = run(str(root / "bin" / "python"), "-c", "import phoenix; print(phoenix.__file__)")
    assert found.stdout.strip() == str(root / "app" / "phoenix" / "__init__.py"), found.stderr
    program = root / "bin" / "phoenix"
    assert os.access(program, os.X_OK)
    assert program.read_text().startswith(f"#!{root}/bin/python\n")


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Return a folder with a `phoenix` that says how it was started."""
    program = tmp_path / "bin" / "phoenix"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$@"\nenv\n')
    program.chmod(0o755)
    return program.parent


def entered(programs: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Start the image's entry point."""
    path = f"{programs}:{os.environ['PATH']}"
    return run(str(DOCKER / "entrypoint.sh"), *arguments, **({"PATH": path} | variables))


@pytest.mark.parametrize(
    ("arguments", "started"),
    [
        ([], "up"),
        (["serve"], "up"),
        (["serve", "--port", "9"], "up --port 9"),
        (["worker", "--probe-port", "8401"], "worker --probe-port 8401"),
        (["migrate"], "migrate"),
        (["doctor", "--json"], "doctor --json"),
    ],
)
def test_the_first_argument_names_the_process(programs: Path, arguments: list[str], started: str) -> None:
    """One image serves, works, migrates, and runs every other command."""
    done = entered(programs, *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == started


class Answering(http.server.BaseHTTPRequestHandler):
    """Answers /livez, and nothing else."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/livez" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    """Return the port of a server that answers /livez."""
    server = http.server.HTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_health_is_what_the_process_answers(port: int) -> None:
    """The check passes while /livez answers, on the service's port or a worker's, and fails without."""
    check = str(DOCKER / "healthcheck.py")
    assert run(sys.executable, check, PHOENIX_PORT=str(port)).returncode == 0
    assert run(sys.executable, check, str(port), PHOENIX_PORT="1").returncode == 0
    failed = run(sys.executable, check, "1")
    assert failed.returncode == 1
    assert "does not answer" in failed.stderr
