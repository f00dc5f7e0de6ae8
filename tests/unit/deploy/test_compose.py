"""The Compose file: of the specification's form, confined, healthy in order, with known settings."""

from __future__ import annotations

import copy
import re
import stat
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from phoenix.settings import Settings
from tests.unit.deploy.compose_form import misfits

ROOT = Path(__file__).parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = ("app", "worker", "migrate")
OPENTELEMETRY = {"OTEL_EXPORTER_OTLP_ENDPOINT"}
"""Names that OpenTelemetry has given, not Phoenix."""
MONITORING = {"prometheus", "grafana", "otel"}


def known_settings() -> set[str]:
    """Return the names of settings in the environment."""
    return {
        str(field.validation_alias or f"PHOENIX_{name.upper()}")
        for name, field in Settings.model_fields.items()
    }


def problems_of(compose: dict[str, Any]) -> list[str]:
    """Return what is invalid, unconfined, unknown or out of order."""
    found = misfits(compose) + _dangling(compose)
    for name, service in compose["services"].items():
        found += [f"{name}: {problem}" for problem in _confined(service)]
        found += [f"{name}: {problem}" for problem in _ordered(compose, service)]
        for secret in service.get("secrets", ()):
            if secret not in compose["secrets"]:
                found.append(f"{name}: there is no secret {secret}")
        if name in OURS:
            names = {variable.removesuffix("_FILE") for variable in service.get("environment", {})}
            found += [
                f"{name}: {unknown} is no setting"
                for unknown in sorted(names - known_settings() - OPENTELEMETRY)
            ]
    return found


def _confined(service: dict[str, Any]) -> list[str]:
    found = []
    if service.get("read_only") is not True:
        found.append("its file system can be written")
    if service.get("cap_drop") != ["ALL"]:
        found.append("it keeps capabilities")
    if "no-new-privileges:true" not in service.get("security_opt", ()):
        found.append("it may gain privileges")
    if service.get("privileged"):
        found.append("it is privileged")
    for port in service.get("ports", ()):
        if not str(port).startswith("127.0.0.1:"):
            found.append(f"{port} is open to the network")
    return found


def _dangling(compose: dict[str, Any]) -> list[str]:
    found = []
    for name, service in compose["services"].items():
        tag = service["image"].rpartition(":")[2]
        if name not in OURS and (not re.search(r"\d", tag) or "/" in tag):
            found.append(f"{name}: {service['image']} names no version")
        for volume in service.get("volumes", ()):
            source, _, options = volume.partition(":")
            if source.startswith("."):
                if not (ROOT / source).exists():
                    found.append(f"{name}: there is no {source}")
                if not options.endswith(":ro"):
                    found.append(f"{name}: {source} can be written")
            elif source not in compose["volumes"]:
                found.append(f"{name}: there is no volume {source}")
    return found


def _ordered(compose: dict[str, Any], service: dict[str, Any]) -> list[str]:
    found = []
    for other, wanted in service.get("depends_on", {}).items():
        target = compose["services"].get(other)
        checked = target and target.get("healthcheck", {}).get("test")
        if target is None:
            found.append(f"waits for {other}, which is none")
        elif wanted["condition"] == "service_healthy" and not checked:
            found.append(f"waits for the health of {other}, which is not checked")
        elif wanted["condition"] == "service_started":
            found.append(f"waits for the start of {other}, not for its health")
    return found


def test_the_compose_file_is_sound() -> None:
    """It keeps the specification's form and Phoenix's own rules."""
    assert problems_of(COMPOSE) == []


