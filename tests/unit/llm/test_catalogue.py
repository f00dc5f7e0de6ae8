"""The model catalogue: what it says, and how its mistakes are told."""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path

import pytest
from langchain_core.messages.ai import UsageMetadata

from phoenix.errors import DomainInvalid, ModelUnknown, NoModel, SettingInvalid
from phoenix.llm.access import open_alias, require_keys
from phoenix.llm.catalogue import Price, parse_catalogue, read_catalogue
from phoenix.llm.prices import Prices
from phoenix.settings import Settings
from tests.unit.llm.test_providers import usage

WHOLE = """
models:
  fast:
    model: openai:small
    limits: {requests_per_minute: 60, tokens_per_minute: 90000, concurrency: 4, output_tokens: 4000}
    price: {input: 0.25, output: 2, cache_read: 0.025}
    context_tokens: 128000
    fallbacks: [standard]
  standard:
    model: anthropic:middle
    capabilities: [tools, vision]
    fallbacks: [spare, strong]
  strong: {model: openai:large, key_env: TEAM_KEY}
  spare: {model: ollama:local}
agents:
  default: {raised_by: [size]}
  triage: {tier: standard, cache: true, raised_by: []}
"""


def test_a_catalogue_is_read() -> None:
    """Aliases, limits, price, ladder, agents and the chain behind an alias."""
    catalogue = parse_catalogue(WHOLE)
    fast = catalogue.models["fast"]
    assert (fast.limits.concurrency, fast.limits.output_tokens, fast.context_tokens) == (4, 4000, 128_000)
    assert fast.price is not None
    assert fast.price.cache_read == Decimal("0.025")
    assert catalogue.ladder() == ["fast", "standard", "strong"]
    assert catalogue.chain("fast") == ["fast", "standard", "spare", "strong"]
    assert [catalogue.start_of(a) for a in ("triage", "summarise", "code", "specify")] == [1, 0, 1, 2]
    assert catalogue.raised_by("triage") == frozenset()
    assert catalogue.raised_by("code") == {"size"}
    assert (catalogue.is_cached("triage"), catalogue.is_cached("code")) == (True, False)


def test_without_the_usual_names_the_file_is_the_ladder() -> None:
    """One alias is every tier; two are lowest and highest, in the order of the file."""
    one = parse_catalogue("models: {mine: {model: 'openai:m'}}")
    assert {one.start_of(agent) for agent in ("triage", "code", "specify")} == {0}
    two = parse_catalogue("models: {small: {model: 'openai:s'}, big: {model: 'openai:b'}}")
    assert [two.start_of(a) for a in ("triage", "code", "specify")] == [0, 1, 1]


M = "models:\n  fast: {model: 'openai:m'}\n"


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        ("- a", "file", "must hold `models:`"),
        ("models: {}", "line 1, models", "at least 1"),
        ("models:\n  fast: {model: gpt}", "line 2, models.fast.model", "match pattern"),
        ("models:\n  fast: {model: 'recorded:x'}", "line 2, models.fast.model", "--model"),
        (M + "    speed: 3\n", "line 3", "expected"),
        ("models:\n  fast:\n    model: openai:m\n    speed: 3", "line 4, models.fast.speed", "not permitted"),
        ("models:\n  auto: {model: 'openai:m'}", "line 2, models.auto", "another alias"),
        (
            "models:\n  fast:\n    model: openai:m\n    fallbacks:\n      - slow",
            "line 5, models.fast.fallbacks[0]",
            "no alias 'slow'; known are fast",
        ),
        (M + "tiers: [fast, stronk]", "line 3, tiers[1]", "no alias 'stronk'"),
        (M + "tiers: [fast, fast]", "line 3, tiers[1]", "twice"),
        (M + "agents:\n  code: {tier: strong}", "line 4, agents.code.tier", "no tier; they are fast"),
        (
            M + "agents:\n  code: {raised_by: [mood]}",
            "line 4, agents.code.raised_by[0]",
            "'size' or 'attempt'",
        ),
        (
            "models:\n  fast: {model: 'openai:m', base_url: 'ftp://x'}",
            "line 2, models.fast.base_url",
            "pattern",
        ),
        (
            "models:\n  fast: {model: 'openai:m', price: {input: -1, output: 1}}",
            "price.input",
            "greater than",
        ),
        ("models:\n  fast: {model: 'openai:m', price: {input: nan, output: 1}}", "price.input", "finite"),
        (
            "models:\n  fast: {model: 'openai:m', key_env: A, key_file: b}",
            "line 2, models.fast.key_file",
            "not both",
        ),
        (M + "  fast: {model: 'openai:n'}", "line 3, models.fast", "twice"),
    ],
)
def test_a_mistake_is_told_with_line_and_path(text: str, where: str, said: str) -> None:
    """Whatever is wrong is named where it stands."""
    with pytest.raises(DomainInvalid) as caught:
        parse_catalogue(text)
    assert any(where in place and said in message for place, message in caught.value.problems), str(
        caught.value
    )


