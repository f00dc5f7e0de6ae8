"""Types of steps: whether one fits another, and whether a value is of one."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError

from phoenix.errors import StepTypeMismatch

Check = Callable[[Any], bool]

NoneType = type(None)


def members(declared: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the type alone; aliases and annotations are looked through."""
    declared = plain(declared)
    if get_origin(declared) in (Union, types.UnionType):
        return tuple(m for arg in get_args(declared) for m in members(arg))
    return (declared,)


def plain(declared: Any) -> Any:
    """Return a type without what says nothing about its values: Annotated, NewType, TypeVar."""
    while True:
        if declared is None:
            return NoneType
        if isinstance(declared, TypeVar):
            declared = declared.__bound__ or Any
        elif get_origin(declared) is Annotated:
            declared = get_args(declared)[0]
        elif hasattr(declared, "__supertype__"):
            declared = declared.__supertype__
        elif hasattr(declared, "__value__"):
            declared = declared.__value__
        else:
            return declared


def union(*declared: Any) -> Any:
    """Return the union of types; Any takes all."""
    found: list[Any] = []
    for member in (m for d in declared for m in members(d)):
        if member is Any:
            return Any
        if member not in found:
            found.append(member)
    return Union[tuple(found)] if found else Any  # noqa: UP007 - of a tuple


def models_in(declared: Any) -> Iterator[type]:
    """Yield the models and enums that a type is made of, those of models' fields too."""
    seen: set[Any] = set()
    left = [declared]
    while left:
        one = plain(left.pop())
        if not isinstance(one, Hashable) or one in seen:
            continue
        seen.add(one)
        left += get_args(one) if get_origin(one) is not Literal else []
        if isinstance(one, type) and issubclass(one, BaseModel):
            left += [field.annotation for field in one.model_fields.values()]
            yield one
        elif isinstance(one, type) and issubclass(one, Enum):
            yield one


def show(declared: Any) -> str:
    """Return a type as its author would write it."""
    parts = members(declared)
    if len(parts) > 1:
        return " | ".join(show(p) for p in parts)
    one = parts[0]
    if one is NoneType:
        return "None"
    if isinstance(one, type) and not get_args(one):
        return one.__name__
    return str(one).replace("typing.", "")


def assignable(source: Any, target: Any) -> bool:
    """Tell whether every value of one type fits another. What cannot be decided fits."""
    targets = members(target)
    if any(t in (Any, object) for t in targets):
        return True
    return all(s is Any or any(_fits(s, t) for t in targets) for s in members(source))


def _fits(source: Any, target: Any) -> bool:
    if source == target:
        return True
    if Literal in (get_origin(source), get_origin(target)):
        return _literal_fits(source, target)
    kind, wanted = get_origin(source) or source, get_origin(target) or target
    if not isinstance(kind, type) or not isinstance(wanted, type):
        return True
    if not _is_subclass(kind, wanted):
        return False
    given, asked = _arguments(source, kind), _arguments(target, wanted)
    if not given or not asked or len(given) != len(asked):
        return True
    return all(assignable(g, a) for g, a in zip(given, asked, strict=True))


def _literal_fits(source: Any, target: Any) -> bool:
    if get_origin(target) is Literal:
        return get_origin(source) is Literal and set(get_args(source)) <= set(get_args(target))
    return all(assignable(type(v), target) for v in get_args(source))


def _arguments(declared: Any, kind: type) -> tuple[Any, ...]:
    """Return a container's type arguments; `tuple[X, ...]` counts as a sequence of X."""
    found = get_args(declared)
    if kind is tuple and len(found) == 2 and found[1] is Ellipsis:
        return found[:1]
    return found


def _is_subclass(kind: type, wanted: type) -> bool:
    if wanted is float and issubclass(kind, int):
        return True
    try:
        return issubclass(kind, wanted)
    except TypeError:  # a protocol that cannot be asked
        return True


@lru_cache(maxsize=4096)
def _check_of(declared: tuple[Any, ...]) -> Check | None:
    classes: list[type] = []
    others: list[Check] = []
    for member in declared:
        if member in (Any, object):
            return None
        if member is float:
            classes += [float, int]
        elif isinstance(member, type) and not get_args(member) and _askable(member):
            classes.append(member)
        else:
            others.append(_adapted(member))
    if not others:
        found: Any = classes[0] if len(classes) == 1 else tuple(classes)
        return lambda value: isinstance(value, found)
    some = tuple(classes)
    return lambda value: isinstance(value, some) or any(other(value) for other in others)


def check_of(declared: Any) -> Check | None:
    """Return a cheap test for values of a type; None when every value passes."""
    return _check_of(members(declared))


def _askable(member: type) -> bool:
    try:
        isinstance(None, member)
    except TypeError:
        return False
    return True


def _adapted(member: Any) -> Check:
    origin = get_origin(member)
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(
            member, config=ConfigDict(arbitrary_types_allowed=True, strict=True)
        )
    except PydanticSchemaGenerationError:
        adapter = TypeAdapter(Any)

    def check(value: Any) -> bool:
        if isinstance(origin, type) and origin in (list, dict, set, frozenset, tuple):
            if not isinstance(value, origin):
                return False
        elif origin in (Sequence, Mapping) and not isinstance(value, origin):
            return False
        try:
            adapter.validate_python(value)
        except ValidationError:
            return False
        return True

    return check


def describe(value: Any) -> str:
    """Return a value's type and its beginning, for an error message."""
    text = repr(value)
    return f"{type(value).__name__} ({text[:80]}{'…' if len(text) > 80 else ''})"


def mismatch(value: Any, wanted: Any, producer: str, consumer: str) -> StepTypeMismatch:
    """Return the error of a value that a step does not take."""
    return StepTypeMismatch(
        f"{producer} gave {describe(value)} to {consumer!r}, which takes {show(wanted)}.",
        hint=f"Change what {producer} gives, or what {consumer!r} takes.",
    )


def misreturn(output: Any, declared: Any, producer: str, consumer: str) -> StepTypeMismatch:
    """Return the error of an output that is not what its step declares."""
    return StepTypeMismatch(
        f"{producer!r} gave {describe(output)} to {consumer}, but declares {show(declared)}.",
        hint=f"Return what {producer!r} declares, or change its annotation.",
    )


def argument_of(function: Callable[..., Any]) -> Any:
    """Return the declared type of a function's first parameter; Any when it declares none."""
    try:
        hints = get_type_hints(function)
        first = next(iter(inspect.signature(function).parameters), "")
    except (NameError, TypeError, ValueError):
        return Any
    return hints.get(first, Any)


def result_of(function: Callable[..., Any]) -> Any:
    """Return the declared type of what a function returns; Any when it declares none."""
    try:
        return get_type_hints(function).get("return", Any)
    except (NameError, TypeError):
        return Any
