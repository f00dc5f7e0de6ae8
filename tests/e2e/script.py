"""A small product, and the lines of a model that builds it: what end-to-end tests vary."""

from __future__ import annotations

import json
from typing import Any

from phoenix.llm.scripted import Line, Say

MODEL = "scripted:test"
SEALED = "tests/acceptance/test_acceptance_calc.py"


def criterion(number: int, text: str) -> dict[str, Any]:
    """Return a criterion as a model writes it."""
    return {"id": f"C{number}", "text": text, "already_holds": False}


def spec() -> str:
    """Return a spec of two requirements."""
    return json.dumps(
        {
            "title": "calc",
            "summary": "A calculator.",
            "requirements": [
                {"id": "R1", "text": "It adds.", "criteria": [criterion(1, "add(2, 2) returns 4")]},
                {"id": "R2", "text": "It multiplies.", "criteria": [criterion(2, "mul(2, 3) returns 6")]},
            ],
            "non_goals": ["division"],
            "assumptions": [],
        }
    )


def task(
    number: int, criteria: list[str], files: list[str], after: list[str] | None = None
) -> dict[str, Any]:
    """Return a task as a model writes it."""
    return {
        "id": f"T{number}",
        "title": f"Task {number}",
        "description": f"Write {', '.join(files)}.",
        "criteria": criteria,
        "files": files,
        "depends_on": after or [],
        "size": "S",
        "check": "",
    }


def plan(*tasks: dict[str, Any]) -> str:
    """Return a plan over two shared functions in one file."""
    functions = [("add", "sum"), ("mul", "product")]
    return json.dumps(
        {
            "approach": "One module.",
            "interfaces": [
                {"file": "calc.py", "signature": f"def {n}(a: int, b: int) -> int", "promise": p}
                for n, p in functions
            ],
            "tasks": list(tasks),
        }
    )


STUBS = (
    "def add(a: int, b: int) -> int:\n    raise NotImplementedError('add')\n\n\n"
    "def mul(a: int, b: int) -> int:\n    raise NotImplementedError('mul')\n"
)
CONTRACT = json.dumps({"changes": [{"path": "calc.py", "content": STUBS, "edits": []}]})
TESTS = (
    "from calc import add, mul\n\n\ndef test_add():\n    assert add(2, 2) == 4\n\n\n"
    "def test_mul():\n    assert mul(2, 3) == 6\n"
)
SEAL = json.dumps(
    {
        "files": [{"path": SEALED, "content": TESTS}],
        "tests": [
            {"id": f"{SEALED}::test_add", "criterion": "C1"},
            {"id": f"{SEALED}::test_mul", "criterion": "C2"},
        ],
        "already_holding": [],
    }
)
FINE = json.dumps({"summary": "Fine.", "findings": []})
LARGE = json.dumps({"size": "large", "reason": "It is new."})
SMALL = json.dumps({"size": "small", "reason": "It is one line."})
NO_QUESTIONS = json.dumps({"questions": []})


def edit(path: str, old: str, new: str) -> Say:
    """Return a call that edits a file."""
    return Say(calls=[("edit_file", {"path": path, "old": old, "new": new})])


def submit(*tests: tuple[str, str]) -> Say:
    """Return a call that hands in, with (criterion, test) pairs."""
    declared = [{"criterion": c, "tests": [t]} for c, t in tests]
    return Say(calls=[("submit", {"summary": "It is done.", "tests": declared})])


ADD = edit("calc.py", "raise NotImplementedError('add')", "return a + b")
MUL = edit("calc.py", "raise NotImplementedError('mul')", "return a * b")


def script(**lines: list[Line]) -> dict[str, list[Line]]:
    """Return a script in which two tasks build the product; `lines` replace agents' (`__` for `/`)."""
    whole: dict[str, list[Line]] = {
        "triage": [LARGE],
        "question": [NO_QUESTIONS],
        "specify": [spec()],
        "decompose": [plan(task(1, ["C1"], ["calc.py"]), task(2, ["C2"], ["calc.py"]))],
        "contract": [CONTRACT],
        "seal": [SEAL],
        "code/T1/r1": [ADD, submit()],
        "code/T2/r1": [MUL, submit()],
        "review": [FINE] * 10,
    }
    return whole | {name.replace("__", "/"): text for name, text in lines.items()}
