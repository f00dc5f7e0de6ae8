"""`phoenix new`: a requirement becomes a project, followed to its end."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from phoenix.errors import BudgetInvalid, RepositoryUnreadable, RequirementInvalid, SettingInvalid

if TYPE_CHECKING:
    from phoenix.engine.launch import Launch

GATES = ("questions", "spec", "plan", "delivery")
MAX_INPUT_BYTES = 4_000_000
"""More is not read: no requirement is near it."""


@dataclass(frozen=True)
class NewOptions:
    """What the command line said."""

    requirement: str | None = None
    file: str = ""
    repository: str = ""
    model: str = ""
    approvals: str = "ask"
    path: str = "auto"
    budget_usd: str = ""
    record: str = ""
    as_json: bool = False


async def new(options: NewOptions) -> int:
    """Start a project, follow it, and return the exit code."""
    launch, record = launch_of(options), record_path(options.record)
    from phoenix.bootstrap import open_system
    from phoenix.cli.screen import open_screen
    from phoenix.cli.session import end, open_settings, usable_model, work_on

    settings = open_settings(model=options.model)
    launch = launch.model_copy(update={"model": await usable_model(settings)})
    screen = open_screen(as_json=options.as_json)
    async with open_system(settings, record=record) as system:
        project = await system.engine.launch(launch)
        view, overview = await work_on(system, project, screen)
    return end(view, overview, as_json=options.as_json)


def launch_of(options: NewOptions) -> Launch:
    """Return what is to be started, with everything checked that can be checked beforehand.

    Raises:
        RequirementInvalid, BudgetInvalid, SettingInvalid, RepositoryUnreadable: what is wrong with it.
    """
    from phoenix.engine.launch import Launch

    return Launch(
        requirement=read_requirement(options.requirement, options.file),
        model="",
        repository=repository_of(options.repository),
        approvals=approvals_of(options.approvals, GATES),
        path=path_of(options.path),
        budget_usd=budget_of(options.budget_usd),
    ).checked()


def read_requirement(words: str | None, file: str) -> str:
    """Return the requirement from an argument, a file, or standard input.

    Raises:
        RequirementInvalid: there is none, or two, or it cannot be read.
    """
    hint = 'Write phoenix new "REQUIREMENT", or phoenix new -f FILE.'
    if (words is None) == (not file):
        said = "Both a REQUIREMENT and a FILE are given." if file else "There is no requirement."
        raise RequirementInvalid(said, hint=hint)
    from phoenix.domain.cleaning import clean_text

    # An argument that is no UTF-8 comes with surrogates, which are no text.
    return clean_text(words) if words is not None else read_text(file)


def read_text(file: str) -> str:
    """Return a file's text, or that of standard input for `-`.

    Raises:
        RequirementInvalid: it cannot be read, is too large, or is not UTF-8.
    """
    try:
        if file == "-":
            content = sys.stdin.buffer.read(MAX_INPUT_BYTES + 1)
        else:
            with Path(file).expanduser().open("rb") as opened:
                content = opened.read(MAX_INPUT_BYTES + 1)
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise RequirementInvalid(f"{file} cannot be read: {error.strerror}.", field="--file") from error
    except UnicodeDecodeError as error:
        raise RequirementInvalid(f"{file} is not text in UTF-8.", field="--file") from error
    if len(content) > MAX_INPUT_BYTES:
        raise RequirementInvalid(f"{file} is over {MAX_INPUT_BYTES // 1_000_000} MB.", field="--file")
    return text


def approvals_of(text: str, gates: tuple[str, ...] = ()) -> str:
    """Return an approval policy; where gates are known, no others may be named.

    Raises:
        SettingInvalid: it is none.
    """
    found = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in found if gates and name not in (*gates, "ask", "auto")]
    mixed = len(found) > 1 and bool({"ask", "auto"} & set(found))
    if found and not unknown and not mixed:
        return ",".join(found)
    known = ", ".join(gates) or "names of the flow's gates"
    what = f"there is no gate {unknown[0]!r}." if unknown else f"{text!r} is no policy."
    raise SettingInvalid(
        what, field="--approve", hint=f"Give ask, auto, or a comma list of gates to ask: {known}."
    )


def path_of(text: str) -> Literal["auto", "short", "full"]:
    """Return the way a project takes.

    Raises:
        SettingInvalid: there is no such way.
    """
    from phoenix.domain.project import Path as ProjectPath

    for known in get_args(ProjectPath):
        if text == known:
            found: Literal["auto", "short", "full"] = known
            return found
    raise SettingInvalid(f"there is no path {text!r}.", field="--path", hint="Give auto, short or full.")


def budget_of(text: str) -> Decimal | None:
    """Return a budget in USD; None when there is none.

    Raises:
        BudgetInvalid: it is not a positive amount.
    """
    if not text:
        return None
    hint = "Give an amount above 0, such as 5 or 0.50."
    try:
        amount = Decimal(text.strip().removeprefix("$"))
    except InvalidOperation as error:
        raise BudgetInvalid(f"{text!r} is not an amount of USD.", field="--budget-usd", hint=hint) from error
    if not amount.is_finite() or amount <= 0:
        raise BudgetInvalid(f"{text} is not a positive amount of USD.", field="--budget-usd", hint=hint)
    return amount


def repository_of(text: str) -> str | None:
    """Return where the code is, a local path made absolute; whether an address answers is seen later.

    Raises:
        RepositoryUnreadable: a local path is no repository.
    """
    if not text:
        return None
    is_address = "://" in text or ("@" in text.partition(":")[0] and ":" in text)
    if is_address:
        return text
    path = Path(text).expanduser().absolute()
    hint = "Give a folder with a git repository, a git bundle, or an https:// or ssh:// address."
    if not path.exists():
        raise RepositoryUnreadable(f"{path} does not exist.", field="--repo", hint=hint)
    is_repository = (path / ".git").exists() or ((path / "HEAD").is_file() and (path / "objects").is_dir())
    if path.is_dir() and not is_repository:
        raise RepositoryUnreadable(f"{path} is not a git repository.", field="--repo", hint=hint)
    return str(path)


def record_path(text: str) -> Path | None:
    """Return the file that a run is recorded to.

    Raises:
        SettingInvalid: its folder is missing or cannot be written.
    """
    import os

    if not text:
        return None
    path = Path(text).expanduser().absolute()
    other = path.exists() and not path.is_file()  # a folder, or a device that has no end
    if other or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise SettingInvalid(
            f"{path} cannot be written.", field="--record", hint="Name a file in a folder of yours."
        )
    return path