def test_a_circle_of_fallbacks_is_told_once() -> None:
    """The way round is spelt out."""
    text = "models:\n" + "".join(
        f"  {a}: {{model: 'openai:m', fallbacks: [{b}]}}\n" for a, b in ("ab", "bc", "ca", "da")
    )
    with pytest.raises(DomainInvalid, match="a -> b -> c -> a") as caught:
        parse_catalogue(text)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("key", ["sk-proj-0123456789abcdef", "abcdef0123456789", "AIzaSyD0123456789"])
def test_a_key_in_the_file_is_refused_and_not_repeated(key: str, tmp_path: Path) -> None:
    """The message says how to give it instead, and leaves it out."""
    path = tmp_path / "models.yaml"
    path.write_text(f"models:\n  fast: {{model: 'openai:m', key_env: {key}}}\n")
    with pytest.raises(
        SettingInvalid, match=r"models\.yaml: line 2, models\.fast\.key_env: .*never write"
    ) as caught:
        read_catalogue(path)
    assert key not in str(caught.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    """The setting is named."""
    with pytest.raises(SettingInvalid, match=r"nothing\.yaml cannot be read"):
        read_catalogue(tmp_path / "nothing.yaml")


def test_a_missing_key_is_named_at_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only aliases that a tier leads to need theirs; a file, a variable and a setting all count."""
    monkeypatch.chdir(tmp_path)
    settings = Settings(home=tmp_path)
    catalogue = parse_catalogue(
        "models:\n  fast: {model: 'openai:m', fallbacks: [spare]}\n"
        f"  spare: {{model: 'anthropic:c', key_file: {tmp_path}/key}}\n"
        "  other: {model: 'openai:o', key_env: NOBODY}\ntiers: [fast]"
    )
    with pytest.raises(SettingInvalid, match=r"alias fast \(openai:m\) needs OPENAI_API_KEY"):
        require_keys(catalogue, settings)
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    settings = Settings(home=tmp_path)
    with pytest.raises(SettingInvalid, match=r"alias spare \(anthropic:c\) needs .*/key"):
        require_keys(catalogue, settings)
    (tmp_path / "key").write_text("secret\n")
    require_keys(catalogue, settings)
    with pytest.raises(NoModel, match="alias other needs NOBODY"):
        open_alias("other", catalogue.models["other"], settings)


def test_a_package_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hint is the command that installs it."""
    monkeypatch.setenv("GOOGLE_API_KEY", "k")
    monkeypatch.setitem(sys.modules, "langchain_google_genai", None)
    entry = parse_catalogue("models: {g: {model: 'google_genai:gemini-x'}}").models["g"]
    with pytest.raises(ModelUnknown) as caught:
        open_alias("g", entry, Settings(home=tmp_path))
    assert "phoenix-engine[google]" in caught.value.hint


def cost(price: Price, used: UsageMetadata) -> Decimal | None:
    """Return what a call costs at a price of the catalogue."""
    return Prices({"openai:m": price.as_price}).cost("openai:m", used)


def test_a_price_of_the_catalogue_is_exact() -> None:
    """Cached tokens at their own price, the rest at the full one."""
    price = Price(input=Decimal("0.25"), output=Decimal(2), cache_read=Decimal("0.025"))
    assert cost(price, usage(1_000_000, 500_000, cached=400_000)) == Decimal("1.16")
    flat = Price(input=Decimal(1), output=Decimal(1))
    assert cost(flat, usage(1_000_000, 0, cached=1_000_000)) == Decimal(1)
