"""The JSON Schema of every model of the domain."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import phoenix.domain
from phoenix.domain.frozen import Frozen


def models() -> list[type[Frozen]]:
    """Return every model that a module of this package defines, by name."""
    found: dict[str, type[Frozen]] = {}
    for info in pkgutil.iter_modules(phoenix.domain.__path__, "phoenix.domain."):
        module = importlib.import_module(info.name)
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Frozen) and value.__module__ == info.name:
                found[value.__name__] = value
    return [found[name] for name in sorted(found)]


def schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schema of each model, by its name."""
    return {model.__name__: model.model_json_schema() for model in models() if model is not Frozen}
