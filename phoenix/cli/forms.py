"""Documents as YAML that people edit, and what they wrote as a decision."""

from __future__ import annotations

from typing import Any

import yaml
from pydantic import ValidationError

from phoenix.domain.approval import Decision, HumanRequest
from phoenix.domain.project import Answer, Answers, Question, Questions
from phoenix.errors import DomainInvalid

WIDTH = 100


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as blocks."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def to_yaml(value: Any) -> str:
    """Return a JSON value as readable YAML, its keys in their own order."""
    return str(
        yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH)
    ).removesuffix("...\n")


def questions_of(request: HumanRequest) -> list[Question] | None:
    """Return the clarifying questions of a request; None when it asks something else."""
    if request.kind != "ask":
        return None
    try:
        return Questions.model_validate(request.value).items or None
    except ValidationError:
        return None


def form_of(request: HumanRequest) -> str:
    """Return the YAML that a person edits. Digests and commits are left out: nobody edits those."""
    questions = questions_of(request)
    if questions is not None:
        return "".join(_question(q) for q in questions)
    if request.kind == "ask":
        return _skeleton(request)
    head = f"# Edit this {request.name}; what is saved is checked before it is used.\n"
    return head + to_yaml(without_read_only(request.answer_schema, request.value))


def _question(question: Question) -> str:
    lines = [f"# {line}" for line in question.text.splitlines()]
    if question.options:
        lines.append(f"# Options: {' | '.join(question.options)}")
    return "\n".join(lines) + "\n" + to_yaml({question.id: question.default}) + "\n"


def _skeleton(request: HumanRequest) -> str:
    head = "".join(f"# {line}\n" for line in to_yaml(request.value).splitlines())
    schema = request.answer_schema
    fields = schema.get("properties")
    if not isinstance(fields, dict):
        return f"{head}value: \n"
    editable = {k: v for k, v in fields.items() if not is_read_only(v)}
    return head + to_yaml({name: field.get("default") for name, field in editable.items()})


def without_read_only(schema: dict[str, Any], value: Any) -> Any:
    """Return a form without its read-only fields; inside lists they stay, as nothing could put them back."""
    definitions = schema.get("$defs", {})

    def walk(part: dict[str, Any], old: Any) -> Any:
        part = definitions.get(str(part.get("$ref", "")).rpartition("/")[2], part)
        if not isinstance(old, dict):
            return old
        fields = part.get("properties", {})
        return {k: walk(fields.get(k, {}), v) for k, v in old.items() if not is_read_only(fields.get(k, {}))}

    return walk(schema, value)


def is_read_only(field: dict[str, Any]) -> bool:
    """Tell whether a field's schema says that people do not edit it."""
    return bool(field.get("readOnly")) or any(one.get("readOnly") for one in field.get("anyOf", []))


def parse_yaml(text: str) -> Any:
    """Return what YAML says.

    Raises:
        DomainInvalid: it is no YAML; names the line.
    """
    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}" if mark else "file"
        raise DomainInvalid([(where, error.problem or "this is not YAML")]) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DomainInvalid([("file", f"this is not YAML: {error}")]) from error


def decision_from(request: HumanRequest, text: str) -> Decision:
    """Return the decision that an edited form stands for.

    Raises:
        DomainInvalid: naming each field that is wrong.
    """
    value = parse_yaml(text)
    questions = questions_of(request)
    if questions is not None:
        if isinstance(value, dict) and "items" in value:
            return Decision(verdict="respond", value=value)
        return answered(request, questions, {} if value is None else value)
    if not isinstance(value, dict):
        if request.answer_schema.get("properties") is not None:
            raise DomainInvalid([("file", "it must hold the fields of the form, such as `name: value`")])
        value = {"value": value}
    return Decision(verdict="respond" if request.kind == "ask" else "edit", value=value)


def answered(request: HumanRequest, questions: list[Question], given: Any) -> Decision:
    """Return the decision that answers questions, by id; what is left out takes its default.

    Raises:
        DomainInvalid: there is no such question, or an answer is no text.
    """
    if not isinstance(given, dict):
        raise DomainInvalid([("file", "it must hold an answer for each question, such as `Q1: yes`")])
    known = {q.id for q in questions}
    problems = [(str(k), "there is no such question") for k in given if str(k) not in known]
    problems += [
        (str(k), "an answer must be one text") for k, v in given.items() if isinstance(v, dict | list)
    ]
    if problems:
        raise DomainInvalid(problems)
    texts = {str(k): _said(v) for k, v in given.items() if _said(v)}
    items = [
        Answer(
            question=q.id, text=texts.get(q.id, q.default), assumed=texts.get(q.id, q.default) == q.default
        )
        for q in questions
    ]
    digest = Questions.model_validate(request.value).request
    return Decision(
        verdict="respond",
        value=Answers(request=digest, questions=questions, items=items).model_dump(mode="json"),
    )


def _said(value: Any) -> str:
    """Return an answer's text: YAML reads a bare `yes` as true."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value).strip()
