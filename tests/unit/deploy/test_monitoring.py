"""What Prometheus, Grafana and the collector of the Compose file are told fits the Compose file."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict

from grafana.make import NAMES
from grafana.project import SOURCE

ROOT = Path(__file__).parents[3]


def read(path: str) -> Any:
    """Return a YAML file of the repository."""
    return yaml.safe_load((ROOT / path).read_text())


SERVICES: dict[str, Any] = read("docker-compose.yml")["services"]


def mounted(service: str) -> dict[str, Path]:
    """Return what is mounted of the repository, by its place in the container."""
    found = {}
    for volume in SERVICES[service]["volumes"]:
        source, place = volume.split(":")[:2]
        if source.startswith("."):
            found[place] = ROOT / source
    return found


def here(service: str, path: str) -> Path:
    """Return the file of the repository that a container sees at a path."""
    for place, source in mounted(service).items():
        if path == place or path.startswith(place + "/"):
            return source / path.removeprefix(place).lstrip("/")
    raise AssertionError(f"{service} does not see {path}")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool comes with Debian's prometheus")
def test_prometheus_takes_its_configuration() -> None:
    """As its own tool sees it, with the rules that it names."""
    (option,) = (word for word in SERVICES["prometheus"]["command"] if word.startswith("--config.file="))
    config = here("prometheus", option.partition("=")[2])
    done = subprocess.run(
        ["promtool", "check", "config", config], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "alerts.yaml" in done.stdout


def test_every_target_has_a_probe_port() -> None:
    """Each scraped service is started with the port that is scraped, in a network that Prometheus shares."""
    targets = [
        t for job in read("prometheus/prometheus.yaml")["scrape_configs"] for t in job["dns_sd_configs"]
    ]
    assert {name for target in targets for name in target["names"]} == {"app", "worker"}
    for target in targets:
        for name in target["names"]:
            command = SERVICES[name]["command"]
            assert command[command.index("--probe-port") + 1] == str(target["port"])
            networks = SERVICES[name]["networks"]
            assert set(networks) & set(SERVICES["prometheus"]["networks"])


def test_grafana_reads_the_prometheus_that_runs() -> None:
    """The data source is the Compose file's Prometheus, and the one that dashboards take unasked."""
    (source,) = read("grafana/provisioning/datasources/prometheus.yaml")["datasources"]
    url = urlsplit(source["url"])
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    assert SERVICES[url.hostname or ""]["ports"][0].endswith(f":{url.port}")
    assert set(SERVICES[url.hostname or ""]["networks"]) & set(SERVICES["grafana"]["networks"])


def test_grafana_reads_the_postgresql_that_runs() -> None:
    """With the role that its script makes and `migrate` grants, and a password that no file of ours holds."""
    (source,) = read("grafana/provisioning/datasources/postgres.yaml")["datasources"]
    host, _, port = source["url"].partition(":")
    postgres = SERVICES[host]
    assert source["type"] == SOURCE["type"]
    assert postgres["ports"][0].endswith(f":{port}")
    assert source["jsonData"]["database"] == postgres["environment"]["POSTGRES_DB"]
    assert set(postgres["networks"]) & set(SERVICES["grafana"]["networks"])
    assert source["user"] == SERVICES["migrate"]["environment"]["PHOENIX_DATABASE_READER"]
    assert source["secureJsonData"] == {"password": "$__file{/run/secrets/reader_password}"}
    for name in ("grafana", host):
        assert "reader_password" in SERVICES[name]["secrets"]
    script = here(host, "/docker-entrypoint-initdb.d/reader.sh")
    # A script that is not executable would be read into the image's own shell.
    assert os.access(script, os.X_OK)
    assert f"CREATE ROLE {source['user']}'" in script.read_text()


@pytest.mark.skipif(shutil.which("psql") is None, reason="psql comes with PostgreSQL")
async def test_the_script_makes_the_reader(database_url: str, tmp_path: Path) -> None:
    """It can sign in with its password, writes nothing, and is given another password by the next run."""
    parts = conninfo_to_dict(database_url)
    server = {
        "PGHOST": parts["host"],
        "PGPORT": parts.get("port", 5432),
        "PGPASSWORD": parts.get("password", ""),
    }
    environment = {f"{name}": str(value) for name, value in server.items()}
    environment |= {"PATH": os.environ["PATH"], "POSTGRES_USER": str(parts["user"])}
    environment |= {"POSTGRES_DB": str(parts["dbname"]), "READER_PASSWORD_FILE": str(tmp_path / "secret")}
    made = "SELECT rolpassword FROM pg_authid WHERE rolname = 'phoenix_reader'"
    found = []
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        try:
            for secret in ("it's one", "$two`"):
                (tmp_path / "secret").write_text(secret)
                subprocess.run([ROOT / "docker/reader.sh"], env=environment, check=True, timeout=60)
                found.append(await (await connection.execute(made)).fetchone())
            rights = "SELECT rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolconfig FROM pg_roles"
            row = await (await connection.execute(f"{rights} WHERE rolname = 'phoenix_reader'")).fetchone()
        finally:
            await connection.execute("DROP ROLE IF EXISTS phoenix_reader")
    assert row is not None
    assert row[:4] == (True, False, False, False)
    assert set(row[4]) == {"default_transaction_read_only=on", "statement_timeout=30s"}
    assert None not in found
    assert found[0] != found[1]


def test_grafana_finds_the_dashboards() -> None:
    """The provider's folder is where the repository's dashboards are mounted."""
    (provider,) = read("grafana/provisioning/dashboards/phoenix.yaml")["providers"]
    folder = here("grafana", provider["options"]["path"])
    assert {f"{name}.json" for name in NAMES} == {path.name for path in folder.iterdir()}
    assert here("grafana", "/etc/grafana/provisioning/datasources/prometheus.yaml").is_file()


def test_the_collector_s_parts_exist() -> None:
    """Each pipeline names receivers, processors and exporters that are there, limited in memory first."""
    (option,) = SERVICES["otel"]["command"]
    path = option.partition("=")[2]
    assert mounted("otel") == {path: ROOT / "docker/collector.yaml"}
    config = read("docker/collector.yaml")
    assert config["receivers"]["otlp"]["protocols"]["http"]["endpoint"].endswith(":4318")
    for pipeline in config["service"]["pipelines"].values():
        for part in ("receivers", "processors", "exporters"):
            assert pipeline[part]
            assert set(pipeline[part]) <= set(config[part])
        assert pipeline["processors"][0] == "memory_limiter"
