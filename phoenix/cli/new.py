"""`phoenix new`: a requirement becomes a project, followed to its end."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from phoenix.errors import BudgetInvalid, RepositoryUnreadable, RequirementInvalid, SettingInvalid

if TYPE_CHECKING:
    from phoenix.cli.connection import Connection
    from phoenix.domain.run import Project
    from phoenix.engine.launch import Launch
    from phoenix.settings import Settings

GATES = ("questions", "spec", "plan", "merge", "delivery", "budget")
LEVELS = ("manual", "ask", "guarded", "auto")
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
    budget_tokens: int | None = None
    budget_calls: int | None = None
    budget_minutes: int | None = None
    rules: str = ""
    record: str = ""
    overrides: tuple[str, ...] = ()
    """What changes the model catalogue and the options of workflows."""
    detach: bool = False
    server: str = ""
    as_json: bool = False


async def new(options: NewOptions) -> int:
    """Start a project, follow it, and return the exit code."""
    launch, record = launch_of(options), record_path(options.record)
    from phoenix.cli.connection import open_connection
    from phoenix.cli.screen import open_screen
    from phoenix.cli.session import end, open_settings, usable_model, work_on

    settings = open_settings(model=options.model, server=options.server).overridden(options.overrides)
    check_overrides(settings, options)
    check_record(settings, record, detach=options.detach)
    model = await usable_model(settings, named=bool(options.model))
    launch = launch.model_copy(update={"model": model})
    if options.detach:
        async with open_connection(settings, execution=False) as connection:
            project = await connection.client.launch(launch)
            return await detached(connection, project, as_json=options.as_json)
    screen = open_screen(as_json=options.as_json)
    async with open_connection(settings, record=record) as connection:
        project = await connection.client.launch(launch)
        view, overview = await work_on(connection, project, screen)
    return end(view, overview, as_json=options.as_json)


def check_overrides(settings: Settings, options: NewOptions) -> None:
    """Check that whoever works on the project is told what changes.

    Raises:
        SettingInvalid: the work is not done in this process.
    """
    if options.overrides and (options.detach or settings.server):
        raise SettingInvalid(
            "Who works on this project is another process, which has its own settings.",
            field="--set",
            hint="Give --set to `phoenix up` or `phoenix worker`.",
        )


async def detached(connection: Connection, project: Project, *, as_json: bool = False) -> int:
    """Print the id of a project that was started, and leave the work to workers."""
    import typer

    from phoenix.cli.output import print_json, say, summary_of
    from phoenix.cli.work import hint_at_workers

    await hint_at_workers(connection)
    say(f"hint: Follow it with: phoenix watch {str(project.id)[:8]}")
    if as_json:
        print_json(summary_of(str(project.id), "pending"))
    else:
        typer.echo(str(project.id))
    return 0


def check_record(settings: Settings, record: Path | None, *, detach: bool = False) -> None:
    """Check that whoever works can record.

    Raises:
        SettingInvalid: the work is not done in this process.
    """
    if record is not None and (detach or settings.server):
        what = "detached project" if detach else "service's project"
        raise SettingInvalid(
            f"A {what} is not recorded here.",
            field="--record",
            hint="Leave out --detach." if detach else "Leave out the service, or --record.",
        )


def launch_of(options: NewOptions) -> Launch:
    """Return what is to be started, with everything checked that can be checked beforehand.

    Raises:
        RequirementInvalid, BudgetInvalid, SettingInvalid, RepositoryUnreadable: what is wrong with it.
    """
    from phoenix.cli.budgets import limits_of
    from phoenix.cli.policy import read_rules
    from phoenix.engine.launch import Launch

    return Launch(
        requirement=read_requirement(options.requirement, options.file),
        model="",
        repository=repository_of(options.repository),
        approvals=approvals_of(options.approvals, GATES),
        path=path_of(options.path),
        budget_usd=budget_of(options.budget_usd),
        limits=limits_of(
            tokens=options.budget_tokens, calls=options.budget_calls, minutes=options.budget_minutes
        ),
        rules=read_rules(options.rules) if options.rules else None,
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


def read_text(file: str, *, field: str = "--file") -> str:
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
        raise RequirementInvalid(
            f"{file} cannot be read: {error.strerror}.",
            field=field,
            hint="Name a text file, or - for stdin.",
        ) from error
    except UnicodeDecodeError as error:
        raise RequirementInvalid(f"{file} is not text in UTF-8.", field=field) from error
    if len(content) > MAX_INPUT_BYTES:
        raise RequirementInvalid(f"{file} is over {MAX_INPUT_BYTES // 1_000_000} MB.", field=field)
    return text


def approvals_of(text: str, gates: tuple[str, ...] = ()) -> str:
    """Return a level or a list of gates; where gates are known, no others may be named.

    Raises:
        SettingInvalid: it is none.
    """
    found = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in found if gates and name not in (*gates, *LEVELS)]
    mixed = len(found) > 1 and bool(set(LEVELS) & set(found))
    if found and not unknown and not mixed:
        return ",".join(found)
    known = ", ".join(gates) or "names of the flow's gates"
    what = f"there is no gate {unknown[0]!r}." if unknown else f"{text!r} is no policy."
    raise SettingInvalid(
        what,
        field="--approve",
        hint=f"Give {', '.join(LEVELS)}, or a comma list of gates to ask: {known}.",
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
