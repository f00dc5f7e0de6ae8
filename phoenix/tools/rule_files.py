"""Read rule sets from YAML; what is wrong is named by line and field."""

from __future__ import annotations

from importlib import resources

from pydantic import ValidationError

from phoenix.domain.permissions import RuleLayer, RuleSet
from phoenix.domain.yaml_lines import problems_of, read_mapping
from phoenix.errors import DomainInvalid

HINT = "see docs/permissions.md"
MUST = "it must hold `rules:` with a list"


def parse_rules(text: str) -> RuleSet:
    """Return the rule set that a YAML file holds.

    Raises:
        DomainInvalid: naming the line and the field of everything that is wrong.
    """
    value, lines = read_mapping(text, must=MUST)
    if "rules" not in value:
        raise DomainInvalid([("file", MUST)])
    try:
        return RuleSet.model_validate(value)
    except ValidationError as error:
        raise DomainInvalid(problems_of(error, lines)) from error


def default_rules() -> RuleSet:
    """Return the rules of a service that has set none: the tools that stay in sandbox and worktree."""
    text = (resources.files("phoenix.tools") / "default_rules.yaml").read_text("utf-8")
    return parse_rules(text)


def layers_of(
    service: RuleSet, organisation: RuleSet | None = None, project: RuleSet | None = None
) -> list[RuleLayer]:
    """Return the rule sets that speak of a project's calls."""
    found = [RuleLayer(name="service", rules=service)]
    if organisation is not None:
        found.append(RuleLayer(name="organisation", rules=organisation))
    if project is not None:
        found.append(RuleLayer(name="project", rules=project))
    return found
