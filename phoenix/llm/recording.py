"""Recordings: a run's model traffic in one readable file, and the backend that replays it.

A file of JSON Lines: a header, then one line a call. A call is found again by agent, task, turn and
digests of its prompt, tools and tool results; all come from the conversation, so a resumed process
finds the same answer. Of two lines with the same key the later one counts: a call repeated after a
crash. Two calls of one agent that are the same in all of these get the same answer.
"""

from __future__ import annotations

import asyncio
import difflib
import fcntl
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from langchain_core.messages import AIMessage, SystemMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call
from pydantic import ValidationError

from phoenix import __version__
from phoenix.domain.frozen import Frozen
from phoenix.errors import ModelUnknown, RecordingMismatch, RecordingMissing, SettingInvalid
from phoenix.llm.calls import OUTPUT_TOKENS, ModelAnswer, ModelRequest, OutputSchema, ToolLike
from phoenix.llm.failures import CallFailed
from phoenix.llm.normalise import normalise, prompt_digest, short_digest, tool_digests

HEAD_CHARS = 1500
BEGINNING = b'{"format":"phoenix-recording"'
DIFF_LINES = 14
MADE_BY = "Name a file that `phoenix new --record FILE` made."
RECORD_AGAIN = "Record the run again with `--record FILE`."


class Header(Frozen):
    """First line of a recording."""

    format: Literal["phoenix-recording"] = "phoenix-recording"
    version: Literal[1] = 1
    made_with: str = f"phoenix {__version__}"
    model: str = ""
    note: str = ""


class SeenResult(Frozen):
    """A tool result that a call saw, normalised; `head` is what a mismatch shows."""

    tool: str
    sha: str
    head: str


class RecordedCall(Frozen):
    """One line of a recording."""

    agent: str
    task: str
    turn: int
    system: str
    """Digest of the system messages."""
    prompt: str
    """Digest of what else was said."""
    tools: dict[str, str]
    results: list[SeenResult]
    content: Any
    tool_calls: list[dict[str, Any]]
    model: str
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal | None

    @property
    def exact_key(self) -> tuple[object, ...]:
        """What a repetition of the same call shares."""
        return (self.system, self.prompt, *_seen(self))


def _seen(call: RecordedCall) -> tuple[object, object]:
    return tuple(sorted(call.tools.items())), tuple((r.tool, r.sha) for r in call.results)


def describe(request: ModelRequest, answer: ModelAnswer, message: AIMessage) -> RecordedCall:
    """Return the line for a call and its answer."""
    said = request.identity
    tokens = message.usage_metadata
    return RecordedCall(
        agent=request.caller.agent,
        task=request.caller.task,
        turn=request.turn,
        system=prompt_digest([m for m in said if isinstance(m, SystemMessage)]),
        prompt=prompt_digest([m for m in said if not isinstance(m, SystemMessage)]),
        tools=tool_digests(request.tools),
        results=[_seen_result(m) for m in request.results],
        content=message.content,
        tool_calls=[{"name": c["name"], "args": c["args"], "id": c["id"]} for c in message.tool_calls],
        model=answer.model,
        input_tokens=tokens["input_tokens"] if tokens else 0,
        output_tokens=tokens["output_tokens"] if tokens else 0,
        cost_usd=answer.cost_usd,
    )


def _seen_result(message: ToolMessage) -> SeenResult:
    text = normalise(message.text)
    return SeenResult(tool=message.name or "", sha=short_digest(text), head=text[:HEAD_CHARS])


class Recorder:
    """Appends accepted answers to a recording; a line is on disk before its answer is used."""

    def __init__(self, path: Path, *, model: str, note: str = "") -> None:
        self.path = path
        self._lock = asyncio.Lock()
        try:
            self._begin(Header(model=model, note=note))
        except OSError as error:
            raise SettingInvalid(f"Cannot record to {path}: {error.strerror}.", field="record") from error

    def _begin(self, header: Header) -> None:
        """Write the header of a new file, or cut a line that a crash left unfinished off an old one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._alone() as file:
            old = self.path.read_bytes()
            if not old:
                file.write(header.model_dump_json().encode() + b"\n")
            elif not old.endswith(b"\n") and old.startswith(BEGINNING):
                os.truncate(self.path, old.rfind(b"\n") + 1)
        if old and not old.startswith(BEGINNING):
            hint = "Name a new file, or an earlier recording to add to."
            raise SettingInvalid(f"{self.path} is not a recording.", field="record", hint=hint)

    @contextmanager
    def _alone(self) -> Iterator[BinaryIO]:
        """Open the file to append, with no other recorder writing: each run of a project has its own."""
        with self.path.open("ab", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield cast("BinaryIO", file)

    async def write(
        self, request: ModelRequest, answer: ModelAnswer, message: AIMessage, *, once: bool = False
    ) -> None:
        """Append one call; with `once` only if its very line is not there yet, as before a crash."""
        line = describe(request, answer, message).model_dump_json() + "\n"
        async with self._lock:
            await asyncio.to_thread(self._append, line.encode(), once)

    def _append(self, line: bytes, once: bool) -> None:
        with self._alone() as file:
            if once and line in self.path.read_bytes():
                return
            file.write(line)
            os.fsync(file.fileno())


@dataclass
class Recording:
    """A recording's calls by agent, task and turn, in the order of recording."""

    path: Path
    header: Header
    calls: dict[tuple[str, str, int], dict[tuple[object, ...], RecordedCall]] = field(default_factory=dict)

    def add(self, call: RecordedCall) -> None:
        """Add a call; it replaces an earlier one with the same key."""
        self.calls.setdefault((call.agent, call.task, call.turn), {})[call.exact_key] = call


