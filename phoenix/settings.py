"""Settings from the environment (`PHOENIX_*`) and `.env`; a typo or a wrong value fails at start."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from phoenix.errors import SettingInvalid


def default_home() -> Path:
    """Return the data folder: as root /var/lib/phoenix, else the user's data folder."""
    if os.geteuid() == 0:
        return Path("/var/lib/phoenix")
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "phoenix"


class Settings(BaseSettings):
    """Everything that can be set. Names in the environment are upper case with `PHOENIX_` before."""

    model_config = SettingsConfigDict(
        env_prefix="PHOENIX_", env_file=".env", extra="ignore", frozen=True, populate_by_name=True
    )

    home: Path = Field(default_factory=default_home)
    database_url: SecretStr | None = Field(default=None, validation_alias="DATABASE_URL")
    """A PostgreSQL server; without it the embedded one in `home` runs."""
    sandbox: Literal["auto", "bubblewrap", "sandlock", "docker", "host"] = "auto"
    """`host` isolates nothing: only for machines that are themselves throwaway."""
    model: str = ""
    """`provider:model`, or `recorded:FILE`; empty looks for a key, a base URL, then Ollama."""
    openai_api_key: SecretStr | None = Field(default=None, validation_alias="OPENAI_API_KEY")
    openai_base_url: str | None = Field(default=None, validation_alias="OPENAI_BASE_URL")
    concurrency: int = Field(default=8, ge=1, le=1000)
    """Runs that this process works on at once."""
    log_level: Literal["debug", "info", "warning", "error"] = "warning"
    log_format: Literal["text", "json"] = "text"

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()


def load_settings() -> Settings:
    """Read the settings.

    Raises:
        SettingInvalid: a value is wrong or a `PHOENIX_` name is unknown; names it.
    """
    known = {
        f"PHOENIX_{name.upper()}" for name, info in Settings.model_fields.items() if not info.validation_alias
    }
    foreign = ("PHOENIX_TEST_DATABASE_URL",)  # the tests' own
    unknown = sorted(n for n in os.environ if n.startswith("PHOENIX_") and n not in {*known, *foreign})
    if unknown:
        raise SettingInvalid(
            f"unknown setting {unknown[0]}.",
            field=unknown[0],
            hint=f"Known are {', '.join(sorted(known))}.",
        )
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]) if first["loc"] else ""
        shown = name if name.isupper() else f"PHOENIX_{name.upper()}"
        raise SettingInvalid(str(first["msg"]), field=shown) from error
