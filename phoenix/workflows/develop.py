"""The development workflow: requirement → spec → plan → code → evidence → delivery."""

from __future__ import annotations

from langgraph.runtime import Runtime

from phoenix.agents import contract as contracting
from phoenix.agents import decomposition, requirement, test_author
from phoenix.agents.checking import clean_checkout
from phoenix.agents.coder import work_on
from phoenix.agents.retrospective import SMALL_TASK, problems_of
from phoenix.domain.evidence import Build, Delivery, Evidence, Sealed
from phoenix.domain.plan import Contract, Plan
from phoenix.domain.project import Answers, Questions, Request, Sized
from phoenix.domain.spec import Spec
from phoenix.domain.work import TaskWork
from phoenix.flow import Feedback, Pipeline, approve, ask, branch_on, loop_until, step
from phoenix.ports import Parcel, Ports
from phoenix.workflows.building import build
from phoenix.workflows.learning import learn
from phoenix.workflows.reuse import former_seal, kept_contract, revised_plan
from phoenix.workflows.verification import verify

VERIFY_ROUNDS = 3
SHORT_TREE = "short"


@step
async def triage(request: Request, runtime: Runtime[Ports]) -> Sized:
    """Size the request."""
    request = request.model_copy(update={"path": runtime.context.path})
    return await requirement.triage(request, runtime.context)


@step
async def question(sized: Sized, runtime: Runtime[Ports]) -> Questions:
    """Ask what must be known before the spec."""
    questions = await requirement.question(sized, runtime.context)
    await runtime.context.artifacts.put(questions)
    return questions


@step
async def specify(value: Answers | Spec, runtime: Runtime[Ports], feedback: Feedback | None) -> Spec:
    """Write the spec, or revise it."""
    spec = await requirement.specify(value, runtime.context, feedback.text if feedback else "")
    await runtime.context.artifacts.put(spec)
    return spec


@step
async def frame(sized: Sized, runtime: Runtime[Ports]) -> Spec:
    """Write the short path's spec."""
    spec = await requirement.frame(sized, runtime.context)
    await runtime.context.artifacts.put(spec)
    return spec


@step
async def decompose(value: Spec | Plan, runtime: Runtime[Ports], feedback: Feedback | None) -> Plan:
    """Write the plan, or revise it."""
    if isinstance(value, Spec):
        plan = await revised_plan(value, runtime.context)
    else:
        plan = await decomposition.decompose(value, runtime.context, feedback.text if feedback else "")
    await runtime.context.artifacts.put(plan)
    return plan


@step
async def contract(plan: Plan, runtime: Runtime[Ports]) -> Contract:
    """Commit the shared interfaces as stubs."""
    kept = await kept_contract(plan, runtime.context)
    return kept or await contracting.contract(plan, runtime.context)


@step
async def seal(value: Contract, runtime: Runtime[Ports]) -> Sealed:
    """Write the acceptance tests, see them red, and put them out of the coder's reach."""
    sealed = await test_author.seal(value, runtime.context, await former_seal(value, runtime.context))
    await runtime.context.artifacts.put(sealed)
    red = sum(t.red for t in sealed.tests)
    await runtime.context.events.emit(
        "tests_sealed", tests=len(sealed.tests), red=red, files=[f.path for f in sealed.files]
    )
    return sealed


@step
async def code(value: Spec | Evidence, runtime: Runtime[Ports], feedback: Feedback | None) -> Build:
    """Make a small change in one agent loop, or mend what its verification found."""
    ports = runtime.context
    work = await _small_work(value, ports, feedback.text if feedback else "")
    done = await work_on(work, ports, tree_name=SHORT_TREE)
    await clean_checkout(ports, "short-kept", done.commit)
    commit = await ports.workspace.commit(
        "short-kept", message=f"{work.title}\n\n{done.summary}".strip(), parents=[work.base]
    )
    return Build(
        spec=work.spec,
        base=work.base,
        commit=commit,
        declared=done.declared,
        summary=done.summary,
        round=work.round,
    )


async def _small_work(value: Spec | Evidence, ports: Ports, guidance: str) -> TaskWork:
    problems, start, round_ = [], None, 1
    if isinstance(value, Evidence):
        build_ = await ports.artifacts.get(value.build, Build)
        spec = await ports.artifacts.get(value.spec, Spec)
        start, round_ = build_.commit, build_.round + 1
        problems = [*problems_of(value), *([guidance] if guidance else [])]
    else:
        spec = value
    request = await ports.artifacts.get(spec.request, Request)
    return TaskWork(
        spec=await ports.artifacts.put(spec),
        task=SMALL_TASK,
        title=spec.title,
        brief=request.text,
        criteria=[c.id for c in spec.criteria()],
        base=await ports.workspace.prepare(request.repository),
        commit=start,
        round=round_,
        problems=problems,
    )


@step
async def deliver(evidence: Evidence, runtime: Runtime[Ports]) -> Delivery:
    """Make the branch and the evidence report."""
    ports = runtime.context
    build_ = await ports.artifacts.get(evidence.build, Build)
    spec = await ports.artifacts.get(evidence.spec, Spec)
    request = await ports.artifacts.get(spec.request, Request)
    base = await ports.workspace.prepare(request.repository)
    evidence = evidence.model_copy(update={"decisions": await ports.gates.decisions()})
    await ports.artifacts.put(evidence)
    delivery = await ports.outlet.deliver(
        Parcel(
            title=spec.title,
            requirement=request.text,
            spec=spec,
            plan=await ports.artifacts.get(build_.plan, Plan) if build_.plan else None,
            build=build_,
            evidence=evidence,
            log=await ports.workspace.log(base, evidence.commit),
            usage=await ports.models.usage(),
            costs=await ports.gates.costs() if build_.plan else (),
        )
    )
    await ports.artifacts.put(delivery)
    await ports.events.emit("project_delivered", branch=delivery.branch, commit=delivery.commit)
    return delivery


def size(sized: Sized) -> str:
    """Return the branch a request takes."""
    return sized.size


def passed(evidence: Evidence) -> bool:
    """Tell whether everything holds."""
    return evidence.passed


def settled(evidence: Evidence) -> bool:
    """Tell whether there is nothing to mend."""
    return evidence.settled


def no_questions(questions: Questions) -> str:
    """Tell whether there is anything to ask."""
    return "ask" if questions.items else "none"


@step
async def nothing_asked(questions: Questions) -> Answers:
    """Go on without questions."""
    return Answers(request=questions.request)


@step
async def leave_red(evidence: Evidence) -> Evidence:
    """Leave the rounds with what is red: a person decides at the delivery gate."""
    return evidence


def develop_with(rounds: int = VERIFY_ROUNDS) -> Pipeline[Request, Delivery]:
    """Return the workflow in which verification is mended so many times at most."""
    small: Pipeline[Sized, Delivery] = (
        frame
        >> loop_until(passed, code >> verify, cap=rounds, on_cap=approve("delivery", revise=code >> verify))
        >> deliver
        >> learn
    )
    large: Pipeline[Sized, Delivery] = (
        question
        >> branch_on(no_questions, none=nothing_asked, ask=ask("questions", answer=Answers))
        >> specify
        >> approve("spec", revise=specify)
        >> decompose
        >> approve("plan", revise=decompose)
        >> contract
        >> seal
        >> loop_until(settled, build >> verify, cap=rounds, on_cap=leave_red)
        >> approve("delivery", revise=build >> verify)
        >> deliver
        >> learn
    )
    whole: Pipeline[Request, Delivery] = triage >> branch_on(size, small=small, large=large)
    return whole


develop: Pipeline[Request, Delivery] = develop_with()
