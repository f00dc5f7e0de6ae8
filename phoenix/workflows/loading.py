"""Loading a user's flow, named as FILE:NAME or module:NAME. Loading runs the user's own code."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import sys
import traceback
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel

from phoenix.errors import FlowFileInvalid, PhoenixError
from phoenix.flow import Flow, Step
from phoenix.flow.typecheck import members

HINT = "Write it as FILE:NAME, such as flows.py:review, where NAME is a Step or a Pipeline."
NOT_THE_USERS = ("phoenix", "pydantic", "langgraph", "langchain", "enum", "dataclasses", "builtins", "typing")


@dataclass(frozen=True)
class LoadedFlow:
    """A user's flow. `name` says where it is, so that any process finds it again."""

    name: str
    flow: Flow[Any, Any]
    types: tuple[type, ...]
    """The user's models, enums and dataclasses: checkpoints of the flow may hold them."""


def load_flow(target: str) -> LoadedFlow:
    """Load a flow and check that it holds together.

    Raises:
        FlowFileInvalid: there is no such file or name, it cannot be run, or it is no flow.
        FlowInvalid: the flow does not hold together.
    """
    place, _, name = target.rpartition(":")
    if not place or not name:
        raise FlowFileInvalid(f"{target!r} names no flow.", hint=HINT)
    is_file = place.endswith(".py") or "/" in place
    module = _from_file(Path(place).expanduser().absolute()) if is_file else _from_module(place)
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None:
        known = ", ".join(k for k, v in vars(module).items() if isinstance(v, Flow)) or "none"
        raise FlowFileInvalid(f"{place} has no {name!r}.", hint=f"Flows in it: {known}.")
    if not isinstance(found, Flow):
        raise FlowFileInvalid(f"{name!r} in {place} is a {type(found).__name__}, not a flow.", hint=HINT)
    found.validate()
    where = str(Path(place).expanduser().absolute()) if is_file else place
    return LoadedFlow(f"{where}:{name}", found, types_of(module, found))


def types_of(module: ModuleType, flow: Flow[Any, Any]) -> tuple[type, ...]:
    """Return the user's types that the module names or the flow's steps pass on."""
    steps = [inner for inner in flow.walk() if isinstance(inner, Step)]
    passed = [kind for s in steps for declared in (s.takes, s.gives) for kind in members(declared)]
    found = [kind for kind in (*vars(module).values(), *passed) if isinstance(kind, type)]
    return tuple(dict.fromkeys(kind for kind in found if _is_the_users(kind)))


def _is_the_users(kind: type) -> bool:
    if kind.__module__.partition(".")[0] in NOT_THE_USERS:
        return False
    return issubclass(kind, BaseModel | Enum) or dataclasses.is_dataclass(kind)


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise FlowFileInvalid(f"There is no file {path}.", hint=HINT)
    # The name is the same in every process: checkpoints name the types inside.
    name = f"phoenix_flow_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise FlowFileInvalid(f"{path} is no Python file.", hint=HINT)
    module = importlib.util.module_from_spec(spec)
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _broken(str(path), error) from error
    return module


def _from_module(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and name.startswith(error.name):
            raise FlowFileInvalid(f"There is no module {error.name!r}.", hint=HINT) from error
        raise _broken(name, error) from error
    except (Exception, SystemExit) as error:
        raise _broken(name, error) from error


def _broken(place: str, error: BaseException) -> FlowFileInvalid:
    """Return what is wrong with a file, and in which of its lines."""
    if isinstance(error, SyntaxError):
        said = f"{error.filename or place}, line {error.lineno}: {error.msg}"
        return FlowFileInvalid(f"It is not valid Python: {said}.", hint="Mend that line.")
    lines = [f"line {f.lineno}" for f in traceback.extract_tb(error.__traceback__) if f.filename == place]
    where = f"{place}, {lines[-1]}" if lines else place
    said = str(error) if isinstance(error, PhoenixError) else f"{type(error).__name__}: {error}"
    return FlowFileInvalid(
        f"Loading {where} failed: {said}", hint="The file must import in Phoenix's own environment."
    )
