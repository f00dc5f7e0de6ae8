"""Texts without what differs between two runs of the same thing: times, temporary paths, ids."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ToolMessage

MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
DAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
UNIT = r"(?:s|ms|us|µs|secs?|seconds?)"

RULES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.MULTILINE), put)
    for pattern, put in (
        (r"\x1b\[[0-9;]*[A-Za-z]", ""),
        (r"^platform \S+ -- Python .*$", "<platform>"),
        (r"^(rootdir|cachedir|configfile|plugins): .*\n?", ""),
        (r"(?<![\w/.-])(?:/[^\s/\"']+)*/lib/python[^/\"'\n]*/", "<python>/"),
        (r'(<python>/[^\s"\']+", line )\d+', r"\1<n>"),
        (r"(?<![\w/.-])(?:/[^\s/\"']+)+/bin/python[\d.]*", "<python>"),
        (r"\b(Python|python|CPython)[ -/]?\d+\.\d+(\.\d+)?\w*", r"\1 <version>"),
        (r"(?:/private)?(?:/var/folders|/var/tmp|/tmp)/[^\s'\":,;)\]}>]+", "<tmp>"),
        (r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b", "<uuid>"),
        (r"\b0x[0-9a-fA-F]{6,16}\b", "<address>"),
        (r"\b[0-9a-f]{40}\b", "<commit>"),
        (r"^(\* )?(?=[0-9]*[a-f])(?=[a-f]*[0-9])[0-9a-f]{7,12}(?= )", r"\1<commit>"),
        (r"(?<=\[)(\S+ (?:\(root-commit\) )?)[0-9a-f]{7,12}(?=\])", r"\1<commit>"),
        (r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?: ?(?:Z|UTC|[+-]\d\d:?\d\d))?", "<time>"),
        (rf"\b{DAY},? \d\d? {MONTH} \d{{4}} \d\d:\d\d:\d\d(?: (?:GMT|UTC|[+-]\d{{4}}))?", "<time>"),
        (rf"\b{DAY} {MONTH} +\d\d? \d\d:\d\d:\d\d(?: \d{{4}})?(?: [+-]\d{{4}})?", "<time>"),
        (rf"^([dlbcps-])[rwxsStT-]{{9}}[.+@]?\s+\d+\s+\S+\s+\S+\s+\d+\s+{MONTH}\s+\d+\s+[\d:]+\s+", r"\1 "),
        (r"^total \d+$", "total <n>"),
        (
            rf"\b(in|after|took|elapsed:?|duration:?|real|user|sys)(\s+)(\d+m)?\d+(?:[.,]\d+)? ?{UNIT}\b",
            r"\1\2<seconds>",
        ),
        (rf"\b\d+\.\d+ ?{UNIT}\b", "<seconds>"),
        (r"(<seconds>) \(\d+:\d\d:\d\d\)", r"\1"),
        (r"\b(pid|PID|process)([ =:]+)\d+", r"\1\2<pid>"),
        (
            r"\b(127\.0\.0\.1|localhost|0\.0\.0\.0)([: ](?:port )?)(?:3[2-9]|[45]\d|6[0-5])\d{3}\b",
            r"\1\2<port>",
        ),
        (r"={3,}", "==="),
        (r"-{3,}", "---"),
        (r"_{3,}", "___"),
    )
)


def normalise(text: str) -> str:
    """Return a text with all that may differ between runs replaced by a placeholder.

    Times of day, durations, temporary paths, ports, process ids, addresses, uuids and commit ids go;
    so does what pytest and tracebacks say of the Python that runs them.
    """
    text = "\n".join(line.rstrip() for line in text.splitlines() if not _underlines(line))
    for pattern, put in RULES:
        text = pattern.sub(put, text)
    return text.strip()


def _underlines(line: str) -> bool:
    """Tell a traceback's line of carets: each Python from 3.11 to 3.13 draws them differently."""
    return line.strip(" \t~^") in ("", "E", ">") and ("^" in line or "~~" in line)


def short_digest(value: Any) -> str:
    """Return 16 hex digits of the SHA-256 of a JSON-compatible value."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def prompt_digest(messages: Sequence[BaseMessage]) -> str:
    """Return the digest of a conversation, tool results aside: those are compared one by one."""
    said = []
    for message in messages:
        if isinstance(message, ToolMessage):
            continue
        calls = message.tool_calls if isinstance(message, AIMessage) else []
        said.append(
            [message.type, normalise(message.text), [[c["name"], _normalised(c["args"])] for c in calls]]
        )
    return short_digest(said)


def tool_digests(tools: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return a digest of each tool's parameters by name. A reworded description changes nothing."""
    functions = [tool.get("function", tool) for tool in tools]
    return {str(f.get("name")): short_digest(_shape(f.get("parameters", {}))) for f in functions}


def _normalised(value: Any) -> Any:
    if isinstance(value, str):
        return normalise(value)
    if isinstance(value, Mapping):
        return {k: _normalised(v) for k, v in value.items()}
    return [_normalised(v) for v in value] if isinstance(value, list) else value


def _shape(node: Any) -> Any:
    """Return a schema without descriptions and titles; a property may still be called so."""
    if isinstance(node, list):
        return [_shape(child) for child in node]
    if not isinstance(node, Mapping):
        return node
    return {
        key: {name: _shape(p) for name, p in value.items()} if key == "properties" else _shape(value)
        for key, value in node.items()
        if not (key in ("description", "title") and isinstance(value, str))
    }
