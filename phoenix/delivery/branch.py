"""Deliver as a git branch, in the project's repository and in the user's own where there is one."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from phoenix.delivery.report import lessons_markdown, report_json, report_markdown
from phoenix.domain.evidence import Delivery
from phoenix.domain.lessons import Lessons
from phoenix.ports import Effect, Outbox, Parcel, Workspace
from phoenix.telemetry.redaction import KNOWN

MAX_SLUG = 48
PUSH = "push"
"""The kind of effect that brings a branch to where the project's repository came from."""


def branch_name(title: str, key: str) -> str:
    """Return `phoenix/<slug>-<key>`: readable, and of this project alone."""
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:MAX_SLUG].strip("-")
    return f"phoenix/{slug or 'delivery'}-{key}"


class BranchOutlet:
    """Points a branch at the delivered commit and writes the evidence beside it.

    Args:
        workspace: The project's repository.
        reports: Folder for the evidence report, made when missing.
        key: Short text that tells this project's branch from others'.
        outbox: Pushes the branch.
        target: The user's own repository, which receives the branch as well, as it may be shown; None when
            nothing can be pushed to where the code came from.
    """

    def __init__(
        self, workspace: Workspace, reports: Path, *, key: str, outbox: Outbox, target: str | None = None
    ) -> None:
        self.workspace = workspace
        self.reports = reports
        self.key = key
        self.outbox = outbox
        self.target = target

    async def deliver(self, parcel: Parcel) -> Delivery:
        """Make the branch and the report. The same parcel gives the same delivery."""
        name = branch_name(parcel.title, self.key)
        commit = parcel.evidence.commit
        await self.workspace.branch(name, commit)
        repository = str(self.workspace.repository)
        if self.target is not None:
            payload = {"branch": name, "commit": commit}
            await self.outbox.perform(Effect(PUSH, f"{self.key}/{name}@{commit}", payload))
            repository = self.target
        report = self.reports / "evidence.md"
        self._write(report, report_markdown(parcel, branch=name))
        self._write(self.reports / "evidence.json", report_json(parcel, branch=name))
        return Delivery(
            evidence=parcel.evidence.digest(),
            branch=name,
            commit=commit,
            repository=repository,
            report=str(report),
        )

    async def annotate(self, lessons: Lessons) -> None:
        """Write the lessons beside the evidence, as Markdown and as JSON; none leave no file."""
        if not lessons.items:
            return
        self._write(self.reports / "lessons.md", lessons_markdown(lessons))
        self._write(self.reports / "lessons.json", lessons.model_dump_json(indent=2) + "\n")

    def _write(self, path: Path, text: str) -> None:
        """Put a file in place whole: whoever reads it meanwhile sees the old one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(path.suffix + ".new")
        draft.write_text(KNOWN.mask(text)[0], "utf-8")
        draft.replace(path)
