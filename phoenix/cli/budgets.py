"""Budgets on the command line: what is asked for, and how they are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from decimal import Decimal

    from phoenix.domain.budget import ProjectLimits


def limits_of(*, tokens: int | None, calls: int | None, minutes: int | None) -> ProjectLimits:
    """Return limits of a project; None stands for no such limit."""
    from phoenix.domain.budget import ProjectLimits

    return ProjectLimits(tokens=tokens, calls=calls, wall_seconds=None if minutes is None else minutes * 60)


def limits_text(budget_usd: Decimal | None, limits: ProjectLimits) -> str:
    """Return the limits of a project in words, such as `$5.00, 400 calls; each task $1.50`."""
    own = _amounts(budget_usd, limits.tokens, limits.calls, limits.wall_seconds)
    task = limits.task
    each = _amounts(task.usd, task.tokens, task.calls, task.wall_seconds)
    return "; ".join([*filter(None, [own]), *([f"each task {each}"] if each else [])])


def _amounts(usd: Decimal | None, tokens: int | None, calls: int | None, wall_seconds: int | None) -> str:
    parts = [] if usd is None else [f"${usd:.2f}" if usd == round(usd, 2) else f"${usd}"]
    parts += [] if tokens is None else [f"{tokens} tokens"]
    parts += [] if calls is None else [f"{calls} calls"]
    if wall_seconds is not None:
        whole = wall_seconds % 60 == 0
        parts.append(f"{wall_seconds // 60} minutes" if whole else f"{wall_seconds} seconds")
    return ", ".join(parts)
