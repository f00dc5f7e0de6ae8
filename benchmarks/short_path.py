"""What the short path costs beside a plain agent loop that does the same task: calls and tokens.

    python benchmarks/short_path.py                           the two runs recorded in data/short_path
    python benchmarks/short_path.py play REPOSITORY FOLDER    run both with the configured model, recorded
    python benchmarks/short_path.py FOLDER                    the runs recorded there

The task is a bug of humanize 4.9.0 that a later release mended; REPOSITORY is a git repository of its
source archive (`pip download humanize==4.9.0 --no-deps --no-binary humanize`). The recorded runs were
played by one person over an OpenAI-compatible server, with the same moves in both. Tokens are that
server's estimate of messages, four characters each, tool descriptions left out.

The short path adds two calls, triage and frame, which carry no history; and it tells its agent more in every
turn (rules, spec, the repository's conventions, its symbols). The bar: at most two calls more and at most
1.25 times the tokens. Exit code 0 only when both hold.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from phoenix.bootstrap import open_system
from phoenix.domain.project import Request
from phoenix.domain.run import FINISHED
from phoenix.engine.launch import Launch
from phoenix.llm.recording import read_recording
from phoenix.settings import load_settings
from phoenix.shop import find_model

sys.path.insert(0, str(Path(__file__).parent))

from plain_loop import loop

DATA = Path(__file__).parent / "data" / "short_path"
TASK = """humanize.naturalsize rounds up to the next unit without changing it: naturalsize(999_999) returns
"1000.0 kB" and should return "1.0 MB"; naturalsize(1024**2 - 1, binary=True) returns "1024.0 KiB" and should
return "1.0 MiB"; naturalsize(1024**2 - 1, gnu=True) returns "1024.0K" and should return "1.0M". \
The same goes for
every unit and every format. Sizes that do not round up must look as they do now."""
MORE_CALLS = 2
MOST_TOKENS = 1.25


@dataclass(frozen=True)
class Cost:
    """The model calls of one recorded run; tokens as the server counted them."""

    calls: Counter[str]
    tokens_in: int
    tokens_out: int

    @property
    def total(self) -> int:
        return self.tokens_in + self.tokens_out


def cost_of(path: Path) -> Cost:
    """Return what a recorded run cost."""
    calls = [c for group in read_recording(path).calls.values() for c in group.values()]
    return Cost(
        Counter(c.agent for c in calls),
        sum(c.input_tokens for c in calls),
        sum(c.output_tokens for c in calls),
    )


async def play(launch: Launch, record: Path) -> None:
    """Run a project to its end, and record it."""
    settings = load_settings()
    flows = {"plain_loop": loop}
    async with open_system(settings, record=record, flows=flows) as system, system.engine.worker():
        project = await system.engine.launch(launch)
        overview = await system.engine.overview(project.id)
        while overview.run.status not in FINISHED:
            await asyncio.sleep(0.5)
            overview = await system.engine.overview(project.id)
        print(record.stem, overview.run.status, overview.run.error or overview.run.output)


async def play_both(where: str, folder: Path) -> None:
    """Play the loop, then the short path."""
    model = await find_model(load_settings())
    body = Request(text=TASK, repository=where).model_dump(mode="json")
    plain = Launch(requirement=TASK, title="plain loop", model=model, flow="plain_loop", input=body)
    await play(plain, folder / "loop.jsonl")
    # Triage is asked, not overruled: its call belongs to the price.
    await play(
        Launch(requirement=TASK, model=model, repository=where, approvals="auto"), folder / "short.jsonl"
    )


def compare(folder: Path) -> int:
    """Print both costs and their ratio; return the exit code."""
    short, plain = cost_of(folder / "short.jsonl"), cost_of(folder / "loop.jsonl")
    for name, cost in (("short path", short), ("plain loop", plain)):
        each = ", ".join(f"{count} {agent}" for agent, count in cost.calls.items())
        print(
            f"{name}: {cost.calls.total()} calls ({each}), {cost.tokens_in} tokens in, {cost.tokens_out} out"
        )
    more = short.calls.total() - plain.calls.total()
    ratio = short.total / plain.total
    print(f"calls: {more} more (at most {MORE_CALLS})")
    print(f"tokens: ratio {ratio:.3f} (at most {MOST_TOKENS})")
    return 0 if more <= MORE_CALLS and ratio <= MOST_TOKENS else 1


def main() -> int:
    match sys.argv[1:]:
        case ["play", repository, folder]:
            asyncio.run(play_both(str(Path(repository).resolve()), Path(folder)))
            return compare(Path(folder))
        case [folder]:
            return compare(Path(folder))
        case _:
            return compare(DATA)


if __name__ == "__main__":
    sys.exit(main())
