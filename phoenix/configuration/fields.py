"""What a settings model says of its fields: their names outside, and which of them are secrets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

PREFIX = "PHOENIX_"
FILE_SUFFIX = "_FILE"


def outside_name(name: str, info: FieldInfo) -> str:
    """Return what a field is called in the environment."""
    return str(info.validation_alias or f"{PREFIX}{name.upper()}")


def outside_names(model: type[BaseModel]) -> Mapping[str, str]:
    """Return the fields of a model by what they are called in the environment."""
    return {outside_name(name, info): name for name, info in model.model_fields.items()}


def is_secret(info: FieldInfo) -> bool:
    """Tell whether a field holds a secret."""
    return SecretStr in (info.annotation, *get_args(info.annotation))


def is_path(info: FieldInfo) -> bool:
    """Tell whether a field names a file or folder."""
    return Path in (info.annotation, *get_args(info.annotation))


def is_structured(info: FieldInfo) -> bool:
    """Tell whether a field holds a list or a mapping, which the environment gives as JSON."""
    kinds: tuple[Any, ...] = (info.annotation, *get_args(info.annotation))
    return any(get_origin(kind) in (list, dict) for kind in kinds)
