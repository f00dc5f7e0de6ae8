"""Test results as an agent reads them: failures whole, the rest counted."""

from __future__ import annotations

from collections import Counter

from phoenix.domain.evidence import SuiteResult

MAX_CHARS = 12_000


def cap(text: str, limit: int = MAX_CHARS) -> str:
    """Keep the head and the tail of a long text, and say how much is left out."""
    if len(text) <= limit:
        return text
    head, tail = limit * 2 // 5, limit * 3 // 5
    left_out = len(text) - head - tail
    return f"{text[:head]}\n[... {left_out} characters left out ...]\n{text[-tail:]}"


def suite_text(suite: SuiteResult, limit: int = MAX_CHARS) -> str:
    """Describe one execution of tests."""
    counts = Counter(t.outcome for t in suite.tests)
    bad = [t for t in suite.tests if t.outcome in ("failed", "error")]
    head = ", ".join(f"{counts[o]} {o}" for o in ("passed", "failed", "error", "skipped") if counts[o])
    if not suite.tests:
        head = f"no tests ran (exit code {suite.exit_code})"
        return cap(f"{head}\n{suite.output}".strip(), limit)
    if not bad:
        return head
    each = max(400, limit // len(bad))
    return cap(
        "\n\n".join([head, *(f"{t.outcome.upper()} {t.id}\n{cap(t.message, each)}" for t in bad)]), limit
    )