def read_recording(path: Path) -> Recording:
    """Read a recording; a last line that a crash cut off is left out.

    Raises:
        ModelUnknown: there is no such file, or it is not a recording.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelUnknown(f"Cannot read the recording {path}.", field="model", hint=MADE_BY) from error
    lines = text.split("\n")
    whole = lines[:-1]
    try:
        recording = Recording(path, Header.model_validate_json(whole[0] if whole else ""))
    except ValidationError as error:
        raise ModelUnknown(f"{path} is not a recording of Phoenix.", field="model", hint=MADE_BY) from error
    for number, line in enumerate(whole[1:], start=2):
        try:
            recording.add(RecordedCall.model_validate_json(line))
        except ValidationError as error:
            raise ModelUnknown(f"{path}: line {number} is not a recorded call.", field="model") from error
    return recording


class RecordedModel:
    """Answers from a recording: at once, at no cost, the same after a restart."""

    recorded = True
    output_tokens = OUTPUT_TOKENS
    output_option = "max_tokens"

    def __init__(self, recording: Recording) -> None:
        self.name = f"recorded:{recording.path}"
        self._recording = recording
        self._given: dict[int, str] = {}
        """Prompts that a call of another prompt was given to, by the call's identity."""

    def tool_options(self, tools: Sequence[ToolLike], **choices: Any) -> dict[str, Any]:
        return {}

    def schema_options(self, schema: OutputSchema) -> dict[str, Any] | None:
        return {}

    def most_usd(self, input_tokens: int, output_tokens: int) -> Decimal | None:
        return Decimal(0)

    async def answer(self, request: ModelRequest) -> ModelAnswer:
        now = describe(request, ModelAnswer(AIMessage(""), "", None), AIMessage(""))
        try:
            call, changed = self._find(now)
        except (RecordingMissing, RecordingMismatch) as error:
            # Not from it: the gateway raises it from this.
            raise CallFailed(error) from None
        where = {"agent": call.agent, "task": call.task, "turn": call.turn}
        message = AIMessage(
            content=call.content,
            tool_calls=[tool_call(name=c["name"], args=c["args"], id=c["id"]) for c in call.tool_calls],
            usage_metadata=UsageMetadata(
                input_tokens=call.input_tokens,
                output_tokens=call.output_tokens,
                total_tokens=call.input_tokens + call.output_tokens,
            ),
        )
        notes = [("recording_prompt_changed", where)] if changed else []
        return ModelAnswer(message, call.model, call.cost_usd, notes=notes)

    def _find(self, now: RecordedCall) -> tuple[RecordedCall, bool]:
        """Return the call that was recorded for this one, and whether its prompt was another."""
        known = self._recording.calls.get((now.agent, now.task, now.turn), {})
        if not known:
            raise RecordingMissing(
                f"The recording {self._recording.path.name} has no answer for {_who(now)}.", hint=RECORD_AGAIN
            )
        exact = known.get(now.exact_key)
        if exact is not None:
            return exact, False
        calls = list(known.values())
        same = [c for c in calls if c.prompt == now.prompt]
        pool = same or self._free(calls, now.prompt)
        fitting = [c for c in pool if _seen(c) == _seen(now)]
        if not fitting:
            raise RecordingMismatch(_difference(pool[0], now), hint=RECORD_AGAIN)
        chosen = fitting[0]
        self._given[id(chosen)] = now.prompt
        return chosen, True

    def _free(self, calls: list[RecordedCall], prompt: str) -> list[RecordedCall]:
        """Return calls not yet given to another changed prompt; all when none is left."""
        return [c for c in calls if self._given.get(id(c), prompt) == prompt] or calls


def _who(call: RecordedCall) -> str:
    return f"agent {call.agent}{f', task {call.task}' if call.task else ''}, turn {call.turn}"


def _difference(then: RecordedCall, now: RecordedCall) -> str:
    """Say what a call has that differs from the recorded one: tools first, then results."""
    if then.tools != now.tools:
        return f"The recording does not fit {_who(now)}: {'; '.join(_tool_changes(then.tools, now.tools))}."
    before = [r.tool for r in then.results]
    after = [r.tool for r in now.results]
    if before != after:
        return f"The recording does not fit {_who(now)}: it saw results of {before}, now of {after}."
    for old, new in zip(then.results, now.results, strict=True):
        if old.sha != new.sha:
            diff = list(_diff(old.head, new.head))
            shown = "\n".join(diff) or f"(beyond the first {HEAD_CHARS} characters)"
            return f"The recording does not fit {_who(now)}: {old.tool} now gives another result:\n{shown}\n"
    return f"The recording does not fit {_who(now)}."


def _tool_changes(then: dict[str, str], now: dict[str, str]) -> Iterable[str]:
    for name in sorted(then.keys() | now.keys()):
        if name not in now:
            yield f"tool {name} is gone"
        elif name not in then:
            yield f"tool {name} is new"
        elif then[name] != now[name]:
            yield f"tool {name} takes other parameters"


def _diff(then: str, now: str) -> Iterable[str]:
    lines = difflib.unified_diff(then.splitlines(), now.splitlines(), "recorded", "now", n=1, lineterm="")
    for number, line in enumerate(lines):
        if number == DIFF_LINES:
            yield "…"
            return
        yield line[:200]
