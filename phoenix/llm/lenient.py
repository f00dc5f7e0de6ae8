"""A reader of almost-JSON: it writes what it reads as JSON, or gives up where that would take a guess.

It knows what models write instead: other quotes, quotes and line breaks inside strings, bare keys, Python's
literals, comments, commas too many or too few, doubled braces, closers that are missing. It reads each
character a bounded number of times and never deeper than `MAX_DEPTH`.
"""

from __future__ import annotations

import re

MAX_DEPTH = 100
MAX_MISSING_CLOSERS = 3
STEPS = 8
"""How often a text's characters are looked at, at most, on average and from all places it may begin at."""
OBJECT_STEPS = 8
"""What the beginning of an object counts for."""
MAX_KEY = 80
"""Characters of a key that is looked for; a longer one is not seen."""

CLOSING = {'"': '"', "'": "'", "`": "`", "\u201c": "\u201d", "\u2018": "\u2019", "\u201d": "\u201d"}
"""Quotes that begin a string, and those that end it."""

SPACE = re.compile(r"(?:[\s\ufeff\u200b]++|//[^\n]*+|#[^\n]*+)*+")
BARE_KEY = re.compile(r"[A-Za-z_$][\w$-]*+")
NUMBER = re.compile(r"[-+]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][-+]?\d++)?")
WORD = re.compile(r"-?[A-Za-z]++")
WORDS = {
    "true": "true",
    "True": "true",
    "false": "false",
    "False": "false",
    "null": "null",
    "None": "null",
    "NaN": "null",
    "nan": "null",
    "Infinity": "null",
    "-Infinity": "null",
}
AFTER_NUMBER = re.compile(r"[\s,}\]/#]")
ESCAPE = re.compile(r"[\"\\/bfnrt]|u[0-9a-fA-F]{4}")
QUOTED_KEY = re.compile(
    r"""(?:"(?:[^"\\\n]|\\.){0,80}+"|'(?:[^'\\\n]|\\.){0,80}+'|\u201c[^\u201d\n]{0,80}+\u201d)\s*+:"""
)
LIKE_TWO = re.compile(r"\"\s++\"")
LIKE_A_KEY = re.compile(r"[\"'\u201d]\s*+:")


class Unclear(Exception):
    """What was meant cannot be said for certain. `is_object` when it had begun as an object, with a key."""

    def __init__(self, *, is_object: bool = False) -> None:
        super().__init__()
        self.is_object = is_object


class Budget:
    """The steps that all readers of one text have together: what is hostile gives up early."""

    def __init__(self, text: str) -> None:
        self.left = STEPS * len(text) + 1000

    def charge(self, steps: int) -> None:
        """Take steps.

        Raises:
            Unclear: there are none left.
        """
        self.left -= steps
        if self.left < 0:
            raise Unclear(is_object=True)