def _set(*path: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(compose: dict[str, Any]) -> None:
        at = compose
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (_set("services", "app", "imagee", to="x"), "imagee"),
        (_set("services", "app", "stop_grace_period", to="soon"), "services/app/stop_grace_period"),
        (_set("services", "worker", "deploy", "replicas", to="two"), "services/worker/deploy/replicas"),
        (_set("services", "worker", "read_only", to=False), "can be written"),
        (_set("services", "redis", "cap_drop", to=[]), "keeps capabilities"),
        (_set("services", "app", "security_opt", to=[]), "may gain privileges"),
        (_set("services", "worker", "privileged", to=True), "is privileged"),
        (_set("services", "postgres", "ports", to=["5432:5432"]), "open to the network"),
        (_set("services", "app", "secrets", to=["database_ulr"]), "no secret database_ulr"),
        (_set("services", "app", "environment", "PHOENIX_WROK", to="0"), "PHOENIX_WROK is no setting"),
        (_set("services", "postgres", "healthcheck", to={}), "the health of postgres"),
        (_set("services", "worker", "depends_on", to={"cache": {"condition": "service_healthy"}}), "is none"),
        (_set("services", "grafana", "image", to="grafana/grafana"), "names no version"),
        (_set("services", "grafana", "image", to="grafana/grafana:latest"), "names no version"),
        (
            _set("services", "prometheus", "volumes", to=["./promteus:/etc/phoenix:ro"]),
            "there is no ./promteus",
        ),
        (_set("services", "prometheus", "volumes", to=["./prometheus:/etc/phoenix"]), "can be written"),
        (_set("services", "prometheus", "volumes", to=["metrics:/prometheus"]), "there is no volume metrics"),
        (
            _set("services", "app", "depends_on", "redis", "condition", to="service_started"),
            "not for its health",
        ),
    ],
)
def test_what_is_unsound_is_named(change: Callable[[dict[str, Any]], None], problem: str) -> None:
    """Each rule sees the mistake that it is for."""
    broken = copy.deepcopy(COMPOSE)
    change(broken)
    assert problem in "\n".join(problems_of(broken))


def test_services_start_without_the_application() -> None:
    """`docker compose up` starts what the classic start needs; the rest has a profile."""
    assert {n for n, s in COMPOSE["services"].items() if "profiles" not in s} == {
        "postgres",
        "redis",
        "chroma",
    }
    assert {n for n, s in COMPOSE["services"].items() if s.get("profiles") == ["app"]} == set(OURS)
    assert {n for n, s in COMPOSE["services"].items() if s.get("profiles") == ["monitoring"]} == MONITORING


def test_whatever_works_waits_for_the_schema() -> None:
    """The service and the workers start when the migration is done, and do not migrate themselves."""
    for name in ("app", "worker"):
        service = COMPOSE["services"][name]
        assert service["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
        assert service["environment"]["PHOENIX_AUTO_MIGRATE"] == "false"


def test_the_user_is_the_image_s() -> None:
    """Volumes belong to the user that the image makes."""
    user = re.search(r"^USER (\S+)$", (ROOT / "Dockerfile").read_text(), re.M)
    assert user is not None
    assert {COMPOSE["services"][name]["user"] for name in OURS} == {user[1]}


def test_secrets_are_written_once(tmp_path: Path) -> None:
    """Every secret of the Compose file is made, fits the others, and is not made anew."""
    script = ["sh", str(ROOT / "docker/secrets.sh"), str(tmp_path / "secrets")]
    subprocess.run(
        script, check=True, capture_output=True, env={"PATH": "/usr/bin:/bin", "OPENAI_API_KEY": "k"}
    )
    folder = tmp_path / "secrets"
    first = {path.name: path.read_text() for path in folder.iterdir()}
    subprocess.run(script, check=True, capture_output=True)
    assert {path.name: path.read_text() for path in folder.iterdir()} == first
    assert set(first) == set(COMPOSE["secrets"])
    assert f":{first['postgres_password']}@postgres:5432/" in first["database_url"]
    assert f":{first['redis_password']}@redis:6379/" in first["redis_url"]
    assert first["openai_api_key"] == "k"
    assert len(first["postgres_password"]) == 48 != first["postgres_password"].count("0")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_image_s_version_is_the_project_s() -> None:
    """The label that the image carries names this version."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"ARG VERSION={version}\n" in (ROOT / "Dockerfile").read_text()
