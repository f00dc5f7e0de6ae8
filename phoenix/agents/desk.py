"""The coding agent's desk: the tools it works with, over one worktree."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from langchain_core.tools import BaseTool, StructuredTool
from pydantic import BaseModel, Field

from phoenix.agents.changes import clean_path, replace_once
from phoenix.agents.checking import BAD, new_failures
from phoenix.agents.results import MAX_CHARS, cap, suite_text
from phoenix.domain.evidence import CriterionTests
from phoenix.domain.execution import ExecuteResult
from phoenix.domain.work import ToolOutput
from phoenix.errors import DomainInvalid, NotFound, PathRefused
from phoenix.ports import Ports, Sandbox, Worktree
from phoenix.telemetry.redaction import mask

WRITERS = frozenset({"bash", "edit_file", "run_checks", "submit"})
MAX_BASH_SECONDS = 300
MAX_LINES = 400
MAX_REFUSALS = 2
"""An agent that submits once more is taken at its word; the check of its task decides."""
IMPORTS = {"PYTHONPATH": ".:src"}
"""The project's own packages can be imported in every command, as in its tests."""


class BashArgs(BaseModel):
    """Arguments of bash."""

    command: str = Field(description="Shell command, run at the repository's root.")
    timeout_seconds: int = Field(default=120, ge=1, le=MAX_BASH_SECONDS)


class ReadArgs(BaseModel):
    """Arguments of read_file."""

    path: str = Field(description="Path relative to the repository, or output:<id> of a capped output.")
    start: int = Field(default=1, ge=1, description="First line.")
    end: int | None = Field(default=None, description=f"Last line; at most {MAX_LINES} lines are returned.")


class EditArgs(BaseModel):
    """Arguments of edit_file."""

    path: str = Field(description="Path relative to the repository.")
    old: str = Field(description="Text to replace, occurring exactly once; empty to create a file.")
    new: str = Field(description="The text that takes its place, or the new file's whole content.")
    overwrite: bool = Field(default=False, description="With an empty `old`: replace an existing file.")


class SearchArgs(BaseModel):
    """Arguments of search."""

    pattern: str = Field(description="Extended regular expression.")
    path: str = Field(default=".", description="Folder or file to search.")
    glob: str = Field(default="", description="Only files whose name matches, such as *.py.")


class NoArgs(BaseModel):
    """No arguments."""


class SubmitArgs(BaseModel):
    """Arguments of submit."""

    summary: str = Field(description="What was done, in two or three sentences.")
    tests: list[CriterionTests] = Field(
        default=[], description="For each criterion, the pytest ids of your tests that show it."
    )
    blocked: str = Field(
        default="",
        description="Only when you cannot finish: what stands in the way, and what would remove it.",
    )


@dataclass(frozen=True)
class Checked:
    """What a run of the checks found; `tests` are the ids that ran, without parameters."""

    green: bool
    text: str
    tests: frozenset[str]


