"""The model catalogue: aliases, tiers and agents of one YAML file, read strictly."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints, ValidationError, field_validator

from phoenix.configuration.composing import Composed, compose, is_composed, read_plain
from phoenix.domain.frozen import Frozen
from phoenix.domain.price import ModelPrice
from phoenix.domain.yaml_lines import at, problems_of, read_mapping
from phoenix.errors import DomainInvalid, SettingInvalid

CHOICE = "auto"
"""What a project's model is called where the catalogue chooses for each call."""

Alias = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_.-]{0,63}$")]
Usd = Annotated[Decimal, Field(ge=0, le=100_000, allow_inf_nan=False)]
Capability = Literal["tools", "schema", "vision", "prompt_cache"]
Raise = Literal["size", "attempt"]
MUST = "it must hold `models:` with aliases"
SETTING = "PHOENIX_MODELS"

FIRST_TIER = frozenset({"triage", "summarise", "retrospect"})
"""Agents that take the first tier where the catalogue does not name them."""
LAST_TIER = frozenset({"specify", "decompose", "resolve"})
"""Agents that take the last one; all others take the middle."""


def _no_value(text: object) -> object:
    """Refuse what is no variable's name, without quoting it: it may be the key itself."""
    if isinstance(text, str) and not text.replace("_", "").isalnum():
        raise ValueError("name the environment variable that holds the key; never write a key here")
    if isinstance(text, str) and text != text.upper():
        raise ValueError("an environment variable is upper case; never write a key here")
    return text


class CallLimits(Frozen):
    """What a provider allows, or what you want to allow yourself. None is no limit."""

    requests_per_minute: int | None = Field(default=None, ge=1)
    tokens_per_minute: int | None = Field(default=None, ge=1)
    concurrency: int | None = Field(default=None, ge=1)
    """Calls at once."""
    output_tokens: int | None = Field(default=None, ge=1)
    """The longest answer that is asked for."""


class Price(Frozen):
    """USD for a million tokens. Tokens of the provider's prompt cache cost like others where left out."""

    input: Usd
    output: Usd
    cache_read: Usd | None = None
    cache_write: Usd | None = None

    @property
    def as_price(self) -> ModelPrice:
        """The price as calls are counted at."""
        return ModelPrice(
            input_mtok=self.input,
            output_mtok=self.output,
            cache_read_mtok=self.cache_read,
            cache_write_mtok=self.cache_write,
        )


class Entry(Frozen):
    """What an alias stands for."""

    model: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+:\S+$")]
    """As `provider:model`."""
    base_url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+\S*$")] | None = None
    """Of an OpenAI-compatible server, or of the provider's proxy."""
    key_env: Annotated[str, BeforeValidator(_no_value), Field(min_length=1, max_length=100)] | None = None
    """Name of the environment variable that holds the key."""
    key_file: Path | None = None
    """File that holds the key."""
    limits: CallLimits = CallLimits()
    price: Price | None = None
    """Takes precedence over the price table."""
    context_tokens: int | None = Field(default=None, ge=1000)
    """Context window: calls that do not fit pass this model over."""
    capabilities: frozenset[Capability] = frozenset({"tools", "schema", "prompt_cache"})
    fallbacks: list[str] = []
    """Aliases that are asked when this one fails, in order."""

    @field_validator("model")
    @classmethod
    def _is_provider(cls, value: str) -> str:
        if value.startswith(("recorded:", "chaos:", "scripted:")):
            raise ValueError("give a provider's model; recordings are named with --model")
        return value

    @property
    def provider(self) -> str:
        """The provider's name."""
        return self.model.partition(":")[0]


class AgentChoice(Frozen):
    """Which tier an agent takes."""

    tier: str | None = None
    """An alias of `tiers`; left out, as `default` says."""
    raised_by: frozenset[Raise] | None = None
    """`size`: a large task takes the next tier. `attempt`: each failed attempt climbs one."""
    cache: bool = False
    """Whether the same request may be answered from the response cache."""


class Catalogue(Frozen):
    """The models that a service knows, by alias."""

    models: dict[Alias, Entry] = Field(min_length=1)
    tiers: list[str] = []
    """Aliases from the cheapest to the strongest; left out: fast, standard and strong, as far as they are
    there, else all in the order of the file."""
    agents: dict[str, AgentChoice] = {}
    """By the agent's name; `default` holds for those that are not named."""
    cache_hours: float = Field(default=24.0, gt=0, le=8760)
    """How long an answer of the response cache counts."""

    def ladder(self) -> Sequence[str]:
        """Return the tiers, the cheapest first."""
        usual = [alias for alias in ("fast", "standard", "strong") if alias in self.models]
        return self.tiers or usual or list(self.models)

    def start_of(self, agent: str) -> int:
        """Return the tier that an agent begins with, as its place in the ladder."""
        ladder = self.ladder()
        for name in (agent, "default"):
            choice = self.agents.get(name)
            if choice is not None and choice.tier is not None:
                return ladder.index(choice.tier)
        if agent in FIRST_TIER:
            return 0
        return len(ladder) - 1 if agent in LAST_TIER else len(ladder) // 2

    def raised_by(self, agent: str) -> frozenset[Raise]:
        """Return what raises an agent's tier."""
        for name in (agent, "default"):
            choice = self.agents.get(name)
            if choice is not None and choice.raised_by is not None:
                return choice.raised_by
        return frozenset({"size", "attempt"})

    def is_cached(self, agent: str) -> bool:
        """Tell whether an agent's answers may come from the response cache."""
        choice = self.agents.get(agent)
        return choice is not None and choice.cache

    def chain(self, alias: str) -> list[str]:
        """Return an alias and those behind it, each once, in the order in which they are asked."""
        found: list[str] = []
        waiting = [alias]
        while waiting:
            name = waiting.pop(0)
            if name not in found:
                found.append(name)
                waiting = [*self.models[name].fallbacks, *waiting]
        return found

    def used(self) -> set[str]:
        """Return the aliases that some tier leads to."""
        return {alias for tier in self.ladder() for alias in self.chain(tier)}


