"""What an edited spec changes: which criteria, and whether anything else."""

from __future__ import annotations

from dataclasses import dataclass

from phoenix.domain.spec import Criterion, SpecDraft


@dataclass(frozen=True)
class SpecChanges:
    """The differences between two specs, by criterion."""

    changed: tuple[tuple[Criterion, Criterion], ...] = ()
    """As they were and as they are, under the same id."""
    added: tuple[Criterion, ...] = ()
    removed: tuple[Criterion, ...] = ()
    rest: bool = False
    """Something else differs: a requirement's text, a non-goal, an assumption, the summary."""

    @property
    def touched(self) -> list[str]:
        """Ids of criteria that are not as they were, in the order of their numbers."""
        ids = {c.id for _, c in self.changed} | {c.id for c in (*self.added, *self.removed)}
        return sorted(ids, key=lambda name: int(name[1:]))

    def text(self) -> str:
        """Say the differences as an agent reads them, one a line."""
        lines = [f"{new.id} said: {_said(old)}\n  and says now: {_said(new)}" for old, new in self.changed]
        lines += [f"{c.id} is new: {_said(c)}" for c in self.added]
        lines += [f"{c.id} is gone. It said: {_said(c)}" for c in self.removed]
        if self.rest:
            lines.append("Its requirements, summary, non-goals or assumptions are worded differently.")
        return "\n".join(lines)


def _said(criterion: Criterion) -> str:
    return f"{criterion.text}{' (holds already)' if criterion.already_holds else ''}"


def compare(old: SpecDraft, new: SpecDraft) -> SpecChanges:
    """Return what differs between a spec and one that came of it."""
    before = {c.id: c for c in old.criteria()}
    after = {c.id: c for c in new.criteria()}
    return SpecChanges(
        changed=tuple((before[i], c) for i, c in after.items() if i in before and before[i] != c),
        added=tuple(c for i, c in after.items() if i not in before),
        removed=tuple(c for i, c in before.items() if i not in after),
        rest=_without_criteria(old) != _without_criteria(new),
    )


def _without_criteria(spec: SpecDraft) -> tuple[object, ...]:
    texts = [(r.id, r.text) for r in spec.requirements]
    return spec.title, spec.summary, texts, spec.non_goals, spec.assumptions
