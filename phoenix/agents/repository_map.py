"""Draw a ranked map of a repository's symbols that fits a token budget.

Files are ranked as web pages are by PageRank (Page, Brin, Motwani, Winograd, 1998): a file matters when
files that matter use what it defines. Words of the task at hand pull the ranking to where they occur.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from phoenix.agents.symbols import Symbol, find_symbols

CHARS_PER_TOKEN = 4
PARSED_FILES = 2000
LISTING_SHARE = 0.15
"""Part of the budget for naming the files whose symbols found no room."""
_DAMPING = 0.85
_ROUNDS = 20
_COMMON = 5
"""A name that more files define says little about which of them is meant."""
_PLAIN = 0.1
"""Weight of a name that is one plain word, which comments and other meanings use as well."""
_WORD = re.compile(r"\.?[A-Za-z_$][A-Za-z0-9_$]{2,}")
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+")


@dataclass(frozen=True)
class _Entry:
    path: str
    symbol: Symbol
    score: float

    def line(self) -> str:
        indent = "    " if self.symbol.owner else "  "
        return f"{indent}{self.symbol.line}: {self.symbol.signature}\n"


async def repository_map(
    files: Mapping[str, str], *, token_budget: int = 2000, focus: Sequence[str] = ()
) -> str:
    """Return files with their most used symbols, best file first; deterministic.

    Args:
        files: Text by path.
        token_budget: What the map may cost, at four characters a token.
        focus: Texts about the task at hand; their words rank what they name higher.
    """
    return await asyncio.to_thread(_draw, files, token_budget * CHARS_PER_TOKEN, focus)


def _draw(files: Mapping[str, str], room: int, focus: Sequence[str]) -> str:
    paths = sorted(files)
    symbols = {path: find_symbols(path, files[path]) for path in paths[:PARSED_FILES]}
    words = {part for text in focus for part in _parts(text)}
    ranks, used = _rank(files, symbols, words)
    entries = [
        _Entry(path, symbol, _score(symbol, ranks[path], used.get((path, symbol.name), 0.0), words))
        for path, found in symbols.items()
        for symbol in found
    ]
    entries.sort(key=lambda e: (-e.score, e.path, e.symbol.line))
    chosen = _choose(entries, room - int(room * LISTING_SHARE))
    order = sorted(chosen, key=lambda p: (-ranks[p], p))
    text = "".join(f"{_shown(p)}:\n{''.join(e.line() for e in chosen[p])}" for p in order)
    rest = sorted((p for p in paths if p not in chosen), key=lambda p: (-_matches(p, words), p))
    return (text + _listing(rest, room - len(text))).rstrip()


def _score(symbol: Symbol, rank: float, used: float, words: set[str]) -> float:
    """Weigh how much others use a symbol, and more so what the task names, used or not."""
    matches = _matches(symbol.name, words)
    return (used + 0.1 * rank) * (1 + 3 * matches) + rank * matches


def _shown(path: str) -> str:
    """Return a path on one line, whatever its author put in it."""
    return "".join(c if c.isprintable() else "?" for c in path)


def _choose(entries: Sequence[_Entry], room: int) -> dict[str, list[_Entry]]:
    """Take the best entries that fit, a method with its class, and order each file's by line."""
    classes = {(e.path, e.symbol.name): e for e in entries if not e.symbol.owner}
    chosen: dict[str, set[_Entry]] = {}
    for entry in entries:
        owner = classes.get((entry.path, entry.symbol.owner))
        new = {e for e in (entry, owner) if e is not None} - chosen.get(entry.path, set())
        cost = sum(len(e.line()) for e in new) + (0 if entry.path in chosen else len(entry.path) + 2)
        if cost <= room:
            room -= cost
            chosen.setdefault(entry.path, set()).update(new)
    return {path: sorted(found, key=lambda e: e.symbol.line) for path, found in chosen.items()}


def _listing(paths: Sequence[str], room: int) -> str:
    """Name files, as many as fit."""
    lines = ""
    for n, path in enumerate(paths):
        more = f"... and {len(paths) - n} more files\n"
        last = n == len(paths) - 1
        if len(lines) + len(path) + 1 + (0 if last else len(more)) > room:
            return lines + more if len(lines) + len(more) <= room else lines
        lines += f"{_shown(path)}\n"
    return lines


def _rank(
    files: Mapping[str, str], symbols: Mapping[str, Sequence[Symbol]], words: set[str]
) -> tuple[dict[str, float], dict[tuple[str, str], float]]:
    """Return each file's rank, and how much each file's names are used by others."""
    telling = _telling(symbols)
    uses = {path: list(_uses(path, files[path], telling)) for path in symbols}
    edges: dict[str, dict[str, float]] = {path: defaultdict(float) for path in symbols}
    for path, found in uses.items():
        for home, _, weight in found:
            edges[path][home] += weight
    ranks = _pagerank(edges, {p: 1 + 5.0 * min(3, _matches(p, words)) for p in symbols})
    used: dict[tuple[str, str], float] = defaultdict(float)
    for path, found in uses.items():
        for home, name, weight in found:
            used[home, name] += ranks[path] * weight
    return ranks, used


def _telling(symbols: Mapping[str, Sequence[Symbol]]) -> dict[str, list[str]]:
    """Return the files that define each name, methods with a dot before them as they are used."""
    homes: dict[str, set[str]] = defaultdict(set)
    for path, found in symbols.items():
        for symbol in found:
            homes[f".{symbol.name}"].add(path)
            if not symbol.owner:
                homes[symbol.name].add(path)
    return {name: sorted(where) for name, where in homes.items() if len(where) <= _COMMON}


def _uses(path: str, text: str, telling: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str, float]]:
    """Yield (file, name, weight) of what a file uses of other files."""
    for word, count in sorted(Counter(_WORD.findall(text)).items()):
        homes = telling.get(word, ())
        if path in homes:
            continue
        name = word.lstrip(".")
        plain = name.islower() and "_" not in name
        # The root keeps one file that repeats a name from outvoting many that use it once.
        weight = count**0.5 * (_PLAIN if plain else 1.0)
        for home in homes:
            yield home, name, weight / len(homes)


def _pagerank(edges: Mapping[str, Mapping[str, float]], pull: Mapping[str, float]) -> dict[str, float]:
    """Return ranks that add up to one; `pull` is where a reader who stops following links goes on."""
    total = sum(pull.values()) or 1.0
    home = {node: weight / total for node, weight in pull.items()}
    out = {node: sum(targets.values()) for node, targets in edges.items()}
    ranks = dict(home)
    for _ in range(_ROUNDS):
        lost = sum(rank for node, rank in ranks.items() if not out[node])
        new = {node: (1 - _DAMPING + _DAMPING * lost) * home[node] for node in ranks}
        for node, targets in edges.items():
            for target, weight in targets.items():
                new[target] += _DAMPING * ranks[node] * weight / out[node]
        ranks = new
    return ranks


def _parts(text: str) -> set[str]:
    """Return the words inside names, in lower case: `readFile` and `read_file` are read and file."""
    return {part.lower() for part in _PART.findall(text) if len(part) > 2}


def _matches(name: str, words: set[str]) -> int:
    return len(_parts(name) & words) if words else 0
