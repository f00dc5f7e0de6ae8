"""The requirement agent: sizes a request, asks about it, and specifies it."""

from __future__ import annotations

from phoenix.agents.drafting import draft
from phoenix.agents.grounding import ground
from phoenix.agents.prompting import plain_yaml, render
from phoenix.agents.recalling import recall, reminder
from phoenix.domain.frozen import Frozen
from phoenix.domain.project import Answers, Question, Questions, Request, Size, Sized
from phoenix.domain.spec import Spec, SpecDraft
from phoenix.errors import DomainInvalid
from phoenix.ports import Caller, Ports

MAX_CRITERIA = 20


class TriageDraft(Frozen):
    """How large a request is, and why."""

    size: Size
    reason: str


class QuestionDraft(Frozen):
    """The questions to ask; an empty list when nothing important is open."""

    questions: list[Question] = []


def as_yaml(document: Frozen) -> str:
    """Show a document as an agent or a person reads it, without its digests."""
    hidden = {
        name
        for name, info in type(document).model_fields.items()
        if any("sha256" in str(part) for part in info.metadata)
    }
    data = document.model_dump(mode="json", exclude=hidden, exclude_defaults=True)
    return plain_yaml(data)


async def triage(request: Request, ports: Ports) -> Sized:
    """Size a request; what the user chose goes before the agent's opinion."""
    digest = await ports.artifacts.put(request)
    base = await ports.workspace.prepare(request.repository)
    if request.path != "auto":
        size: Size = "small" if request.path == "short" else "large"
        return Sized(request=digest, size=size, reason="chosen by the user")
    about = await ground(ports, base)
    messages = render("triage", request=request, layout=about.layout)
    answer = await draft(ports, Caller("triage"), messages, TriageDraft)
    return Sized(request=digest, size=answer.size, reason=answer.reason)


async def question(sized: Sized, ports: Ports) -> Questions:
    """Ask at most five questions, each with a default."""
    request = await ports.artifacts.get(sized.request, Request)
    base = await ports.workspace.prepare(request.repository)
    about = await ground(ports, base)

    def check(answer: QuestionDraft) -> None:
        ids = [q.id for q in answer.questions]
        if len(ids) > 5:
            raise DomainInvalid([("questions", f"there are {len(ids)}; ask the five that matter most")])
        if len(set(ids)) < len(ids):
            raise DomainInvalid([("questions", "ids are used more than once")])

    messages = render("question", request=request, layout=about.layout)
    answer = await draft(ports, Caller("question"), messages, QuestionDraft, check)
    return Questions(request=sized.request, items=answer.questions)


async def specify(value: Answers | Spec, ports: Ports, reason: str = "") -> Spec:
    """Write the spec, or revise the one that was sent back with a reason."""
    request = await ports.artifacts.get(value.request, Request)
    base = await ports.workspace.prepare(request.repository)
    about = await ground(ports, base, focus=[request.text])
    answers: list[tuple[str, str, bool]] = []
    previous = ""
    if isinstance(value, Spec):
        previous = as_yaml(value)
    else:
        given = {a.question: a for a in value.items}
        answers = [
            (
                q.text,
                given[q.id].text if q.id in given else q.default,
                q.id not in given or given[q.id].assumed,
            )
            for q in value.questions
        ]

    def check(answer: SpecDraft) -> None:
        count = len(answer.criteria())
        if count > MAX_CRITERIA:
            raise DomainInvalid(
                [("requirements", f"there are {count} criteria; keep the {MAX_CRITERIA} that decide most")]
            )

    caller = Caller("specify")
    recalled = await recall(ports, caller, request.text, ["requirement", "pattern"])
    messages = render(
        "specify",
        request=request,
        answers=answers,
        layout=about.layout,
        map=about.map,
        recalled=reminder(recalled),
        previous=previous,
        feedback=reason or "No reason was given.",
    )
    written = await draft(ports, caller, messages, SpecDraft, check)
    return Spec(**written.model_dump(), request=value.request)


async def frame(sized: Sized, ports: Ports) -> Spec:
    """Write the short path's spec of one or two criteria."""
    request = await ports.artifacts.get(sized.request, Request)
    base = await ports.workspace.prepare(request.repository)
    about = await ground(ports, base, focus=[request.text])

    def check(answer: SpecDraft) -> None:
        if len(answer.criteria()) > 2:
            raise DomainInvalid([("requirements", "the short path takes one or two criteria in all")])

    messages = render("frame", request=request, layout=about.layout, map=about.map)
    written = await draft(ports, Caller("frame"), messages, SpecDraft, check)
    return Spec(**written.model_dump(), request=sized.request)
