"""Which alias answers a call: by agent, size and attempts, within what the project pins and forbids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from phoenix.errors import ModelUnknown
from phoenix.llm.calls import Backend, ModelRequest
from phoenix.llm.catalogue import CHOICE, Catalogue
from phoenix.llm.limits import Limits
from phoenix.llm.route import Candidate
from phoenix.ports import Caller, Events

CHARS_PER_TOKEN = 4
"""About how many characters a token has: enough to pass a window over that is clearly too small."""


@dataclass(frozen=True)
class Choice:
    """What a project's model says: `auto` or an alias, then what is forbidden, such as `auto,-strong`."""

    text: str
    pin: str | None
    """The alias that answers every call; None where the catalogue chooses."""
    forbidden: frozenset[str] = frozenset()
    """Aliases that may not answer."""


def read_choice(catalogue: Catalogue, text: str) -> Choice | None:
    """Return what a project's model says; None for one that is no choice of the catalogue.

    Raises:
        ModelUnknown: an alias is not there, or none is left.
    """
    first, *rest = [part.strip() for part in text.split(",")]
    if ":" in first:
        return None
    known = ", ".join([CHOICE, *catalogue.models])
    if first != CHOICE and first not in catalogue.models:
        hint = f"Known are {known}; or give one as provider:model."
        raise ModelUnknown(f"There is no model alias {first!r}.", hint=hint, field="model")
    forbidden: set[str] = set()
    for part in rest:
        name = part.removeprefix("-")
        meant = {a for a, e in catalogue.models.items() if name in (a, e.provider)}
        if not part.startswith("-") or not meant:
            hint = "Forbid an alias or a provider with a minus before it, such as auto,-strong."
            raise ModelUnknown(f"{part!r} forbids no model.", hint=hint, field="model")
        forbidden |= meant
    pin = None if first == CHOICE else first
    choice = Choice(text, pin, frozenset(forbidden))
    if not any(_permitted(catalogue, choice, alias) for alias in ([pin] if pin else catalogue.ladder())):
        raise ModelUnknown(f"{text!r} leaves no model.", hint="Forbid less.", field="model")
    return choice


def _permitted(catalogue: Catalogue, choice: Choice, alias: str) -> list[str]:
    return [name for name in catalogue.chain(alias) if name not in choice.forbidden]


@dataclass(frozen=True)
class Decision:
    """The aliases that may answer, best first, and why the first is the best."""

    aliases: Sequence[str]
    reason: str
    is_plain: bool
    """It is what the agent's tier says, without more."""


def decide(catalogue: Catalogue, choice: Choice, request: ModelRequest) -> Decision:
    """Return who may answer a request. The same for the same catalogue, choice and request.

    Raises:
        ModelUnknown: none may, or none can.
    """
    plain, wanted, why = _wanted(catalogue, choice, request.caller)
    fitting = _fitting(catalogue, choice, wanted, request)
    if not fitting and choice.pin is None:
        ladder = list(catalogue.ladder())
        place = ladder.index(wanted)
        for tier in [*ladder[place + 1 :], *reversed(ladder[:place])]:
            fitting = _fitting(catalogue, choice, tier, request)
            if fitting:
                break
    if not fitting:
        why_not = _why_not(catalogue, choice, wanted, request)
        raise ModelUnknown(
            f"No model may answer the {request.caller.agent} agent: {why_not}.",
            hint="Forbid less, or give the catalogue a model that fits.",
            field="model",
        )
    if fitting[0] != wanted:
        why = f"{why}, but {_why_not(catalogue, choice, wanted, request)}"
    return Decision(fitting, why, is_plain=fitting[0] == plain and choice.pin is None)