class Reader:
    """Reads one value of a text.

    Args:
        text: The text.
        start: Where the value begins.
        budget: How long it may take.
    """

    def __init__(self, text: str, start: int, budget: Budget) -> None:
        self.text = text
        self.at = start
        self.missing = 0
        """Closers that were not there."""
        self._has_key = False
        self._guessed = False
        """A quote was taken for a part of its string: then the end of the text must be where it should."""
        self._budget = budget
        self._out: list[str] = []

    def read_object(self) -> str:
        """Return the object at this place as JSON, and stand after it.

        Raises:
            Unclear: it is none, or not certainly one.
        """
        try:
            self._object(1)
        except Unclear as unclear:
            raise Unclear(is_object=self._has_key or unclear.is_object) from unclear
        return "".join(self._out)

    def _peek(self) -> str:
        """Return the next character that says something; empty at the end."""
        self.at = self._skip(self.at)
        return self.text[self.at : self.at + 1]

    def _skip(self, at: int) -> int:
        """Return where white space and comments end."""
        while True:
            found = SPACE.match(self.text, at)
            end = found.end() if found else at
            self._budget.charge(end - at + 1)
            if not self.text.startswith("/*", end):
                return end
            closed = self.text.find("*/", end + 2)
            if closed < 0:
                raise Unclear(is_object=True)
            self._budget.charge(closed - end)
            at = closed + 2

    def _value(self, depth: int, parents: str) -> None:
        char = self._peek()
        if char == "{":
            self._object(depth + 1, parents)
        elif char == "[":
            self._list(depth + 1, parents)
        elif char in CLOSING and char:
            self._string(in_object=parents.endswith("{"), is_key=False)
        else:
            self._scalar()

    def _object(self, depth: int, parents: str = "") -> None:
        self._budget.charge(OBJECT_STEPS)
        if depth > MAX_DEPTH:
            raise Unclear
        self.at += 1
        if self._peek() == "{":  # as in a template, where braces are doubled
            self._object(depth + 1, parents)
            if self._peek() != "}":
                raise Unclear
            self.at += 1
            return
        self._out.append("{")
        first = True
        while not self._closes("}", parents):
            if not first:
                self._out.append(",")
            first = False
            self._key()
            if self._peek() != ":":
                raise Unclear
            self.at += 1
            self._has_key = True
            self._out.append(":")
            self._value(depth, parents + "{")
            self._comma(QUOTED_KEY)
        self._out.append("}")

    def _list(self, depth: int, parents: str) -> None:
        if depth > MAX_DEPTH:
            raise Unclear
        self.at += 1
        self._out.append("[")
        first = True
        while not self._closes("]", parents):
            if not first:
                self._out.append(",")
            first = False
            self._value(depth, parents + "[")
            self._comma(None)
        self._out.append("]")

    def _closes(self, closer: str, parents: str) -> bool:
        """Tell whether this object or list ends here, by its closer or for want of one."""
        char = self._peek()
        if char == closer:
            self.at += 1
            return True
        other = "]" if closer == "}" else "}"
        around = "[" if closer == "}" else "{"
        if char == other and parents.endswith(around):  # the one around it ends, so this one has
            self._miss()
            return True
        if char:
            return False
        before = self.text[: self.at].rstrip()
        # A number or a word may be cut, and a comma says that more was meant.
        if not before.endswith(('"', "}", "]")) or self._guessed:
            raise Unclear
        self._miss()
        return True

    def _miss(self) -> None:
        self.missing += 1
        if self.missing > MAX_MISSING_CLOSERS:
            raise Unclear

    def _comma(self, next_key: re.Pattern[str] | None) -> None:
        """Pass the comma after a value, or see that one is missing or none is needed."""
        before = self.at
        char = self._peek()
        if char == ",":
            self.at += 1
            if self._peek() == ",":
                raise Unclear
            return
        if not char or char in "}]":
            return
        if next_key is not None and next_key.match(self.text, self.at):
            return
        # Between items of a list only a new line says that a comma is missing: 'a' 'b' is one text in Python.
        if next_key is None and "\n" in self.text[before : self.at] and (char in "{[" or char in CLOSING):
            return
        raise Unclear

    def _key(self) -> None:
        char = self._peek()
        if char and char in CLOSING:
            self._string(in_object=True, is_key=True)
            return
        found = BARE_KEY.match(self.text, self.at)
        if found is None:
            raise Unclear
        self.at = found.end()
        self._out.append(f'"{found[0]}"')

    def _scalar(self) -> None:
        found = NUMBER.match(self.text, self.at)
        if found is not None and AFTER_NUMBER.match(self.text, found.end()):
            self._out.append(_number(found[0]))
        else:
            found = WORD.match(self.text, self.at)
            if found is None or found[0] not in WORDS or not AFTER_NUMBER.match(self.text, found.end()):
                raise Unclear
            self._out.append(WORDS[found[0]])
        self.at = found.end()

    def _string(self, *, in_object: bool, is_key: bool) -> None:
        """Read a string; quotes inside it that nothing escapes are its text, if they come in pairs."""
        opening = self.text[self.at]
        closing = CLOSING[opening]
        special = re.compile(f'[{closing}"\\\\]')
        pieces = ['"']
        inner = 0
        at = self.at + 1
        while True:
            found = special.search(self.text, at)
            if found is None:  # cut in it: no later place is a beginning
                raise Unclear(is_object=True)
            self._budget.charge(found.end() - at)
            pieces.append(self.text[at : found.start()])
            char, at = found[0], found.end()
            if is_key and at - self.at > MAX_KEY:
                raise Unclear
            if char == "\\":
                piece, at = self._escape(at)
                pieces.append(piece)
            elif char != closing:
                pieces.append('\\"')
            elif self._ends(at, in_object=in_object, is_key=is_key):
                break
            elif closing == "'" and not (self.text[at - 2].isalnum() and self.text[at : at + 1].isalnum()):
                raise Unclear(is_object=True)  # no apostrophe in a word
            else:
                inner += 1
                pieces.append('\\"' if char == '"' else char)
        # An apostrophe stands alone, a quote in a text has its other half: else the end is uncertain.
        unlike = inner and any(p.search(self.text, self.at + 1, at - 1) for p in (LIKE_A_KEY, LIKE_TWO))
        if (inner % 2 and closing != "'") or unlike:
            raise Unclear
        self._guessed = self._guessed or inner > 0
        if self._guessed and self.missing:
            raise Unclear
        self.at = at
        self._out.append("".join([*pieces, '"']))

    def _escape(self, at: int) -> tuple[str, int]:
        """Return what an escape stands for as JSON, and where the text goes on."""
        found = ESCAPE.match(self.text, at)
        if found is not None:
            return f"\\{found[0]}", found.end()
        char = self.text[at : at + 1]
        if char in ("", "\n", "x", "u", "U", "N"):  # Python's, or cut
            raise Unclear
        if char in ("'", "`"):
            return char, at + 1
        # `\d` of a regular expression, whose backslash was not escaped.
        return "\\\\", at

    def _ends(self, at: int, *, in_object: bool, is_key: bool) -> bool:
        """Tell whether a quote before this place ends its string, by what comes after it."""
        place = self._skip(at)
        char = self.text[place : place + 1]
        if is_key:
            return char == ":"
        if not char or char in "}]":
            return True
        if char == ",":
            return self._begins(self._skip(place + 1), in_object=in_object)
        # A missing comma; in a list only a new line tells it from a quote inside the text.
        is_apart = place > at and (in_object or "\n" in self.text[at:place])
        return is_apart and self._begins(place, in_object=in_object, strictly=True)

    def _begins(self, at: int, *, in_object: bool, strictly: bool = False) -> bool:
        """Tell whether the next member of an object, or item of a list, begins here."""
        char = self.text[at : at + 1]
        if in_object:
            if QUOTED_KEY.match(self.text, at):
                return True
            bare = BARE_KEY.match(self.text, at)
            has_key = bare is not None and self.text[bare.end() : bare.end() + 1] == ":"
            return (has_key or char == "}") and not strictly
        if strictly:
            return bool(char) and (char in "{[" or char in CLOSING)
        return bool(char) and (char in "{[]-+.0123456789tfnTFN" or char in CLOSING)


def _number(text: str) -> str:
    """Return a number as JSON writes it."""
    text = text.removeprefix("+")
    sign, digits = ("-", text[1:]) if text.startswith("-") else ("", text)
    whole, dot, rest = digits.partition(".")
    if not dot:
        return sign + _whole(whole)
    fraction = re.match(r"\d*+", rest)
    end = fraction.end() if fraction else 0
    return f"{sign}{_whole(whole) if whole else '0'}.{rest[:end] or '0'}{rest[end:]}"


def _whole(digits: str) -> str:
    if len(digits) > 1 and digits.startswith("0") and digits.isdigit():
        raise Unclear  # octal, or a text such as a post code
    return digits