def read_catalogue(
    path: Path, overrides: Sequence[str] = (), *, environment: Collection[str] = ()
) -> Catalogue:
    """Return the catalogue of a file or folder. Keys are not looked for: see `access.require_keys`.

    Args:
        path: A YAML file, or a folder that one is composed from.
        overrides: What changes it, such as `cache_hours=1`.
        environment: Variables that it may read.

    Raises:
        SettingInvalid: it cannot be used; names file, line and path of everything that is wrong.
    """
    try:
        if not is_composed(path, overrides):
            return parse_catalogue(path.read_text("utf-8"))
        return compose_catalogue(path, overrides, environment=environment)[0]
    except (OSError, UnicodeDecodeError) as error:
        raise SettingInvalid(
            f"The model catalogue {path} cannot be read.", field=SETTING, hint="Name a YAML file or a folder."
        ) from error
    except DomainInvalid as error:
        wrong = "; ".join(f"{where}: {text}" for where, text in error.problems)
        raise SettingInvalid(f"{path}: {wrong}", field=SETTING, hint="See docs/models.md.") from error


def compose_catalogue(
    path: Path, overrides: Sequence[str] = (), *, environment: Collection[str] = ()
) -> tuple[Catalogue, Composed]:
    """Return a catalogue that is composed, and where each of its values comes from. Blocks.

    Raises:
        DomainInvalid: it cannot be used; names file, line and path, or the override.
    """
    plain = not is_composed(path, overrides)
    composed = read_plain(path) if plain else compose(path, overrides, environment=environment)
    try:
        catalogue = Catalogue.model_validate(composed.values)
    except ValidationError as error:
        raise DomainInvalid(composed.problems_of(error)) from error
    wrong = [composed.at(where, message) for where, message in _problems(catalogue)]
    if wrong:
        raise DomainInvalid(wrong)
    return catalogue, composed


def parse_catalogue(text: str) -> Catalogue:
    """Return the catalogue that a YAML text holds.

    Raises:
        DomainInvalid: naming line and path of everything that is wrong, no key among it.
    """
    value, lines = read_mapping(text, must=MUST)
    try:
        catalogue = Catalogue.model_validate(value)
    except ValidationError as error:
        raise DomainInvalid(problems_of(error, lines)) from error
    wrong = [at(lines, path, message) for path, message in _problems(catalogue)]
    if wrong:
        raise DomainInvalid(wrong)
    return catalogue


def _problems(catalogue: Catalogue) -> Iterator[tuple[str, str]]:
    known = catalogue.models
    if CHOICE in known:
        yield f"models.{CHOICE}", f"{CHOICE} stands for the catalogue's own choice; take another alias"
    for alias, entry in known.items():
        for n, name in enumerate(entry.fallbacks):
            if name not in known:
                yield f"models.{alias}.fallbacks[{n}]", _unknown(name, known)
        if entry.key_env and entry.key_file:
            yield f"models.{alias}.key_file", "give key_env or key_file, not both"
    for circle in _circles(known):
        yield f"models.{circle[0]}.fallbacks", f"fallbacks go in a circle: {' -> '.join(circle)}"
    yield from _tier_problems(catalogue)


def _tier_problems(catalogue: Catalogue) -> Iterator[tuple[str, str]]:
    for n, name in enumerate(catalogue.tiers):
        if name not in catalogue.models:
            yield f"tiers[{n}]", _unknown(name, catalogue.models)
        elif name in catalogue.tiers[:n]:
            yield f"tiers[{n}]", f"{name} is in it twice"
    ladder = catalogue.ladder()
    for agent, choice in catalogue.agents.items():
        if choice.tier is not None and choice.tier not in ladder:
            yield f"agents.{agent}.tier", f"{choice.tier!r} is no tier; they are {', '.join(ladder)}"


def _unknown(name: str, known: Mapping[str, Entry]) -> str:
    return f"there is no alias {name!r}; known are {', '.join(known)}"


def _circles(known: Mapping[str, Entry]) -> Iterator[list[str]]:
    """Give each circle of fallbacks once, its first alias repeated at its end."""
    done: set[str] = set()

    def walk(alias: str, trail: list[str]) -> Iterator[list[str]]:
        if alias in trail:
            yield [*trail[trail.index(alias) :], alias]
        elif alias not in done:
            for name in known[alias].fallbacks:
                if name in known:
                    yield from walk(name, [*trail, alias])
            done.add(alias)

    for alias in known:
        yield from walk(alias, [])
