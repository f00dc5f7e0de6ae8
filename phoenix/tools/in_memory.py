"""Decisions on tool calls in memory: for tests, and for agents that run without a database."""

from __future__ import annotations

from collections.abc import Sequence

from phoenix.domain.permissions import Ground, RuleLayer, Ruling, ToolCall
from phoenix.tools.permissions import judge
from phoenix.tools.rule_files import default_rules, layers_of


class MemoryPermissions:
    """Judges by rules and keeps the rulings in a dictionary; forgets them with the process."""

    def __init__(self, layers: Sequence[RuleLayer] | None = None) -> None:
        self.layers = layers_of(default_rules()) if layers is None else layers
        self.rulings: dict[str, tuple[ToolCall, Ruling]] = {}

    async def judge(self, call: ToolCall, *, key: str, ground: Ground) -> Ruling:
        if key not in self.rulings:
            self.rulings[key] = (call, judge(call, self.layers, ground))
        return self.rulings[key][1]

    async def check(self, call: ToolCall, *, ground: Ground) -> Ruling:
        return judge(call, self.layers, ground)
