"""Render prompts. Each file has a `system` and a `user` block of Jinja2."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import Any

import yaml
from jinja2 import FunctionLoader, StrictUndefined, Template
from jinja2.sandbox import SandboxedEnvironment
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage


def _source(name: str) -> str:
    return (resources.files("phoenix.agents") / "prompts" / f"{name}.md").read_text("utf-8")


@lru_cache(maxsize=1)
def _environment() -> SandboxedEnvironment:
    environment = SandboxedEnvironment(
        loader=FunctionLoader(_source),
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["fence"] = fence
    return environment


class _Readable(yaml.SafeDumper):
    """Writes text of several lines as a block, so that code and signatures stay as they are."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Readable.add_representer(str, _text)


def plain_yaml(data: Any) -> str:
    """Show data as YAML without folded lines."""
    return yaml.dump(data, Dumper=_Readable, sort_keys=False, allow_unicode=True, width=10_000)


def fence(text: str) -> str:
    """Put foreign text between fences longer than any run of backticks in it."""
    longest = max((len(run) for run in text.split("\n") if set(run.strip()) == {"`"}), default=0)
    bar = "`" * max(4, longest + 1)
    return f"{bar}\n{text.rstrip()}\n{bar}"


def _block(template: Template, name: str, values: dict[str, Any]) -> str:
    context = template.new_context(values)
    return "".join(template.blocks[name](context)).strip()


def render(name: str, **values: Any) -> list[BaseMessage]:
    """Return the system and the user message of a prompt.

    Raises:
        jinja2.UndefinedError: the prompt uses a value that is not given.
    """
    template = _environment().get_template(name)
    return [
        SystemMessage(_block(template, "system", values)),
        HumanMessage(_block(template, "user", values)),
    ]
