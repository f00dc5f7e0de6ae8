"""Fusion, budgets and credit, without a database."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from phoenix.domain.code_facts import language_of, licence_of
from phoenix.domain.memory import (
    MemoryDraft,
    MemoryItem,
    MemoryQuery,
    ProjectOutcome,
    TaskOutcome,
    fuse,
    is_held_out,
    within,
)
from phoenix.domain.memory_report import Measured, report


def item(number: int, **values: Any) -> MemoryItem:
    """Return an item."""
    facts: dict[str, Any] = {
        "id": UUID(int=number),
        "kind": "snippet",
        "text": f"item {number}",
        "tags": [],
        "language": "",
        "licence": "",
        "origin": "own",
        "project_id": None,
        "commit": "",
        "agent": "",
        "pinned": False,
        "helped": 0,
        "failed": 0,
        "version": 1,
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        "recalled_at": None,
        "expires_at": None,
    }
    return MemoryItem(**facts | values)


def order(items: list[MemoryItem], dense: list[int], words: list[int]) -> list[int]:
    """Return the numbers of items in the order of the fused search."""
    near = [(UUID(int=n), 1 - rank / 10) for rank, n in enumerate(dense)]
    hits = fuse({i.id: i for i in items}, near, [UUID(int=n) for n in words])
    return [hit.item.id.int for hit in hits]


def test_what_both_searches_find_comes_first() -> None:
    """An item in the middle of both goes before the first of either."""
    items = [item(n) for n in range(1, 6)]
    assert order(items, [1, 2, 3], [4, 2, 5])[0] == 2
    assert sorted(order(items, [1, 2, 3], [4, 2, 5])) == [1, 2, 3, 4, 5]


def test_words_count_by_what_the_embedder_leaves_to_them() -> None:
    """The first by words alone goes before the second by meaning, unless words weigh little."""
    items = {UUID(int=n): item(n) for n in (1, 2, 3)}
    near = [(UUID(int=1), 0.9), (UUID(int=2), 0.8)]
    for weight, wanted in ((1.0, [1, 3, 2]), (0.25, [1, 2, 3])):
        hits = fuse(items, near, [UUID(int=3)], words_weight=weight)
        assert [hit.item.id.int for hit in hits] == wanted


def test_items_that_are_gone_take_no_rank() -> None:
    """Vectors that no text belongs to any more do not push others down."""
    assert order([item(1), item(2)], [9, 1], [2]) == [1, 2]
    hits = fuse({UUID(int=1): item(1)}, [(UUID(int=9), 0.9), (UUID(int=1), 0.5)], [])
    assert hits[0].why == "1st by meaning (0.50)"


def test_what_helped_rises_and_what_did_not_sinks() -> None:
    """Beside one that nothing is known of; a pinned one goes before all."""
    helped, unknown, failed = item(1, helped=4), item(2), item(3, failed=4)
    assert order([helped, unknown, failed], [3, 2, 1], [3, 2, 1]) == [1, 2, 3]
    assert order([helped, unknown, item(3, failed=4, pinned=True)], [], [1, 2, 3]) == [1, 2, 3]
    assert order([item(1), item(2, pinned=True)], [1, 2], [1, 2]) == [2, 1]
    (hit,) = fuse({UUID(int=1): item(1, helped=2, failed=1, pinned=True)}, [], [UUID(int=1)])
    assert hit.why == "1st by words, helped in 2 of 3 projects, pinned"


def test_the_token_budget_holds_and_passes_over_what_is_too_long() -> None:
    """A short one after a long one still comes."""
    hits = fuse(
        {UUID(int=n): item(n, text="x" * size) for n, size in ((1, 40), (2, 50), (3, 30), (4, 10))},
        [],
        [UUID(int=n) for n in (1, 2, 3, 4)],
    )
    chosen = within(hits, MemoryQuery(text="x", max_tokens=20))
    assert [hit.item.id.int for hit in chosen] == [1, 3, 4]
    assert sum(len(hit.item.text) for hit in chosen) <= 80
    assert len(within(hits, MemoryQuery(text="x", limit=2))) == 2


def test_the_same_text_has_one_address() -> None:
    """However it is spaced and tagged; another kind is another thing."""
    one = MemoryDraft(kind="snippet", text="close  what\nyou open", tags=["files"])
    assert one.address() == MemoryDraft(kind="snippet", text="close what you open").address()
    assert one.address() != MemoryDraft(kind="debugging", text="close what you open").address()


def test_secrets_and_people_are_masked_before_anything_is_kept() -> None:
    """Both kinds, counted."""
    text = "Use ghp_0123456789abcdefABCDEF0123456789abcd and ask ada@engine.uk."
    draft, masked = MemoryDraft(kind="debugging", text=text).masked()
    assert (draft.text, masked) == ("Use [secret] and ask [personal].", 2)


def test_held_out_projects_are_a_share_and_stay_the_same() -> None:
    """Near the share of many, none at 0, all at 1."""
    ids = [uuid4() for _ in range(4000)]
    held = [i for i in ids if is_held_out(i, 0.1)]
    assert 280 < len(held) < 520
    assert held == [i for i in ids if is_held_out(i, 0.1)]
    assert not any(is_held_out(i, 0.0) for i in ids)
    assert all(is_held_out(i, 1.0) for i in ids)


@pytest.mark.parametrize(
    ("seen_by", "went_well"),
    [([""], False), (["T1"], True), (["T2"], False), (["T1", "T2"], False), (["T9"], False), ([], False)],
)
def test_an_item_is_credited_by_the_tasks_that_saw_it(seen_by: list[str], went_well: bool) -> None:
    """More than half of them at first try; a project's own item by all tasks."""
    tasks = [TaskOutcome(task="T1", first_try=True), TaskOutcome(task="T2", first_try=False)]
    outcome = ProjectOutcome(tasks=tasks, calls=1, cost_usd=None)
    assert outcome.went_well(seen_by) is went_well


