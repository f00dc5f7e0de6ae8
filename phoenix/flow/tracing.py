"""A console tracer: hooks that print what a flow does."""

from __future__ import annotations

import sys
from typing import TextIO

from phoenix.flow.hooks import (
    Hooks,
    ModelFinished,
    Place,
    RunFinished,
    RunStarted,
    StepFailed,
    StepFinished,
    StepStarted,
    ToolFinished,
)


def console_tracer(stream: TextIO | None = None) -> Hooks:
    """Return hooks that print one line for each event, to standard error when no stream is given."""

    def say(depth: int, text: str) -> None:
        print("  " * depth + text, file=stream or sys.stderr)

    def depth(place: Place | None) -> int:
        return len(place.path) if place else 1

    async def run_started(event: RunStarted) -> None:
        say(0, f"{'resumed' if event.resumed else 'started'} {event.pipeline}")

    async def run_finished(event: RunFinished) -> None:
        say(0, f"{event.status} {event.pipeline} after {event.seconds:.2f} s")

    async def step_started(event: StepStarted) -> None:
        attempt = f" (attempt {event.place.attempt})" if event.place.attempt > 1 else ""
        say(depth(event.place), f"> {'/'.join(event.place.path)}{attempt}")

    async def step_ended(event: StepFinished | StepFailed) -> None:
        path = "/".join(event.place.path)
        if isinstance(event, StepFinished):
            how = "from the cache" if event.cached else f"{event.seconds:.2f} s"
            say(depth(event.place), f"< {path} {how}")
        else:
            then = "will try again" if event.will_retry else "gives up"
            say(depth(event.place), f"! {path} {type(event.error).__name__}: {event.error}; {then}")

    async def tool_finished(event: ToolFinished) -> None:
        say(depth(event.place) + 1, f"tool {event.tool} {event.seconds:.2f} s")

    async def model_finished(event: ModelFinished) -> None:
        say(depth(event.place) + 1, f"model {event.model} {event.seconds:.2f} s")

    return Hooks(
        pre_run=(run_started,),
        post_run=(run_finished,),
        pre_step=(step_started,),
        post_step=(step_ended,),
        post_tool=(tool_finished,),
        post_model=(model_finished,),
    )
