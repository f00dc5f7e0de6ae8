"""Write docs/settings.md's table from `phoenix/settings.py`: run it as `python -m manual.settings_page`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from phoenix.configuration.fields import is_secret, is_structured, outside_name
from phoenix.settings import Settings

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
BEGIN, END = "<!-- made by manual/settings_page.py -->", "<!-- made until here -->"
SAID: Mapping[str, str] = {
    "home": "`~/.local/share/phoenix`; as root `/var/lib/phoenix`",
    "log_level": "`warning`; for `phoenix worker` and `up` `info`",
    "worktrees": "in `PHOENIX_HOME`",
    "kubernetes_runtime_class": "the cluster's",
}
"""Defaults that the code works out."""


def table() -> str:
    """Return the table of all settings."""
    rows = ["| name | default | secret | meaning |", "|---|---|---|---|"]
    for name, info in Settings.model_fields.items():
        if not info.description:
            raise SystemExit(f"Settings.{name} has no docstring")
        meaning = " ".join(info.description.split()) + _choices(info)
        secret = "yes" if is_secret(info) else ""
        rows.append(f"| `{outside_name(name, info)}` | {_default(name, info)} | {secret} | {meaning} |")
    return "\n".join(rows)


def _default(name: str, info: FieldInfo) -> str:
    if name in SAID:
        return SAID[name]
    default: Any = info.default
    if default in (None, "", PydanticUndefined):
        return "–"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, float):
        return f"`{default:g}`" if default < 100_000 else f"`{default:.0f}`"
    return f"`{json.dumps(default)}`" if is_structured(info) else f"`{default}`"


def _choices(info: FieldInfo) -> str:
    choices = [arg for arg in get_args(info.annotation) if isinstance(arg, str)]
    return f" One of {', '.join(f'`{one}`' for one in choices)}." if choices else ""


def page(text: str) -> str:
    """Return the page with its table as the code has it."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
