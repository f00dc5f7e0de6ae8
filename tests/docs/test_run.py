"""The documentation's commands, typed as they stand into a shell with a running service; each must succeed.

What a page can only name is put in: its project's id, the service's address and key.
Blocks with a note `not run` are
checked by `test_blocks.py` alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.conftest import Databases
from tests.docs.blocks import BLOCKS, Block, Command
from tests.docs.shop import Shop, lay_out, shop

IDS = re.compile(r"\b(?:3f2a|41c7|ID)\b")
WAITS = 3
"""What `phoenix` returns where a project waits for somebody."""


def is_typed(block: Block) -> bool:
    """Tell whether a block is run."""
    return block.language in {"console", "bash"} and block.note("not run") is None


TYPED = [block for block in BLOCKS if is_typed(block)]


@pytest.fixture(scope="module")
def served(
    tmp_path_factory: pytest.TempPathFactory, _databases: Databases
) -> Iterator[tuple[Shop, dict[str, str]]]:
    """A service with two projects: one that is delivered, and one that waits."""
    import asyncio

    name = asyncio.run(_databases.create_migrated())
    folder = tmp_path_factory.mktemp("docs")
    with shop(folder, _databases.url(name)) as open_shop:
        lay_out(open_shop.folder)
        yield open_shop, {}
    asyncio.run(_databases.drop(name))


def project_of(block: Block, served: tuple[Shop, dict[str, str]]) -> str:
    """Return the id of the project that a block speaks of; one that waits is made anew."""
    open_shop, known = served
    state = block.note("project") or "delivered"
    if state != "delivered":
        return open_shop.waiting(planned=state == "planned")
    if not known:
        known[state] = open_shop.delivered()
    return known[state]


def put_in(text: str, open_shop: Shop, project: str) -> str:
    """Return a command with what the page can only name."""
    for kind in ("approvals", "templates", "webhooks"):
        if f"/{kind}/ID" in text:
            found = open_shop.first(kind, project)
            text = text.replace(f"/{kind}/ID", f"/{kind}/{found['id']}")
            text = text.replace("sha256:...", found.get("request", {}).get("value_digest", ""))
    if re.search(r"phoenix memory \w+ ID", text):
        text = re.sub(r"\bID\b", str(open_shop.first("memory", project)["id"]), text)
    text = text.replace("phx_key_...", open_shop.key)
    text = re.sub(r"https?://(?:127\.0\.0\.1|localhost):8400", open_shop.url, text)
    return IDS.sub(project, text)


def is_as_shown(block: Block, command: Command, printed: str) -> bool:
    """Tell whether what a command printed is what the page shows, where it says that it is."""
    return block.note("exact") is None or not command.shown or printed.strip() == command.shown.strip()


@pytest.mark.slow
@pytest.mark.parametrize("page", sorted({block.page for block in TYPED}))
def test_the_commands_of_a_page_run(page: str, served: tuple[Shop, dict[str, str]]) -> None:
    """In order, as they stand."""
    open_shop = served[0]
    (open_shop.folder / ".exports").unlink(missing_ok=True)
    for block in [block for block in BLOCKS if block.page == page]:
        file = block.note("file")
        if file:
            (open_shop.folder / file).write_text(block.text)
        if not is_typed(block):
            continue
        project = project_of(block, served) if IDS.search(block.text) else ""
        for command in block.commands():
            text = put_in(command.text, open_shop, project)
            alone = "unset PHOENIX_SERVER PHOENIX_API_KEY\n" if block.note("alone") is not None else ""
            done = open_shop.type(alone + text)
            where = f"{page}:{block.line}: {command.text}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
            waits = done.returncode == WAITS and "phoenix" in text
            assert done.returncode == 0 or waits, f"{done.returncode} from {where}"
            assert '"type":"urn:phoenix:problem' not in done.stdout, where
            assert is_as_shown(block, command, done.stdout), where


def test_most_commands_are_run() -> None:
    """What is left out needs a cluster, a container engine, a key, or longer than a test may take."""
    left = [b for b in BLOCKS if b.language in {"console", "bash"} and not is_typed(b)]
    typed = sum(len(b.commands()) for b in TYPED)
    assert typed > sum(len(b.commands()) for b in left)
