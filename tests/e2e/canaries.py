"""Fifty secrets, where they are planted, and the search for them in whatever a project leaves."""

from __future__ import annotations

import base64
import json
import os
import secrets
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, quote_plus, urlsplit, urlunsplit
from uuid import uuid4

import psycopg
from psycopg import sql

ENVIRONMENT = (
    *("ANTHROPIC_API_KEY", "GITHUB_TOKEN", "GITLAB_TOKEN", "AWS_SECRET_ACCESS_KEY", "STRIPE_SECRET"),
    *("SMTP_PASSWORD", "DEPLOY_CREDENTIAL", "SESSION_COOKIE", "MONITORING_DSN", "COMPANY_API_KEY"),
    *("SIGNING_KEY", "HUGGINGFACE_TOKEN"),
)
SETTINGS = ("OPENAI_API_KEY", "PHOENIX_API_KEY", "PHOENIX_OIDC_CLIENT_SECRET")
USER_FILES = (
    *(".ssh/id_ed25519", ".aws/credentials", ".netrc", ".git-credentials", ".gitconfig", ".pgpass"),
    *(
        ".vault-token",
        ".config/gh/hosts.yml",
        ".docker/config.json",
        ".kube/config",
        ".pypirc",
        ".npmrc",
        ".bash_history",
    ),
)
DATA_FILES = ("api-keys.json", "notes.txt", "projects/elsewhere/report/evidence.md")
ROWS = (
    *("webhook", "old_webhook", "signing_key", "password_hash", "project", "title", "event", "artifact"),
    *("memory", "cached_answer", "template", "organisation", "user"),
)


@dataclass
class Field:
    """Where everything lies: the machine's user, the data folder, the folder that Phoenix is started in."""

    root: Path
    canaries: dict[str, str] = field(default_factory=dict)
    """By where each is planted."""

    @property
    def user(self) -> Path:
        return self.root / "user"

    @property
    def home(self) -> Path:
        return self.root / "data"

    @property
    def folder(self) -> Path:
        return self.root / "work"

    @property
    def prompts(self) -> Path:
        return self.root / "prompts"

    def new(self, place: str) -> str:
        """Return a secret for a place."""
        self.canaries[place] = f"cnry-{len(self.canaries)}/{secrets.token_hex(8)}+Q"
        return self.canaries[place]


async def plant(root: Path, database_url: str) -> tuple[Field, dict[str, str]]:
    """Plant them all; return them and the environment to start Phoenix in."""
    field_ = Field(root)
    for folder in (field_.user, field_.home, field_.folder, field_.prompts, root / "mounted"):
        folder.mkdir()
    environment = {name: field_.new(name) for name in (*ENVIRONMENT, *SETTINGS)}
    parts = urlsplit(database_url)
    password = quote(field_.new("DATABASE_URL"), safe="")
    host = f"{parts.username or ''}:{password}@{parts.netloc.rpartition('@')[2]}"
    environment |= {
        "DATABASE_URL": urlunsplit(parts._replace(netloc=host)),
        "PHOENIX_SENTRY_DSN": f"http://{quote(field_.new('sentry'), safe='')}@127.0.0.1:9/1",
        "BROKER": f"amqp://worker:{quote(field_.new('broker'), safe='')}@queue.internal/",
        "PHOENIX_HOME": str(field_.home),
        "HOME": str(field_.user),
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "PHOENIX_EMBEDDER": "hashed",
    }
    files = [field_.user / name for name in USER_FILES] + [field_.home / name for name in DATA_FILES]
    files += [field_.root / "parent.txt", field_.root / "mounted" / "token", field_.folder / ".env"]
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        # The parser of `.env` takes it, and no setting of Phoenix has this name.
        path.write_text(f"SOME_TOKEN={field_.new(str(path))}\n")
        path.chmod(0o600)
    (field_.user / ".gitconfig").write_text(
        f"[user]\n\ttoken = {field_.canaries[str(field_.user / '.gitconfig')]}\n"
    )
    (field_.folder / "paths.json").write_text(json.dumps([str(path) for path in files]))
    await _plant_rows(field_, database_url)
    return field_, environment


