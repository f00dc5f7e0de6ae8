"""Lessons: what of an agent's draft is kept, and with what provenance."""

from __future__ import annotations

from uuid import UUID

import pytest

from phoenix.agents.retrospective import Learned, LessonDraft, LessonsDraft, keep
from phoenix.domain.lessons import MAX_LESSON_CHARS, MAX_LESSONS, MAX_TAGS, Provenance

ORIGIN = Provenance(project=UUID(int=7), commit="c" * 40, agent="retrospect")


def kept(*lessons: LessonDraft) -> Learned:
    """Keep what can be kept of a project with one task and one criterion."""
    return keep(LessonsDraft(lessons=list(lessons)), ORIGIN, tasks={"T1"}, criteria={"C1"})


def lesson(text: str = "Mind the newline.", **values: list[str]) -> LessonDraft:
    """Return a lesson seen in T1, but for what is given."""
    return LessonDraft(kind="debugging", text=text, **({"tasks": ["T1"]} | values))


def test_a_lesson_says_where_it_comes_from() -> None:
    """Project and commit come from Phoenix; tasks and criteria only as far as the project has them."""
    (found,) = kept(lesson(tasks=["T1", "T9"], criteria=["C1", "C9"])).lessons
    assert found.provenance == ORIGIN.model_copy(update={"tasks": ["T1"], "criteria": ["C1"]})


@pytest.mark.parametrize(
    ("draft", "why"),
    [
        (lesson(tasks=["T9"], criteria=["C9"]), "names no task or criterion"),
        (lesson(tasks=[]), "names no task or criterion"),
        (lesson("  "), "is empty"),
        (lesson("x " * MAX_LESSON_CHARS), "characters"),
    ],
)
def test_what_cannot_be_kept_is_left_out_and_told(draft: LessonDraft, why: str) -> None:
    """One bad lesson costs neither another call nor the good ones."""
    found = kept(draft, lesson())
    assert [one.text for one in found.lessons] == ["Mind the newline."]
    (reason,) = found.refused
    assert reason.startswith("lesson 1 ")
    assert why in reason


def test_only_a_handful_is_kept() -> None:
    """The first lessons stand for the project, however many were written."""
    found = kept(*(lesson(f"Lesson {n}.") for n in range(MAX_LESSONS + 2)))
    assert len(found.lessons) == MAX_LESSONS
    assert len(found.refused) == 2


def test_secrets_are_masked_in_text_and_tags() -> None:
    """A key that ended up in a failure's text goes no further."""
    key = "ghp_" + "0123456789abcdefABCDEF0123456789abcd"
    found = kept(lesson(f"Set it to {key}.", tags=[key, "git"]))
    assert key not in found.lessons[0].model_dump_json()
    assert key.lower() not in found.lessons[0].model_dump_json()
    assert found.lessons[0].tags == ["git"]
    assert found.masked == 1


def test_tags_are_single_words_in_small_letters() -> None:
    """What is no tag is dropped; spaces become hyphens; each counts once."""
    tags = ["Python", "python", "merge queue", "ünïcode", "", *(f"t{n}" for n in range(9))]
    found = kept(lesson(tags=tags)).lessons[0].tags
    assert found[:3] == ["python", "merge-queue", "t0"]
    assert len(found) == MAX_TAGS
