"""Loading of users' flows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from phoenix.errors import FlowFileInvalid, FlowInvalid
from phoenix.flow import Pipeline
from phoenix.workflows.loading import load_flow

GOOD = """
from __future__ import annotations

from enum import Enum

from pydantic import BaseModel

from phoenix.flow import step


class Colour(Enum):
    RED = "red"


class Note(BaseModel):
    text: str


@step
async def shout(note: Note) -> Note:
    return Note(text=note.text.upper())


@step
async def count(note: Note) -> int:
    return len(note.text)


flow = shout >> count
broken = count >> shout
number = 1
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "flows.py"
    path.write_text(GOOD)
    return path


async def test_a_flow_is_loaded_with_the_types_its_checkpoints_hold(file: Path) -> None:
    """The user's models and enums, and nothing of Phoenix or of libraries."""
    loaded = load_flow(f"{file}:flow")
    assert isinstance(loaded.flow, Pipeline)
    assert {kind.__name__ for kind in loaded.types} == {"Colour", "Note"}
    note = next(kind for kind in loaded.types if kind.__name__ == "Note")
    assert await loaded.flow.run(note(text="abc")) == 3


def test_a_flow_is_found_again_under_its_name(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path becomes absolute, and types keep their module's name."""
    monkeypatch.chdir(file.parent)
    first = load_flow("flows.py:flow")
    assert first.name == f"{file}:flow"
    again = load_flow(first.name)
    assert [kind.__module__ for kind in again.types] == [kind.__module__ for kind in first.types]


def test_a_flow_is_loaded_from_a_module() -> None:
    """Installed packages are named with dots."""
    loaded = load_flow("phoenix.workflows.develop:develop")
    assert (loaded.name, loaded.types) == ("phoenix.workflows.develop:develop", ())


def test_a_file_imports_its_neighbours(tmp_path: Path) -> None:
    """As it does when Python runs it."""
    (tmp_path / "phoenix_test_neighbour.py").write_text(GOOD)
    (tmp_path / "flows.py").write_text("from phoenix_test_neighbour import flow\n")
    assert load_flow(f"{tmp_path}/flows.py:flow").flow.name == "shout >> count"


@pytest.mark.parametrize("target", ["flows", "flows.py", ":flow", "flows.py:"])
def test_a_target_names_a_place_and_a_flow(target: str) -> None:
    """The hint shows how it is written."""
    with pytest.raises(FlowFileInvalid, match="names no flow") as raised:
        load_flow(target)
    assert "FILE:NAME" in raised.value.hint


def test_a_missing_name_is_answered_with_those_there_are(file: Path) -> None:
    """Only flows are offered."""
    with pytest.raises(FlowFileInvalid, match="has no 'nothing'") as raised:
        load_flow(f"{file}:nothing")
    assert raised.value.hint == "Flows in it: shout, count, flow, broken."


def test_what_is_no_flow_is_refused(file: Path) -> None:
    """Its type is named."""
    with pytest.raises(FlowFileInvalid, match="is a int, not a flow"):
        load_flow(f"{file}:number")


def test_a_flow_that_does_not_fit_together_is_refused(file: Path) -> None:
    """Before anything of it runs."""
    with pytest.raises(FlowInvalid, match="count"):
        load_flow(f"{file}:broken")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def (:\n", "line 1"),
        ("x = 1\ny = 1 / 0\n", "line 2 failed: ZeroDivisionError"),
        ("import no_such_package_at_all\n", "line 1 failed: ModuleNotFoundError"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        (
            "from phoenix.flow import step\n@step\ndef f(x: int) -> int: return x\n",
            "is not an async function",
        ),
        ("\x00", "null bytes"),
    ],
)
def test_a_broken_file_names_its_line(tmp_path: Path, source: str, said: str) -> None:
    """Whatever it does when loaded, one message comes back."""
    file = tmp_path / "broken.py"
    file.write_text(source)
    with pytest.raises(FlowFileInvalid, match=said):
        load_flow(f"{file}:flow")
    assert not [name for name in sys.modules if name.startswith("phoenix_flow_broken")]


def test_a_missing_module_is_told_from_a_broken_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is a typo of the caller, the other an error inside."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "phoenix_test_broken.py").write_text("import no_such_package_at_all\n")
    with pytest.raises(FlowFileInvalid, match="There is no module 'phoenix_test_missing'"):
        load_flow("phoenix_test_missing:flow")
    with pytest.raises(FlowFileInvalid, match="failed: ModuleNotFoundError"):
        load_flow("phoenix_test_broken:flow")
