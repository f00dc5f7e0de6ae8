"""`phoenix config`: what is set, and whether a service would start with it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from phoenix.cli.output import print_json

if TYPE_CHECKING:
    from phoenix.configuration.composing import Composed
    from phoenix.settings import Loaded, Settings

HIDDEN = "***"
_CREDENTIALS = re.compile(r"://[^/@\s]+@")


async def show(*, everything: bool, overrides: Sequence[str], as_json: bool) -> int:
    """Print what is set and where it comes from, asking no store."""
    loaded = await asyncio.to_thread(_load, overrides, resolve=False)
    found = {"settings": list(_settings(loaded, everything=everything))}
    for name, composed in (await asyncio.to_thread(_documents, loaded.settings)).items():
        found[name] = [] if composed is None else list(_values(composed))
    if as_json:
        print_json(found)
    else:
        _print(found)
    return 0


async def check(*, offline: bool, overrides: Sequence[str], as_json: bool) -> int:
    """Check what is set as a service that also works would.

    Raises:
        SettingInvalid, SecretUnavailable: the first that keeps it from starting.
    """
    from phoenix.bootstrap import service_rules
    from phoenix.safety import check_safe

    loaded = await asyncio.to_thread(_load, overrides, resolve=not offline)
    settings = loaded.settings
    check_safe(settings, serves=True, works=settings.work)
    service_rules(settings)
    documents = await asyncio.to_thread(_documents, settings)
    found = {
        "environment": settings.environment,
        "settings": len(loaded.given),
        **{name: composed is not None for name, composed in documents.items()},
    }
    if as_json:
        print_json({"ok": True, **found})
    else:
        import typer

        set_ = ", ".join(name for name, composed in documents.items() if composed) or "none"
        typer.echo(f"ok: {len(loaded.given)} settings ({settings.environment}); composed: {set_}")
    return 0


def _load(overrides: Sequence[str], *, resolve: bool) -> Loaded:
    from dataclasses import replace

    from phoenix.settings import load

    loaded = load(resolve=resolve)
    return replace(loaded, settings=loaded.settings.overridden(overrides))


def _documents(settings: Settings) -> dict[str, Composed | None]:
    """Return what is composed, by its name in overrides."""
    from phoenix.bootstrap import composed_workflows
    from phoenix.shop import composed_catalogue

    catalogue = composed_catalogue(settings)
    return {"models": catalogue and catalogue[1], "workflows": composed_workflows(settings)[1]}


def _settings(loaded: Loaded, *, everything: bool) -> Iterator[dict[str, Any]]:
    from phoenix.configuration.fields import is_secret, outside_name
    from phoenix.configuration.live import parse_reference

    for name, info in type(loaded.settings).model_fields.items():
        given = loaded.given.get(name)
        if given is None and not everything:
            continue
        value = getattr(loaded.settings, name)
        said = outside_name(name, info)
        if is_secret(info) and value is not None:
            # Where a secret stands is no secret.
            text = value.get_secret_value()
            value = str(reference) if (reference := parse_reference(text, said=said)) else HIDDEN
        yield {"name": said, "value": _shown(value), "origin": given.origin if given else "default"}


def _values(composed: Composed) -> Iterator[dict[str, Any]]:
    for path, value in _leaves(composed.values):
        yield {"name": path, "value": _shown(value), "origin": composed.origin(path)}


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def _shown(value: Any) -> Any:
    if isinstance(value, bool | int | float) or value is None:
        return value
    if isinstance(value, list):
        return [_shown(inner) for inner in value]
    if isinstance(value, Mapping):
        return {str(key): _shown(inner) for key, inner in value.items()}
    return _CREDENTIALS.sub(f"://{HIDDEN}@", str(value))


def _print(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    import json

    import typer

    from phoenix.cli.escape import clean

    for document, rows in found.items():
        if rows:
            typer.echo(f"{document}:")
        for row in rows:
            value = row["value"]
            text = value if isinstance(value, str) else json.dumps(value)
            typer.echo(clean(f"  {row['name']} = {text}    ({row['origin']})"))
