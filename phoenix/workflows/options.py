"""What may be set about the workflows that come with Phoenix, read strictly from YAML."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from phoenix.configuration.composing import Composed, compose, is_composed, read_plain
from phoenix.domain.frozen import Frozen
from phoenix.errors import DomainInvalid, SettingInvalid

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

SETTING = "PHOENIX_WORKFLOWS"


class DevelopOptions(Frozen):
    """Of the workflow `develop`."""

    verify_rounds: int = Field(default=3, ge=1, le=20)
    """How often what verification finds is mended before a person decides."""


class TaskOptions(Frozen):
    """Of the workflow `task`, which works on one task of a plan."""

    rounds: int = Field(default=3, ge=1, le=20)
    """How often a task is written, checked and reviewed before it is given up."""


class WorkflowOptions(Frozen):
    """Of all workflows."""

    develop: DevelopOptions = DevelopOptions()
    task: TaskOptions = TaskOptions()


def compose_workflows(
    path: Path | None, overrides: Sequence[str] = (), *, environment: Collection[str] = ()
) -> tuple[WorkflowOptions, Composed | None]:
    """Return the options of a file or folder, and where each comes from; the defaults where there is none.

    Raises:
        SettingInvalid: they cannot be used; names file, line and path of everything that is wrong.
    """
    if path is None:
        if overrides:
            raise SettingInvalid(
                f"There is nothing that {overrides[0]} could change.",
                field=SETTING,
                hint="Set it to a YAML file.",
            )
        return WorkflowOptions(), None
    try:
        if is_composed(path, overrides):
            found = compose(path, overrides, environment=environment)
        else:
            found = read_plain(path)
        try:
            return WorkflowOptions.model_validate(found.values), found
        except ValidationError as error:
            raise DomainInvalid(found.problems_of(error)) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SettingInvalid(f"{path} cannot be read.", field=SETTING) from error
    except DomainInvalid as error:
        wrong = "; ".join(f"{where}: {text}" for where, text in error.problems)
        raise SettingInvalid(wrong, field=SETTING, hint="See docs/composition.md.") from error
