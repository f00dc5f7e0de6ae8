"""Writes the corpus of broken JSON answers: what models did to answers of Phoenix's agents, by kind.

    python benchmarks/broken_json.py        writes tests/golden/broken_json.jsonl

Each line has a kind, the text as a model sent it, and the value that was meant; the value is null where
the text does not say it (an answer that was cut, two different answers) and so must not be mended. Every
kind is a template over the answers below.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).parents[1] / "tests" / "golden" / "broken_json.jsonl"

Value = dict[str, Any]

ANSWERS: list[Value] = [
    {
        "path": "full",
        "size": "L",
        "reason": "Three parts: a ledger, a settlement and an export; it needs a plan.",
    },
    {
        "questions": [
            {
                "id": "Q1",
                "text": "Is the payer part of the split?",
                "default": "Yes, unless --for leaves them out.",
            },
            {"id": "Q2", "text": "Which currency?", "default": "One, named by the file."},
        ]
    },
    {
        "title": "tab: who owes whom",
        "summary": "`python -m tab` keeps expenses in one JSON file.\nIt prints balances and payments.",
        "requirements": [
            {
                "id": "R1",
                "text": "Record an expense",
                "criteria": [
                    {
                        "id": "C1",
                        "text": '`tab add 12.50 ann` prints "recorded: 12.50".',
                        "already_holds": False,
                    },
                    {"id": "C2", "text": "An amount of 0 or less exits with code 2.", "already_holds": False},
                ],
            }
        ],
        "non_goals": ["Currencies", "A server"],
        "assumptions": [],
    },
    {
        "approach": "model.py holds the rules; settle.py computes; cli.py prints.",
        "interfaces": [
            {
                "file": "tab/settle.py",
                "signature": "def balances(items: list[Expense]) -> dict[str, int]",
                "promise": "",
            }
        ],
        "tasks": [
            {
                "id": "T1",
                "title": "Model",
                "description": "Write tab/model.py.",
                "depends_on": [],
                "size": "S",
            },
            {
                "id": "T2",
                "title": "Settle",
                "description": "Write tab/settle.py.",
                "depends_on": ["T1"],
                "size": "L",
            },
        ],
    },
    {"summary": "Nothing blocks; the edge cases hold.", "findings": []},
    {
        "summary": "A carriage return breaks the CSV on Python 3.11.",
        "findings": [
            {
                "file": "tab/render.py",
                "text": "The writer quotes \\n but not \\r; use QUOTE_ALL.",
                "blocking": True,
            },
            {"file": "", "text": 'The README says "three commands" and there are four.', "blocking": False},
        ],
    },
    {
        "path": "tab/money.py",
        "content": '"""Money."""\n\n\ndef cents(text: str) -> int:\n'
        '    whole, _, part = text.partition(".")\n'
        '    return int(whole) * 100 + int((part + "00")[:2])\n',
    },
    {"path": "src/app.js", "edits": [{"old": "const a = {b: 1};", "new": "const a = {b: [1, 2]};"}]},
    {"command": "grep -rn 'def main' src | head -5 && python -m pytest -q tests", "timeout_seconds": 120},
    {
        "summary": "Dates are parsed with the given format.",
        "tests": [
            {"criterion": "C3", "tests": ["tests/test_dates.py::test_iso", "tests/test_dates.py::test_bad"]}
        ],
        "blocked": "",
    },
    {
        "lessons": [
            {
                "kind": "debugging",
                "text": 'naturalsize(999_999) gave "1000.0 kB": round before choosing the unit.',
                "tags": ["rounding", "units"],
                "tasks": ["T1"],
                "criteria": ["C1", "C2"],
            }
        ]
    },
    {
        "estimate": {"hours": 2.5, "low": 1, "high": 8, "risk": None},
        "sure": True,
        "notes": ["naïve café", "日本語"],
    },
]


def compact(value: Value) -> str:
    return json.dumps(value, ensure_ascii=False)


def pretty(value: Value) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


def outside(text: str, pattern: str, put: str, *, count: int = 0) -> str:
    """Replace a pattern in what is outside of strings."""
    parts = re.split(r'("(?:[^"\\]|\\.)*")', text)
    left = count or len(text)
    for n in range(0, len(parts), 2):
        parts[n], done = re.subn(pattern, put, parts[n], count=left)
        left -= done
        if left <= 0:
            break
    return "".join(parts)


def keys_of(text: str, form: str) -> str:
    """Write the keys in another form, such as `\\1` for bare ones."""
    return re.sub(r'"(\w+)"(?=: )', form, text)


def python_form(value: Value) -> str:
    return repr(value)


def single_quoted(value: Value) -> str:
    """Write JSON with single quotes, apostrophes escaped as a careful model does."""

    def swap(match: re.Match[str]) -> str:
        inner = json.loads(match[0]).replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
        return f"'{inner}'"

    return re.sub(r'"(?:[^"\\]|\\.)*"', swap, compact(value))


def comments(value: Value) -> str:
    lines = pretty(value).split("\n")
    return "\n".join(
        f"{line}  // {n}" if n and line.endswith((",", "[")) else line for n, line in enumerate(lines)
    )


def block_comments(value: Value) -> str:
    return outside(pretty(value), r"\{\n", "{ /* as asked */\n", count=2)


def hash_comments(value: Value) -> str:
    return outside(pretty(value), r",\n", ",\n# next\n", count=2)


def curly_quotes(value: Value) -> str:
    return re.sub(r'"((?:[^"\\]|\\.)*)"', "\u201c\\1\u201d", compact(value))


def raw_breaks(value: Value) -> str:
    return re.sub(r"(?<!\\)\\n", "\n", pretty(value))


def raw_quotes(value: Value) -> str:
    return pretty(value).replace('\\"', '"')


def doubled(value: Value) -> str:
    return outside(outside(compact(value), r"\{", "{{"), r"\}", "}}")


def bad_escapes(value: Value) -> str:
    return re.sub(r'(": "|\[")(?=\w)', r"\1\\(", compact(value), count=1)


def said(before: str, after: str = "") -> Callable[[Value], str]:
    return lambda value: f"{before}{pretty(value)}{after}"


THOUGHT = '<think>\nThe schema wants an object. Perhaps {"path": "short"}? No, it is larger.\n</think>\n\n'

KINDS: dict[str, Callable[[Value], str]] = {
    "fence": said("```json\n", "\n```"),
    "plain_fence": said("```\n", "\n```"),
    "open_fence": said("```json\n"),
    "prose": said("Here is the JSON you asked for:\n\n", "\n\nLet me know if anything should change."),
    "prose_and_fence": said(
        "I looked at the repository first.\n\n```json\n", "\n```\n\nThis covers {all} points."
    ),
    "braces_in_prose": said("For {project} with the set {1, 2}:\n"),
    "tags": said("<answer>\n", "\n</answer>"),
    "label": said("json\n"),
    "assignment": said("result = ", ";"),
    "thinking": said(THOUGHT),
    "thinking_and_fence": said(THOUGHT + "```json\n", "\n```"),
    "byte_order_mark": said("\ufeff"),
    "trailing_comma": lambda value: compact(value)[:-1] + ",}",
    "trailing_commas": lambda value: outside(pretty(value), r"(?<=[\s\]}])?\n(\s*)([\]}])", r",\n\1\2"),
    "python": python_form,
    "single_quotes": single_quoted,
    "bare_keys": lambda value: keys_of(compact(value), r"\1"),
    "single_quoted_keys": lambda value: keys_of(compact(value), r"'\1'"),
    "curly_quotes": curly_quotes,
    "comments": comments,
    "block_comments": block_comments,
    "hash_comments": hash_comments,
    "missing_brace": lambda value: compact(value)[:-1],
    "extra_brace": lambda value: compact(value) + "}",
    "missing_first_brace": lambda value: compact(value)[1:],
    "missing_comma": lambda value: outside(pretty(value), r",\n", "\n", count=1),
    "missing_commas": lambda value: outside(pretty(value), r",\n", "\n"),
    "raw_breaks": raw_breaks,
    "raw_tabs": lambda value: re.sub(r"(?<=[a-z]) (?=[a-z])", "\t", compact(value)),
    "raw_quotes": raw_quotes,
    "doubled_braces": doubled,
    "in_a_list": lambda value: f"[{compact(value)}]",
    "in_a_string": lambda value: json.dumps(compact(value), ensure_ascii=False),
    "escaped": lambda value: json.dumps(compact(value), ensure_ascii=False)[1:-1],
    "said_twice": lambda value: f"{compact(value)}\n\n```json\n{pretty(value)}\n```",
    "bad_escapes": bad_escapes,
    "python_literals": lambda value: outside(
        outside(outside(compact(value), "true", "True"), "false", "False"), "null", "None"
    ),
    "fence_and_comma": lambda value: f"```json\n{pretty(value)[:-2]},\n}}\n```",
    "prose_and_python": lambda value: f"The answer is {python_form(value)}",
    "comment_and_bare_keys": lambda value: "// the answer\n" + keys_of(pretty(value), r"\1"),
    "cut_after_a_value": lambda value: pretty(value).rstrip("\n }]").rstrip(),
    "not_a_number": lambda value: compact(value)[:-1] + ', "score": NaN}',
}

MEANT: dict[str, Callable[[Value], Value]] = {
    "not_a_number": lambda value: {**value, "score": None},
    "raw_tabs": lambda value: json.loads(KINDS["raw_tabs"](value), strict=False),
    "bad_escapes": lambda value: json.loads(bad_escapes(value).replace("\\(", "\\\\(", 1)),
}
"""What was meant, where the template adds something."""


def cut_in_text(value: Value) -> str:
    text = compact(value)
    last = [m for m in re.finditer(r'"(?:[^"\\]|\\.)*"', text) if len(m[0]) > 8 and text[m.end()] != ":"][-1]
    return text[: last.end() - 4]


def cut_before_a_value(value: Value) -> str:
    return compact(value)[: compact(value).rindex('": ') + 3]


def two_answers(value: Value) -> str:
    other = dict(value)
    other.pop(next(iter(other)))
    return f"{compact(value)}\n\nOr, shorter:\n\n{compact(other | {'draft': True})}"


def left_out(value: Value) -> str:
    return compact(value)[:-1] + ', "more": [...]}'


def twice_the_key(value: Value) -> str:
    key = next(iter(value))
    return compact(value)[:-1] + f', "{key}": "other"}}'


UNCLEAR: dict[str, Callable[[Value], str]] = {
    "cut_in_text": cut_in_text,
    "cut_before_a_value": cut_before_a_value,
    "two_answers": two_answers,
    "left_out": left_out,
    "twice_the_key": twice_the_key,
}

SIZE = 300


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def meant_lines() -> Iterator[dict[str, Any]]:
    """Give lines whose value was meant, kinds in turn, each text once and none that is JSON already."""
    seen: set[str] = set()
    for turn in range(len(ANSWERS)):
        for place, (kind, make) in enumerate(KINDS.items()):
            value = ANSWERS[(turn + place) % len(ANSWERS)]
            text = make(value)
            is_new = text not in seen and (not is_json(text) or not text.startswith("{"))
            if is_new and (kind != "cut_after_a_value" or text.endswith(('"', "}", "]"))):
                seen.add(text)
                yield {"kind": kind, "text": text, "value": MEANT.get(kind, lambda v: v)(value)}


def main() -> None:
    """Write the corpus."""
    lines = list(meant_lines())[:SIZE]
    for kind, make in UNCLEAR.items():
        lines += [{"kind": kind, "text": make(value), "value": None} for value in ANSWERS]
    CORPUS.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")
    print(f"{len(lines)} lines")


if __name__ == "__main__":
    main()
