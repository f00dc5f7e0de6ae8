"""What an agent should know of the code that exists: layout, conventions, the symbols that matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from phoenix.agents.conventions import DATA, find_conventions
from phoenix.agents.repository_map import repository_map
from phoenix.ports import Ports


@dataclass(frozen=True)
class Grounding:
    """Texts for prompts; all empty for a repository without files. `files` are all its paths."""

    layout: str = ""
    map: str = ""
    guidance: str = ""
    files: tuple[str, ...] = ()


def is_test(path: str) -> bool:
    """Tell whether a file holds tests, by its name and its folders."""
    parts = PurePosixPath(path).parts
    return parts[-1].startswith(("test_", "conftest")) or bool({"test", "tests", "testing"} & {*parts[:-1]})


async def ground(
    ports: Ports, commit: str, *, focus: Sequence[str] = (), map_tokens: int = 2000
) -> Grounding:
    """Describe a commit; `focus` are texts whose words rank the symbols."""
    contents = await ports.workspace.contents(commit)
    if not contents:
        return Grounding()
    texts = {path: data.decode("utf-8", "replace") for path, data in contents.items()}
    conventions = find_conventions(texts)
    return Grounding(
        layout=conventions.layout,
        map=await repository_map(
            {p: text for p, text in texts.items() if not is_test(p) and PurePosixPath(p).suffix not in DATA},
            token_budget=map_tokens,
            focus=focus,
        ),
        guidance=conventions.guidance,
        files=tuple(sorted(texts)),
    )
