"""How many broken JSON answers are mended without a model call, and how long hostile ones take.

    python benchmarks/repair.py

The corpus is `tests/golden/broken_json.jsonl`, made by `broken_json.py`: 300 answers whose meaning is
certain, and some whose meaning is not (cut in a text, two different answers, values left out), which nobody
can mend without a guess. An answer is mended wrongly when something else than was meant comes back, or
anything at all where nothing is certain: it would be taken for the model's answer. json-repair always gives
its best guess.

Hostile outputs are 10,000 generated ones of up to 20,000 characters (`tests/unit/llm/hostile.py`), and each
of their repeated pieces at the greatest length that is mended. Processor time of each.

The bars: at least 95 % mended, none wrongly, and each hostile output done within 10 seconds of processor
time. Exit code 0 only when they hold. The ratio is that of rightly mended answers to json-repair's.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from json_repair import repair_json

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from phoenix.domain.cleaning import clean_json  # noqa: E402
from phoenix.llm.repair import MAX_MENDED_CHARS, mend_json  # noqa: E402
from tests.unit.llm.hostile import REPEATED, hostile  # noqa: E402

CORPUS = ROOT / "tests" / "golden" / "broken_json.jsonl"
COUNT = 10_000
LEAST_MENDED = 0.95
MOST_SECONDS = 10.0
CALM = json.dumps(
    {"tasks": [{"id": f"T{n}", "text": "Write the module and its tests."} for n in range(5000)]}
)
"""What the time of hostile outputs is measured against: an ordinary answer with one comma too many."""


def verdict(found: object, meant: object) -> str:
    """Return `right`, `wrong`, or `left` for what was not mended."""
    if not isinstance(found, dict):
        return "left"
    return "right" if meant is not None and clean_json(found) == meant else "wrong"


def count(lines: list[dict[str, Any]]) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """Return the verdicts on Phoenix, those on json-repair, and the kinds that Phoenix left."""
    ours, theirs, left = Counter[str](), Counter[str](), Counter[str]()
    for line in lines:
        said = verdict(mend_json(line["text"]), line["value"])
        ours[said] += 1
        theirs[verdict(repair_json(line["text"], return_objects=True), line["value"])] += 1
        if said == "left" and line["value"] is not None:
            left[line["kind"]] += 1
    return ours, theirs, left


def slowest(texts: Iterable[str]) -> tuple[float, int, str]:
    """Return the most seconds that one text took, its length, and its beginning."""
    worst = (0.0, 0, "")
    for text in texts:
        begun = time.process_time()
        mend_json(text)
        worst = max(worst, (time.process_time() - begun, len(text), text[:40]))
    return worst


def main() -> int:
    """Print the figures and return the exit code."""
    lines = [json.loads(line) for line in CORPUS.read_text("utf-8").splitlines()]
    certain = [line for line in lines if line["value"] is not None]
    ours, theirs, left = count(lines)
    mended = ours["right"] / len(certain)
    unclear = len(lines) - len(certain)
    print(f"{len(certain)} answers whose meaning is certain, {unclear} whose is not")
    print(f"phoenix      mended {ours['right']}, wrongly {ours['wrong']}; left {dict(left) or 'none'}")
    print(f"json-repair  mended {theirs['right']}, wrongly {theirs['wrong']}")
    generated = slowest(hostile(COUNT, size=20_000))
    print(f"{COUNT} hostile outputs, slowest {generated[0]:.3f} s ({generated[1]} characters)")
    starts = ("", '{"a": ', '{"a": "', '{"a": [', "{'a': '")
    longest = (s + piece * ((MAX_MENDED_CHARS - 10) // len(piece)) for piece in REPEATED for s in starts)
    long = slowest(longest)
    calm = slowest([CALM[:-1] + ",}"])
    print(f"the longest of them, slowest {long[0]:.3f} s ({long[2]!r} ...)")
    print(f"an ordinary answer of {calm[1]} characters {calm[0]:.3f} s")
    held = mended >= LEAST_MENDED and not ours["wrong"] and max(generated[0], long[0]) <= MOST_SECONDS
    print(f"mended {mended:.1%} (bar {LEAST_MENDED:.0%}), wrongly {ours['wrong']} (bar 0)")
    print(f"ratio {ours['right'] / max(1, theirs['right']):.2f}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
