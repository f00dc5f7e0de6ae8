"""The part of the Compose Specification that Phoenix uses, strictly: what else comes is looked up first."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Duration = Annotated[str, Field(pattern=r"^\d+(ms|s|m|h)$")]
Size = Annotated[str, Field(pattern=r"^\d+[bkmgBKMG]$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")]
Scalar = str | int | float | bool | None


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Build(_Part):
    """How an image is built."""

    context: str
    args: dict[str, Scalar] = {}


class Logging(_Part):
    """Where output goes."""

    driver: str
    options: dict[str, str] = {}


class Healthcheck(_Part):
    """How a container shows that it works."""

    test: list[str] = []
    interval: Duration | None = None
    timeout: Duration | None = None
    retries: int | None = None
    start_period: Duration | None = None
    disable: bool = False


class Awaited(_Part):
    """What is waited for of another service."""

    condition: Literal["service_started", "service_healthy", "service_completed_successfully"]


class Limits(_Part):
    """What a container may use."""

    cpus: str | None = None
    memory: Size | None = None
    pids: int | None = None


class Resources(_Part):
    """Resources of a container."""

    limits: Limits


class Deploy(_Part):
    """How many containers there are, and how large."""

    replicas: int = 1
    resources: Resources | None = None


class Service(_Part):
    """A container, or several alike."""

    image: str
    build: Build | None = None
    profiles: list[Name] = []
    user: str | None = None
    command: list[str] | str | None = None
    entrypoint: list[str] | str | None = None
    environment: dict[str, Scalar] = {}
    secrets: list[str] = []
    volumes: list[str] = []
    tmpfs: list[str] = []
    ports: list[str] = []
    networks: list[Name] = []
    depends_on: dict[Name, Awaited] = {}
    healthcheck: Healthcheck | None = None
    read_only: bool = False
    privileged: bool = False
    cap_add: list[str] = []
    cap_drop: list[str] = []
    security_opt: list[str] = []
    shm_size: Size | None = None
    stop_grace_period: Duration | None = None
    restart: Literal["no", "always", "unless-stopped", "on-failure"] = "no"
    logging: Logging | None = None
    deploy: Deploy | None = None


class Secret(_Part):
    """A secret of a file."""

    file: str


class Network(_Part):
    """A network."""

    internal: bool = False


class Compose(BaseModel):
    """A Compose file; what begins with `x-` is the file's own."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: Name
    services: dict[Name, Service]
    secrets: dict[Name, Secret] = {}
    volumes: dict[Name, None] = {}
    networks: dict[Name, Network | None] = {}


def misfits(compose: dict[str, Any]) -> list[str]:
    """Return what does not fit, with its place."""
    try:
        Compose.model_validate({key: value for key, value in compose.items() if not key.startswith("x-")})
    except ValidationError as error:
        return [f"{'/'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    return []
