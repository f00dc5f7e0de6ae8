"""A run whose files another process holds waits for them; it does not fail."""

from __future__ import annotations

from pathlib import Path

from phoenix.errors import WorkspaceBusy
from phoenix.flow import step
from tests.integration.engine.engine_toy import Words, first, open_system


@step
async def held(words: Words) -> Words:
    """Find the files held twice."""
    words.mark("held")
    if (Path(words.folder) / "marks").read_text().count("held") < 3:
        raise WorkspaceBusy
    return words


async def test_a_run_whose_files_are_held_is_handed_back_and_tried_again(
    migrated_database_url: str, tmp_path: Path
) -> None:
    """Nobody has to resume it, and no finished step is done again."""
    flows = {"held": first >> held}
    async with open_system(migrated_database_url, tmp_path, flows) as system:
        project = await system.launch("held")
        async with system.engine.worker():
            run = await system.until(project.id, "success", "failed")
        assert run.status == "success"
        assert system.marks() == ["first", "held", "held", "held"]
        assert (await system.kinds(project.id)).count("run_handed_back") == 2
