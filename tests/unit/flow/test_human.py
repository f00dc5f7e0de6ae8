"""approve, ask and wait: pauses, decisions by interrupt id, and what happens then."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from phoenix.domain.approval import Decision
from phoenix.errors import DomainInvalid, ResumeRefused, StepRejected
from phoenix.flow import (
    Feedback,
    Flow,
    Pending,
    Waiting,
    answer,
    approve,
    ask,
    branch_on,
    check_decision,
    loop_until,
    map_over,
    parallel,
    pending,
    step,
    wait,
)
from tests.unit.flow.steps import APPROVE, Draft, Reply, answered, config, double, gathered, inc, total, upto

SOURCE = "sha256:" + "1" * 64


@step
async def draft(text: str) -> Draft:
    return Draft(text=text, source=SOURCE)


@step
async def revise(old: Draft, feedback: Feedback | None) -> Draft:
    return old.model_copy(update={"text": feedback.text if feedback else "no reason", "round": old.round + 1})


@step
async def read(done: Draft) -> str:
    return f"{done.text}/{done.round}"


async def paused(flow: Flow[Any, Any], value: Any, saver: InMemorySaver) -> Pending:
    """Run to the only open request."""
    waiting = await flow.run(value, checkpointer=saver, config=config())
    assert isinstance(waiting, Waiting)
    (one,) = waiting.requests
    return one


async def decide(flow: Flow[Any, Any], one: Pending, saver: InMemorySaver, **decision: Any) -> Any:
    """Give a decision and return what the run comes to."""
    return await flow.resume({one.interrupt_id: decision}, checkpointer=saver, config=config())


async def test_the_request_holds_the_value_its_digest_and_its_form(saver: InMemorySaver) -> None:
    """A decision can be bound to exactly what was shown."""
    one = await paused(draft >> approve("spec"), "a", saver)
    value = Draft(text="a", source=SOURCE)
    assert one.request.kind == "approve"
    assert one.request.value == value.model_dump(mode="json")
    assert one.request.value_digest == value.digest()
    assert one.request.answer_schema["properties"]["source"]["readOnly"] is True
    assert one.request.verdicts == ["approve", "edit", "reject"]


async def test_approve_passes_the_value_on(saver: InMemorySaver) -> None:
    """Nothing changes, and the value is not stored again."""
    flow = draft >> approve("spec") >> read
    one = await paused(flow, "a", saver)
    assert await decide(flow, one, saver, verdict="approve") == "a/1"


async def test_edit_replaces_the_value_but_no_digest(saver: InMemorySaver) -> None:
    """Read-only fields stay as they were, whatever the form says."""
    flow = draft >> approve("spec")
    one = await paused(flow, "a", saver)
    form = {"text": "b", "source": "sha256:" + "f" * 64, "round": 7}
    assert await decide(flow, one, saver, verdict="edit", value=form) == Draft(
        text="b", source=SOURCE, round=7
    )


async def test_a_form_may_leave_read_only_fields_out(saver: InMemorySaver) -> None:
    """They come from the original."""
    flow = draft >> approve("spec")
    one = await paused(flow, "a", saver)
    done = await decide(flow, one, saver, verdict="edit", value={"text": "b"})
    assert done == Draft(text="b", source=SOURCE)


async def test_reject_revises_with_the_reason_and_asks_again(saver: InMemorySaver) -> None:
    """The reason reaches the reviser as feedback, as often as somebody rejects."""
    flow = draft >> approve("spec", revise=revise) >> read
    one = await paused(flow, "a", saver)
    for round_, reason in ((2, "longer"), (3, "shorter")):
        waiting = await decide(flow, one, saver, verdict="reject", reason=reason)
        (again,) = waiting.requests
        assert again.interrupt_id != one.interrupt_id
        assert again.request.value["text"] == reason
        assert again.request.value["round"] == round_
        one = again
    assert await decide(flow, one, saver, verdict="approve") == "shorter/3"


async def test_feedback_is_cleared_once_it_was_used(saver: InMemorySaver) -> None:
    """A later step that listens hears nothing of an old rejection."""

    @step
    async def listens(done: Draft, feedback: Feedback | None) -> str:
        return feedback.text if feedback else "silence"

    @step
    async def deaf(old: Draft) -> Draft:
        return old

    for reviser in (revise, deaf):
        flow = draft >> approve("spec", revise=reviser) >> listens
        thread = InMemorySaver()
        one = await paused(flow, "a", thread)
        waiting = await decide(flow, one, thread, verdict="reject", reason="longer")
        assert await answered(flow, waiting, thread) == "silence"


async def test_feedback_reaches_steps_inside_a_parallel_reviser(saver: InMemorySaver) -> None:
    """A reviser may be any flow."""

    @step
    async def grow(x: int, feedback: Feedback | None) -> int:
        return x + (100 if feedback and feedback.source == "number" else 0)

    flow = inc >> approve("number", revise=parallel(a=grow, b=inc) >> gathered) >> grow
    one = await paused(flow, 1, saver)
    waiting = await decide(flow, one, saver, verdict="reject", reason="more")
    assert waiting.requests[0].request.value == {"value": 105}
    assert await answered(flow, waiting, saver) == 105


async def test_feedback_used_in_a_branch_is_not_heard_again_after_it(saver: InMemorySaver) -> None:
    """A body that listens has used the reason up."""

    @step
    async def grow(x: int, feedback: Feedback | None) -> int:
        return x + (100 if feedback else 0)

    flow = inc >> approve("number", revise=parallel(a=grow, b=inc) >> gathered >> grow)
    one = await paused(flow, 1, saver)
    waiting = await decide(flow, one, saver, verdict="reject", reason="more")
    assert waiting.requests[0].request.value == {"value": 105}


async def test_reject_without_reviser_fails_with_the_reason(saver: InMemorySaver) -> None:
    """The run ends with what the person said."""
    flow = draft >> approve("spec")
    one = await paused(flow, "a", saver)
    with pytest.raises(StepRejected, match="not what I want"):
        await decide(flow, one, saver, verdict="reject", reason="not what I want")


async def test_respond_only_where_declared(saver: InMemorySaver) -> None:
    """A response is refused by field unless the gate takes one."""
    flow = draft >> approve("spec")
    one = await paused(flow, "a", saver)
    with pytest.raises(DomainInvalid, match="verdict: 'respond' is not possible"):
        await decide(flow, one, saver, verdict="respond", value={"text": "b"})

    def reply(old: Draft, said: Any) -> Draft:
        return Draft(text=f"{old.text}+{said.text}")

    other, thread = draft >> approve("spec", respond=reply) >> read, InMemorySaver()
    one = await paused(other, "a", thread)
    assert await decide(other, one, thread, verdict="respond", value={"text": "b"}) == "a+b/1"


async def test_an_edit_keeps_the_declared_type_of_a_list(saver: InMemorySaver) -> None:
    """`of` says what an edited value is where its class does not."""
    flow = upto >> approve("numbers", of=list[int]) >> total
    one = await paused(flow, 3, saver)
    assert await decide(flow, one, saver, verdict="edit", value={"value": [5, 6]}) == 11


MALFORMED: list[tuple[dict[str, Any], str]] = [
    ({"verdict": "edit", "value": {"text": 5}}, "text"),
    ({"verdict": "edit", "value": {"text": "b", "extra": 1}}, "extra"),
    ({"verdict": "edit"}, "value"),
    ({"verdict": "reject", "reason": " "}, "reason"),
    ({"verdict": "maybe"}, "verdict"),
    ({}, "verdict"),
    ({"verdict": "approve", "unknown": 1}, "unknown"),
]


@pytest.mark.parametrize(("decision", "field"), MALFORMED)
async def test_a_malformed_decision_is_refused_by_field_before_the_resume(
    decision: dict[str, Any], field: str, saver: InMemorySaver
) -> None:
    """The request stays open under its id."""
    flow = draft >> approve("spec") >> read
    one = await paused(flow, "a", saver)
    with pytest.raises(DomainInvalid, match=field):
        await decide(flow, one, saver, **decision)
    assert await decide(flow, one, saver, verdict="approve") == "a/1"


@pytest.mark.parametrize("decision", [d for d, _ in MALFORMED])
async def test_a_malformed_decision_that_slips_through_is_asked_for_again(
    decision: dict[str, Any], saver: InMemorySaver
) -> None:
    """The node checks too: the run lives on, and waits under a new id."""
    flow = draft >> approve("spec") >> read
    one = await paused(flow, "a", saver)
    graph = flow.compile(checkpointer=saver)
    await graph.ainvoke(Command(resume={one.interrupt_id: decision}), config())  # type: ignore[call-overload]
    (again,) = pending(await graph.aget_state(config()))  # type: ignore[arg-type]
    assert again.interrupt_id != one.interrupt_id
    assert again.request == one.request
    assert await decide(flow, again, saver, verdict="approve") == "a/1"


async def test_check_decision_returns_the_validated_value(saver: InMemorySaver) -> None:
    """The engine checks with the request alone."""
    one = await paused(draft >> approve("spec"), "a", saver)
    edited = check_decision(one.request, Decision(verdict="edit", value={"text": "b"}))
    assert edited == Draft(text="b", source=SOURCE)
    assert check_decision(one.request, {"verdict": "approve"}) is None


async def test_an_answer_becomes_the_output(saver: InMemorySaver) -> None:
    """It is validated into the declared type."""
    flow = inc >> ask("why", answer=Reply)
    one = await paused(flow, 1, saver)
    assert (one.request.kind, one.request.verdicts) == ("ask", ["respond"])
    with pytest.raises(DomainInvalid, match="text"):
        await decide(flow, one, saver, verdict="respond", value={"txt": "x"})
    assert await decide(flow, one, saver, verdict="respond", value={"text": "so"}) == Reply(text="so")


async def test_an_answer_may_be_joined_with_the_question(saver: InMemorySaver) -> None:
    """`into` sees both."""

    def join(asked: int, reply: Reply) -> str:
        return f"{asked} {reply.text}"

    flow = inc >> ask("why", answer=Reply, into=join)
    one = await paused(flow, 1, saver)
    assert await decide(flow, one, saver, verdict="respond", value={"text": "so"}) == "2 so"


async def test_a_question_may_have_a_default(saver: InMemorySaver) -> None:
    """Approving takes it."""
    flow = inc >> ask("why", answer=Reply, default=lambda x: Reply(text=f"default {x}"))
    one = await paused(flow, 1, saver)
    assert await decide(flow, one, saver, verdict="approve") == Reply(text="default 2")


async def test_an_answers_read_only_fields_come_from_the_question(saver: InMemorySaver) -> None:
    """Nobody types digests."""
    flow = draft >> ask("again", answer=Draft)
    one = await paused(flow, "a", saver)
    done = await decide(flow, one, saver, verdict="respond", value={"text": "b"})
    assert done == Draft(text="b", source=SOURCE)


async def test_wait_passes_its_value_through_whatever_it_is_resumed_with(saver: InMemorySaver) -> None:
    """A wake-up is only a hint."""
    flow = inc >> wait("children") >> double
    one = await paused(flow, 1, saver)
    assert (one.request.kind, one.request.value, one.request.verdicts) == ("wait", {}, [])
    assert await decide(flow, one, saver, anything="at all", value=99) == 4


async def test_a_person_in_a_loop_in_a_branch_beside_a_map(saver: InMemorySaver) -> None:
    """Constructs nest in any way, and every answer is given by its id."""
    ran: list[int] = []

    @step
    async def work(x: int) -> int:
        ran.append(x)
        return x + 1

    loop = loop_until(lambda x: x >= 4, work >> approve("round"), cap=5)
    side = upto >> map_over(work >> approve("item")) >> total
    flow = (
        inc
        >> parallel(person=branch_on(lambda x: "go" if x < 10 else "stop", go=loop, stop=inc), mapped=side)
        >> gathered
    )
    waiting = await flow.run(1, checkpointer=saver, config=config())
    names = sorted(p.request.name for p in waiting.requests)  # type: ignore[union-attr]
    assert names == ["item", "item", "round"]
    assert await answered(flow, waiting, saver) == 4 + 3
    assert sorted(ran) == [0, 1, 2, 3]


async def test_several_answers_may_come_at_once(saver: InMemorySaver) -> None:
    """One resume may answer many requests, each with its own decision."""
    flow = parallel(a=approve("a"), b=approve("b"), c=approve("c"))
    waiting = await flow.run(1, checkpointer=saver, config=config())
    assert isinstance(waiting, Waiting)
    ids = {p.request.name: p.interrupt_id for p in waiting.requests}
    given = {ids["a"]: APPROVE, ids["b"]: {"verdict": "edit", "value": {"value": 9}}}
    rest = await flow.resume(given, checkpointer=saver, config=config())
    assert isinstance(rest, Waiting)
    assert [p.request.name for p in rest.requests] == ["c"]
    assert await answered(flow, rest, saver) == {"a": 1, "b": 9, "c": 1}


async def test_an_answered_request_cannot_be_answered_again(saver: InMemorySaver) -> None:
    """A late wake-up approves nothing."""
    flow = approve("first") >> approve("second")
    one = await paused(flow, 1, saver)
    await decide(flow, one, saver, verdict="approve")
    with pytest.raises(ResumeRefused):
        await decide(flow, one, saver, verdict="approve")


async def test_the_engine_resumes_a_graph_by_itself(saver: InMemorySaver) -> None:
    """`pending` and `answer` are all it needs."""
    graph = (draft >> approve("spec") >> read).compile(checkpointer=saver)
    await graph.ainvoke({"value": "a"}, config())  # type: ignore[call-overload]
    state = await graph.aget_state(config())  # type: ignore[arg-type]
    (one,) = pending(state)
    command = answer(state, {one.interrupt_id: Decision(verdict="approve")})
    done = await graph.ainvoke(command, config())  # type: ignore[call-overload]
    assert done["value"] == "a/1"