async def _plant_rows(field_: Field, database_url: str) -> None:
    """Fill another organisation's rows."""
    of = {name: field_.new(f"row {name}") for name in ROWS}
    organisation, project, user = uuid4(), uuid4(), uuid4()
    body = json.dumps({"text": of["artifact"]})
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        for table, row in (
            ("organisations", {"id": organisation, "name": of["organisation"]}),
            (
                "users",
                {
                    "id": user,
                    "email": "a@example.org",
                    "name": of["user"],
                    "password_hash": of["password_hash"],
                },
            ),
            (
                "projects",
                {
                    "id": project,
                    "organisation_id": organisation,
                    "title": of["title"],
                    "requirement": of["project"],
                    "model": "m",
                    "approvals": "auto",
                    "path": "auto",
                },
            ),
            (
                "events",
                {
                    "project_id": project,
                    "seq": 1,
                    "kind": "project_launched",
                    "data": json.dumps({"x": of["event"]}),
                },
            ),
            ("artifacts", {"project_id": project, "digest": "d", "kind": "Spec", "body": body}),
            (
                "memories",
                {
                    "id": uuid4(),
                    "organisation_id": organisation,
                    "kind": "pattern",
                    "text": of["memory"],
                    "digest": "d",
                },
            ),
            ("signing_keys", {"id": "k", "secret": of["signing_key"].encode()}),
            (
                "webhooks",
                {
                    "id": uuid4(),
                    "organisation_id": organisation,
                    "url": "https://h.example.org/",
                    "kinds": ["*"],
                    "secret": of["webhook"].encode(),
                    "old_secret": of["old_webhook"].encode(),
                },
            ),
            (
                "model_answers_cache",
                {
                    "organisation_id": organisation,
                    "request": "r",
                    "answer": json.dumps({"a": of["cached_answer"]}),
                    "expires_at": "2100-01-01",
                },
            ),
            (
                "templates",
                {
                    "id": uuid4(),
                    "organisation_id": organisation,
                    "name": "t",
                    "launch": json.dumps({"requirement": of["template"]}),
                },
            ),
        ):
            names = sql.SQL(", ").join(map(sql.Identifier, row))
            places = sql.SQL(", ").join(sql.Placeholder() * len(row))
            statement = sql.SQL("INSERT INTO {} ({}) VALUES ({})")
            await connection.execute(
                statement.format(sql.Identifier(table), names, places), list(row.values())
            )


def forms_of(secret: str) -> set[bytes]:
    """Return how a secret may be written; worked out apart from what masks them."""
    raw = secret.encode()
    found = {raw, quote(secret).encode(), quote_plus(secret).encode(), quote(secret, safe="").encode()}
    found |= {json.dumps(secret)[1:-1].replace("/", "\\/").encode(), secret.replace("/", "_").encode()}
    found |= {raw.hex().encode(), raw.hex().upper().encode(), raw[::-1]}
    for before in range(3):
        # Four characters hold three bytes: of the first and the last four some depend on the neighbours.
        whole = base64.b64encode(b"x" * before + raw + b"yyy")
        found |= {whole[4 : 4 * ((before + len(raw)) // 3)]}
    # The part that is like no other.
    found.add(secret.partition("/")[2].partition("+")[0].encode())
    return found


def places_of(secret: str, texts: dict[str, bytes]) -> set[str]:
    """Return where a secret is, in any form."""
    forms = forms_of(secret)
    return {place for place, text in texts.items() if any(form in text for form in forms)}


def counts_of(canaries: dict[str, str], texts: dict[str, bytes]) -> Counter[tuple[str, str]]:
    """Return how often each canary is in each text, by place and text."""
    found: Counter[tuple[str, str]] = Counter()
    for place, secret in canaries.items():
        forms = forms_of(secret)
        for name, text in texts.items():
            number = sum(text.count(form) for form in forms)
            if number:
                found[place, name] = number
    return found


async def tables_of(database_url: str) -> dict[str, bytes]:
    """Return every table of the database as text, whatever its schema; binary columns as they are."""
    found: dict[str, bytes] = {}
    query = (
        "SELECT table_schema, table_name FROM information_schema.tables WHERE table_type = 'BASE TABLE'"
        " AND table_schema NOT IN ('pg_catalog', 'information_schema')"
    )
    async with await psycopg.AsyncConnection.connect(database_url) as connection:
        for schema, name in await (await connection.execute(query)).fetchall():
            table = sql.SQL("SELECT * FROM {}").format(sql.Identifier(schema, name))
            rows = await (await connection.execute(table)).fetchall()
            cells = (cell for row in rows for cell in row)
            found[f"table {name}"] = b"\n".join(
                cell if isinstance(cell, bytes) else repr(cell).encode() for cell in cells
            )
    return found


def files_of(field_: Field) -> dict[str, bytes]:
    """Return all files of data folder and working folder, but where secrets were planted; names too."""
    found: dict[str, bytes] = {}
    names: list[str] = []
    planted = {path for path in field_.canaries if path.startswith("/")}
    for root in (field_.home, field_.folder, field_.prompts):
        for path in root.rglob("*"):
            names.append(str(path))
            if path.is_file() and not path.is_symlink() and str(path) not in planted:
                found[f"file {path}"] = path.read_bytes()
    return found | {"names of files": "\n".join(names).encode()}


def objects_of(home: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every object of every repository beneath a folder, unpacked, whether it is reachable or not."""
    for repository in {head.parent for head in home.rglob("HEAD") if (head.parent / "objects").is_dir()}:
        command = ["git", f"--git-dir={repository}", "cat-file", "--batch-all-objects", "--batch"]
        yield f"git {repository}", subprocess.run(command, capture_output=True, check=True).stdout


async def everything(field_: Field, database_url: str) -> dict[str, bytes]:
    """Return all that may hold what must not be there, by where it is."""
    return {**await tables_of(database_url), **files_of(field_), **dict(objects_of(field_.home))}
