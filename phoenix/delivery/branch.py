"""Deliver as a git branch, in the project's repository and in the user's own where there is one."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path

from phoenix.delivery.report import report_json, report_markdown
from phoenix.domain.evidence import Delivery
from phoenix.ports import Parcel, Workspace

MAX_SLUG = 48


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
        target: The user's own repository on this machine, which receives the branch as well.
    """

    def __init__(self, workspace: Workspace, reports: Path, *, key: str, target: str | None = None) -> None:
        self.workspace = workspace
        self.reports = reports
        self.key = key
        self.target = target

    async def deliver(self, parcel: Parcel) -> Delivery:
        """Make the branch and the report. The same parcel gives the same delivery."""
        name = branch_name(parcel.title, self.key)
        commit = parcel.evidence.commit
        await self.workspace.branch(name, commit)
        repository = str(self.workspace.repository)
        if self.target is not None:
            await self.workspace.publish(self.target, name)
            repository = self.target
        self.reports.mkdir(parents=True, exist_ok=True)
        report = self.reports / "evidence.md"
        for path, text in (
            (report, report_markdown(parcel, branch=name)),
            (self.reports / "evidence.json", report_json(parcel, branch=name)),
        ):
            draft = path.with_suffix(path.suffix + ".new")
            draft.write_text(text, "utf-8")
            draft.replace(path)
        return Delivery(
            evidence=parcel.evidence.digest(),
            branch=name,
            commit=commit,
            repository=repository,
            report=str(report),
        )
