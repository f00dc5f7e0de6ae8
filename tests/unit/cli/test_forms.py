"""Documents as YAML forms, and forms as decisions."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from phoenix.cli.forms import answered, decision_from, form_of, questions_of, to_yaml
from phoenix.cli.gates import checked
from phoenix.domain.approval import HumanRequest
from phoenix.domain.plan import Plan, Task
from phoenix.domain.project import Answers, Question, Questions
from phoenix.domain.spec import Criterion, Requirement, Spec
from phoenix.errors import DomainInvalid
from phoenix.flow import approve, ask

DIGEST = "sha256:" + "0" * 64
SPEC = Spec(
    title="A list",
    summary="Keeps lines.\nIn order.",
    requirements=[
        Requirement(id="R1", text="Add", criteria=[Criterion(id="C1", text="An item is kept: yes")])
    ],
    request=DIGEST,
)
PLAN = Plan(
    approach="One module",
    tasks=[
        Task(id="T1", title="Store", description="Write it", criteria=["C1"]),
        Task(id="T2", title="Command", description="Write it", depends_on=["T1"]),
    ],
    spec=DIGEST,
)
QUESTIONS = Questions(
    request=DIGEST,
    items=[
        Question(id="Q1", text="Where is it kept?", default="in a file", options=["in a file", "in memory"]),
        Question(id="Q2", text="Is order kept?", default="yes"),
    ],
)


def spec_request() -> HumanRequest:
    return approve("spec", of=Spec).request(SPEC)


def questions_request() -> HumanRequest:
    return ask("questions", answer=Answers).request(QUESTIONS)


def problems_of(request: HumanRequest, text: str) -> dict[str, str]:
    with pytest.raises(DomainInvalid) as raised:
        checked(request, decision_from(request, text), {})
    return dict(raised.value.problems)


def test_a_form_goes_round_unchanged() -> None:
    """Saving a form as it was opened decides on the same value."""
    decision = decision_from(spec_request(), form_of(spec_request()))
    assert decision.verdict == "edit"
    assert Spec.model_validate({**(decision.value or {}), "request": DIGEST}) == SPEC
    checked(spec_request(), decision, {})


def test_a_form_has_no_digests() -> None:
    """Nobody can edit what is only computed."""
    assert "sha256" not in form_of(spec_request())
    assert "request" not in yaml.safe_load(form_of(spec_request()))


def test_text_of_several_lines_is_a_block() -> None:
    """It reads as it will be."""
    assert to_yaml({"a": "one\ntwo\n"}) == "a: |\n  one\n  two\n"


def test_each_wrong_field_is_named() -> None:
    """All of them at once, by their path."""
    form = yaml.safe_load(form_of(spec_request()))
    form["title"] = ""
    form["requirements"][0]["criteria"][0]["id"] = "X"
    found = problems_of(spec_request(), to_yaml(form))
    assert set(found) == {"title", "requirements.0.criteria.0.id"}


def test_an_unknown_field_is_named() -> None:
    """A typo in a field's name is not lost."""
    assert "sumary" in problems_of(spec_request(), form_of(spec_request()) + "sumary: x\n")


def test_broken_yaml_names_its_line() -> None:
    """The editor can go there."""
    assert list(problems_of(spec_request(), "title: x\nsummary: [1\n")) == ["line 3"]


def test_an_empty_form_is_refused() -> None:
    """Deleting everything decides nothing."""
    assert "file" in problems_of(spec_request(), "")


@pytest.mark.parametrize(
    ("change", "said"),
    [({"depends_on": ["T2"]}, "circle"), ({"criteria": []}, "no task covers criterion C1")],
)
def test_an_edited_plan_has_to_fit_the_spec(change: dict[str, Any], said: str) -> None:
    """A cycle or an uncovered criterion is found before the plan is used."""
    request = approve("plan", of=Plan).request(PLAN)
    form = yaml.safe_load(form_of(request))
    form["tasks"][0].update(change)
    with pytest.raises(DomainInvalid, match=said):
        checked(request, decision_from(request, to_yaml(form)), {"spec": SPEC.model_dump(mode="json")})


def test_questions_are_a_form_of_answers_by_id() -> None:
    """The form holds each question with its options, and its default filled in."""
    text = form_of(questions_request())
    assert "# Where is it kept?\n# Options: in a file | in memory\nQ1: in a file\n" in text
    assert yaml.safe_load(text) == {"Q1": "in a file", "Q2": True} or yaml.safe_load(text)["Q2"] == "yes"


def test_answers_left_out_take_their_defaults() -> None:
    """What was taken by default is marked as assumed."""
    decision = decision_from(questions_request(), "Q1: in memory\n")
    answers = Answers.model_validate(decision.value)
    assert [(a.question, a.text, a.assumed) for a in answers.items] == [
        ("Q1", "in memory", False),
        ("Q2", "yes", True),
    ]
    assert answers.request == DIGEST
    checked(questions_request(), decision, {})


def test_a_bare_yes_is_an_answer() -> None:
    """YAML reads it as true; the person meant the word."""
    answers = Answers.model_validate(decision_from(questions_request(), "Q1: yes\nQ2: no\n").value)
    assert [a.text for a in answers.items] == ["yes", "no"]


def test_an_answer_to_no_question_is_refused() -> None:
    """So is one that is no text."""
    assert set(problems_of(questions_request(), "Q9: x\nQ1: [a]\n")) == {"Q9", "Q1"}


def test_nothing_but_a_mapping_answers_questions() -> None:
    """A list says not which question is meant."""
    with pytest.raises(DomainInvalid):
        answered(questions_request(), QUESTIONS.items, ["a"])


def test_only_questions_are_asked_as_questions() -> None:
    """A value that happens to be asked about is a form."""
    assert questions_of(spec_request()) is None
    assert questions_of(ask("age", answer=int).request("how old?")) is None


def test_a_bare_value_answers_a_question_for_one() -> None:
    """An answer that is no object is written as it is."""
    request = ask("age", answer=int).request("how old?")
    assert decision_from(request, "42").value == {"value": 42}