def _wanted(catalogue: Catalogue, choice: Choice, caller: Caller) -> tuple[str, str, str]:
    """Return the alias of the agent's tier, the one that is wanted, and why."""
    ladder = catalogue.ladder()
    start = catalogue.start_of(caller.agent)
    if choice.pin is not None:
        return ladder[start], choice.pin, "the project is pinned to it"
    reasons = [f"the tier of {caller.agent}"]
    place, raised_by = start, catalogue.raised_by(caller.agent)
    if "size" in raised_by and caller.size == "L":
        place += 1
        reasons.append("the task is large")
    if "attempt" in raised_by and caller.attempt > 1:
        place += caller.attempt - 1
        reasons.append(f"attempt {caller.attempt}")
    return ladder[start], ladder[min(place, len(ladder) - 1)], ", ".join(reasons)


def _fitting(catalogue: Catalogue, choice: Choice, alias: str, request: ModelRequest) -> list[str]:
    return [a for a in _permitted(catalogue, choice, alias) if not _misfit(catalogue, a, request)]


def _misfit(catalogue: Catalogue, alias: str, request: ModelRequest) -> str:
    """Return why a model cannot answer a request; empty when it can."""
    entry = catalogue.models[alias]
    # A typed answer can be asked for in words; tools to work with cannot.
    if request.tools and request.shape is None and "tools" not in entry.capabilities:
        return "takes no tools"
    tokens = _tokens(request)
    if entry.context_tokens is not None and tokens > entry.context_tokens:
        return f"has room for {entry.context_tokens} tokens and this has about {tokens}"
    return ""


def _tokens(request: ModelRequest) -> int:
    return sum(len(message.text) for message in request.messages) // CHARS_PER_TOKEN


def _why_not(catalogue: Catalogue, choice: Choice, alias: str, request: ModelRequest) -> str:
    if alias in choice.forbidden:
        return f"{alias} is forbidden"
    return f"{alias} {_misfit(catalogue, alias, request)}"


class CatalogueRouter:
    """Routes the calls of one project. What it decides depends on catalogue, choice and request alone."""

    recorded = False

    def __init__(
        self, catalogue: Catalogue, choice: Choice, *, open_alias: Callable[[str], Backend], events: Events
    ) -> None:
        self.name = choice.text
        self._catalogue = catalogue
        self._choice = choice
        self._open_alias = open_alias
        self._events = events
        self._told: dict[tuple[str, str], tuple[str, str]] = {}

    async def route(self, request: ModelRequest) -> Sequence[Candidate]:
        """Return who may answer, best first; `model_routed` tells of what is not the agent's own tier.

        Raises:
            ModelUnknown: tier, pin and prohibitions leave none, or one cannot be opened.
            NoModel: the first one's key is missing.
        """
        decision = decide(self._catalogue, self._choice, request)
        await self._tell(request.caller, decision)
        first, *rest = decision.aliases
        behind = [self._candidate(alias, f"behind {first}") for alias in rest]
        return [self._candidate(first, decision.reason), *behind]

    def _candidate(self, alias: str, reason: str) -> Candidate:
        limits = self._catalogue.models[alias].limits
        caps = Limits(limits.requests_per_minute, limits.tokens_per_minute, limits.concurrency)
        return Candidate(self._open_alias(alias), alias, reason, caps)

    def room(self, caller: Caller) -> int | None:
        first = decide(self._catalogue, self._choice, ModelRequest(caller, [])).aliases[0]
        return self._catalogue.models[first].context_tokens

    def cached(self, request: ModelRequest) -> tuple[str, str] | None:
        """Return the alias and the model that are to answer; None where the answer may not be cached."""
        if not self._catalogue.is_cached(request.caller.agent):
            return None
        alias = decide(self._catalogue, self._choice, request).aliases[0]
        return alias, self._catalogue.models[alias].model

    async def _tell(self, caller: Caller, decision: Decision) -> None:
        """Tell of a decision once for each caller and change."""
        who = (caller.agent, caller.task.partition("/")[0])
        now = (decision.aliases[0], decision.reason)
        if self._told.get(who) == now or (decision.is_plain and who not in self._told):
            return
        self._told[who] = now
        alias, reason = now
        await self._events.emit(
            "model_routed",
            agent=caller.agent,
            task=caller.task,
            alias=alias,
            model=self._catalogue.models[alias].model,
            reason=reason,
        )