@dataclass
class Desk:
    """Everything the tools of one agent share.

    `base` is the commit that failures are compared with: what failed there may fail on. `check` is
    the task's own shell command; empty runs the repository's tests only. `environment` is the folder of
    the installed dependencies on this machine. `refused` counts the
    submissions that were refused in this conversation, and `accepted` tells whether the last was not.
    `commit` is what the worktree stands at, and `found` what the checks said of a commit.
    """

    ports: Ports
    tree: Worktree
    sandbox: Sandbox
    sealed_folder: str
    base: str
    check: str = ""
    environment: str = ""
    refused: int = 0
    accepted: bool = False
    commit: str = ""
    found: tuple[str, Checked] | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def tools(self) -> list[BaseTool]:
        """Return the tools, with the descriptions that the model reads."""
        table: list[tuple[Callable[..., Awaitable[str]], type[BaseModel], str]] = [
            (self.bash, BashArgs, "Run a shell command in the sandbox."),
            (self.read_file, ReadArgs, "Read a file with line numbers."),
            (
                self.edit_file,
                EditArgs,
                "Change a file by exact replacement, or create one. Read a file before you change it.",
            ),
            (self.search, SearchArgs, "Search file contents by regular expression."),
            (self.run_checks, NoArgs, "Run the task's check and the repository's tests."),
            (self.submit, SubmitArgs, "Hand in the finished task. Only when the checks are green."),
        ]
        return [
            StructuredTool.from_function(
                coroutine=method,
                name=method.__name__,
                description=text,
                args_schema=args,
            )
            for method, args, text in table
        ]

    async def stand_at(self, commit: str) -> None:
        """Have the worktree stand at a commit, as it was when that was made."""
        async with self.lock:
            if await self.tree.current() != commit:
                await self.tree.restore(commit)

    async def bash(self, command: str, timeout_seconds: int = 120) -> str:
        """Run a shell command."""
        result = await self.sandbox.execute(
            command, timeout_seconds=min(timeout_seconds, MAX_BASH_SECONDS), variables=IMPORTS
        )
        return await self._shown(self._described(result))

    async def read_file(self, path: str, start: int = 1, end: int | None = None) -> str:
        """Read lines of a file, or of a tool output that was capped."""
        if path.startswith("output:"):
            text = await self._output(path.removeprefix("output:"))
        else:
            clean = clean_path(path)
            data = (await self.sandbox.download([clean])).get(clean)
            if data is None:
                return f"There is no file {clean}."
            if b"\0" in data[:8000]:
                return f"{clean} is a binary file of {len(data)} bytes."
            text = data.decode("utf-8", "replace")
        lines = text.splitlines()
        last = min(end or len(lines), start + MAX_LINES - 1, len(lines))
        body = "\n".join(f"{n:5d}  {line}" for n, line in enumerate(lines[start - 1 : last], start))
        more = f"\n[lines {start}-{last} of {len(lines)}]" if last < len(lines) or start > 1 else ""
        return cap(body, MAX_CHARS * 3) + more if lines else "[empty file]"

    async def edit_file(self, path: str, old: str, new: str, overwrite: bool = False) -> str:  # noqa: PLR0911 - each return is one answer to the model
        """Replace text that occurs once, or create a file."""
        clean = clean_path(path)
        if clean.startswith(f"{self.sealed_folder}/"):
            return f"Refused: {self.sealed_folder}/ belongs to the acceptance tests."
        data = (await self.sandbox.download([clean])).get(clean)
        if not old:
            if data is not None and not overwrite:
                return f"{clean} exists. Give `old` to change it, or overwrite=true to replace it."
            await self.sandbox.upload({clean: new.encode("utf-8", "replace")})
            return f"{'Replaced' if data is not None else 'Created'} {clean}."
        if data is None:
            return f"There is no file {clean}. Leave `old` empty to create it."
        try:
            text = replace_once(data.decode("utf-8"), old, new, clean)
        except UnicodeDecodeError:
            return f"{clean} is not UTF-8 text; change it with bash."
        except DomainInvalid as error:
            return f"Not changed: {error}"
        await self.sandbox.upload({clean: text.encode("utf-8", "replace")})
        return f"Changed {clean}."

    async def search(self, pattern: str, path: str = ".", glob: str = "") -> str:
        """Search with grep in the sandbox; sorted, so that the same files give the same answer."""
        where = "." if path in ("", ".", "./") else clean_path(path)
        only = f"--include={shlex.quote(glob)} " if glob else ""
        command = (
            f"LC_ALL=C grep -rnIE --exclude-dir=.git {only}-e {shlex.quote(pattern)} {shlex.quote(where)}"
            " | LC_ALL=C sort -t: -k1,1 -k2,2n | cut -c1-300 | head -n 200"
        )
        result = await self.sandbox.execute(command, timeout_seconds=30)
        if result.stderr.strip():
            return cap(result.stderr, 1000)
        return await self._shown(self._homed(result.stdout)) or "Nothing found."

    async def run_checks(self) -> str:
        """Run the task's check and the tests."""
        return await self._shown((await self.checked()).text)

    async def submit(self, summary: str, tests: list[CriterionTests] | None = None, blocked: str = "") -> str:
        """Hand in, unless checks are red or a named test does not exist; insisting hands in all the same."""
        if blocked.strip():
            self.accepted = True
            return "Handed over to a person."
        found = await self.checked()
        unknown = [i for t in tests or [] for i in t.tests if i.partition("[")[0] not in found.tests]
        self.accepted = self.refused >= MAX_REFUSALS or (found.green and not unknown)
        if self.accepted:
            return "Submitted."
        why = "" if found.green else f"the checks are red.\n{found.text}"
        if unknown:
            known = "\n".join(sorted(found.tests))
            why = f"{why}\nthere is no test {', '.join(unknown)}. These ran:\n{known}".strip()
        return await self._shown(f"Not accepted: {why}")

    async def checked(self) -> Checked:
        """Return what the checks find on the present commit; they run once for each."""
        if self.found is None or self.found[0] != self.commit or not self.commit:
            self.found = (self.commit, await self._check())
        return self.found[1]

    async def _check(self) -> Checked:
        """Run the check command and the tests."""
        parts: list[str] = []
        green = True
        if self.check:
            result = await self.sandbox.execute(
                self.check, timeout_seconds=MAX_BASH_SECONDS, variables=IMPORTS
            )
            green = result.ok
            parts.append(f"$ {self.check}\n{self._described(result)}")
        suite = await self.ports.harness.run(self.tree.path)
        bad = [t for t in suite.tests if t.outcome in BAD]
        new = await new_failures(self.ports, suite, self.base, name=self.tree.name)
        parts.append(f"Tests: {suite_text(suite)}")
        if len(new) < len(bad):
            old = [t.id for t in bad if t not in new]
            parts.append(f"Of these, {', '.join(old)} failed before your change as well and may stay so.")
        ran = suite.tests or suite.exit_code in (0, 5)
        tests = frozenset(t.id.partition("[")[0] for t in suite.tests)
        return Checked(green and not new and bool(ran), "\n\n".join(parts), tests)

    def _described(self, result: ExecuteResult) -> str:
        how = f"killed: {result.killed}" if result.exit_code is None else f"exit code {result.exit_code}"
        text = "\n".join(part.rstrip() for part in (result.stdout, result.stderr) if part.strip())
        return f"{self._homed(text)}\n[{how}]".lstrip("\n")

    def _homed(self, text: str) -> str:
        """Show workspace and environment under one name, wherever they are on this machine."""
        if self.environment:
            text = text.replace(self.environment, "/environment")
        root = self.sandbox.root.rstrip("/")
        return text if root == "/workspace" else text.replace(root, "/workspace")

    async def _shown(self, text: str) -> str:
        # Before it is capped: half a secret is not known any more.
        text = mask(text)
        if len(text) <= MAX_CHARS:
            return text
        digest = await self.ports.artifacts.put(ToolOutput(text=text[:2_000_000]))
        short = digest.removeprefix("sha256:")
        return f"{cap(text)}\n[the whole output: read_file output:{short}]"

    async def _output(self, name: str) -> str:
        try:
            return (await self.ports.artifacts.get(f"sha256:{name}", ToolOutput)).text
        except NotFound as error:
            raise PathRefused(f"there is no output {name[:12]}.") from error