# --- the report ------------------------------------------------------------------------------


def project(*, held_out: bool, first_try: int, calls: int = 10) -> Measured:
    """Return a project of ten tasks."""
    return Measured(held_out=held_out, tasks=10, first_try=first_try, calls=calls, cost_usd=Decimal("0.5"))


def test_too_few_projects_say_so() -> None:
    """With their numbers, and without a difference."""
    found = report([project(held_out=False, first_try=9)] * 50 + [project(held_out=True, first_try=5)] * 9)
    assert "Too few projects: 50 with memory and 9 without" in found.said
    assert found.first_try is found.calls is None
    assert report([]).recalling.first_try is None


def test_a_difference_beyond_chance_is_told_from_one_that_is_not() -> None:
    """The interval holds the true difference, and the same projects give the same report."""
    good = [project(held_out=False, first_try=7 + n % 3, calls=8) for n in range(40)]
    bad = [project(held_out=True, first_try=4 + n % 3, calls=12) for n in range(20)]
    found = report(good + bad)
    assert found.first_try is not None
    assert found.first_try.low < found.first_try.value < found.first_try.high
    assert found.first_try.value == pytest.approx(0.3, abs=0.01)
    assert found.first_try.is_certain
    assert "beyond chance" in found.said
    assert found.calls is not None
    assert found.calls.value == -4
    assert report(good + bad) == found

    wide = [project(held_out=h, first_try=(n * 7 + h) % 11) for n in range(12) for h in (False, True)]
    unsure = report(wide)
    assert unsure.first_try is not None
    assert not unsure.first_try.is_certain
    assert "chance alone" in unsure.said


# --- code ------------------------------------------------------------------------------------


def test_the_language_is_that_of_most_files() -> None:
    """None where no file says it."""
    assert language_of(["a.py", "b/c.py", "web/x.ts", "README.md"]) == "python"
    assert language_of(["README.md", "Makefile"]) == ""


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("MIT License\n\nPermission is hereby granted,\nfree of charge, to any person", "MIT"),
        ("GNU GENERAL PUBLIC LICENSE\nVersion 3", "GPL-3.0"),
        ("GNU AFFERO GENERAL PUBLIC LICENSE ... GNU General Public License", "AGPL-3.0"),
        ("Apache License Version 2.0", "Apache-2.0"),
        ("All rights reserved.", ""),
    ],
)
def test_licences_are_known_by_their_words(text: str, licence: str) -> None:
    """What is none of the common ones is of none."""
    assert licence_of(text) == licence
