"""`phoenix memory` on a database of this machine."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

import pytest
from click.testing import Result
from typer.testing import CliRunner

from phoenix.cli.app import app

ITEMS = [
    {"kind": "snippet", "text": "Read CSV files with utf-8-sig.", "language": "python", "origin": "own"},
    {
        "kind": "debugging",
        "text": "Symptom: sums differ. Cause: floats. Ask ada@engine.uk.",
        "tags": ["money"],
    },
]


def phoenix(*arguments: str, given: str = "") -> Result:
    return CliRunner().invoke(app, ["memory", *arguments], input=given)


def test_from_import_to_forgetting(
    migrated_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bring, search, pin, correct, export, rebuild after harm, report, forget: each says what it did."""
    monkeypatch.setenv("DATABASE_URL", migrated_database_url)
    monkeypatch.setenv("PHOENIX_HOME", str(tmp_path / "home"))
    file = tmp_path / "items.jsonl"
    file.write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    assert phoenix("import", str(file)).stdout == "2 stored, 0 known already, 1 masked\n"
    assert phoenix("import", str(file)).stdout == "0 stored, 2 known already, 1 masked\n"

    found = json.loads(phoenix("search", "reading a CSV file", "--json").stdout)
    assert found["missed"] == ""
    best = found["hits"][0]
    assert best["item"]["text"] == ITEMS[0]["text"]
    assert "by meaning" in best["why"]
    name = best["item"]["id"]
    assert phoenix("search", "sums", "--kind", "debugging").stdout.count("debugging") == 1
    assert "pinned" in phoenix("pin", name).stdout
    corrected = phoenix("correct", name, "-", given="Read CSV files with newline=''.").stdout
    assert "Read CSV files with newline=''." in corrected

    listed = phoenix("list", "--limit", "1")
    assert listed.stdout.splitlines()[1] == "    Symptom: sums differ. Cause: floats. Ask [personal]."
    assert "there are more" in listed.stderr
    assert len(phoenix("list", "--json").stdout.splitlines()) == 2
    exported = [json.loads(line) for line in phoenix("export").stdout.splitlines()]
    assert [e["text"] for e in exported] == [
        "Symptom: sums differ. Cause: floats. Ask [personal].",
        "Read CSV files with newline=''.",
    ]
    assert [e["origin"] for e in exported] == ["foreign", "own"]

    for path in (tmp_path / "home" / "vectors").rglob("*"):
        if path.is_file() and path.name != "lock":
            path.write_bytes(path.read_bytes()[:10])
    damaged = phoenix("search", "CSV files")
    assert "words alone were searched" in damaged.stderr
    assert name in damaged.stdout
    assert phoenix("rebuild").stdout == "2 vectors made with hashed-1\n"
    assert "by meaning" in phoenix("search", "CSV files").stdout

    assert "Too few projects" in phoenix("report").stdout
    assert phoenix("forget", name, "--yes").stdout == f"forgotten: {name}\n"
    gone = phoenix("show", name)
    assert (gone.exit_code, gone.stdout) == (2, "")
    assert "There is no memory" in gone.stderr


@pytest.mark.parametrize(
    ("arguments", "given", "said"),
    [
        (("show", "abc"), "", "Give the whole id, as `phoenix memory list`"),
        (
            ("search", "x", "--kind", "story"),
            "",
            "'story' is none of pattern, snippet, debugging, requirement",
        ),
        (("correct", "abc", " "), "", "phoenix memory forget abc"),
        (("import", "/nowhere/x"), "", "FILE: /nowhere/x cannot be read"),
        (("import", "-"), '{"kind": "snippet"\n', "Line 1 is no JSON"),
        (("import", "-"), '{"kind": "snippet", "text": "x"}\n[]\n', "Line 2 is no JSON object"),
        (("import", "-"), "\n", "There is nothing in it"),
    ],
)
def test_what_is_wrong_is_named(arguments: tuple[str, ...], given: str, said: str) -> None:
    """Before anything is started."""
    result = phoenix(*arguments, given=given)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_nobody_who_does_not_agree_forgets() -> None:
    """Without a terminal that needs --yes."""
    result = phoenix("forget", str(uuid4()))
    assert result.exit_code != 0
    assert "--yes" in result.stderr
