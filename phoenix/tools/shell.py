"""What the lines of a shell would run, read with a grammar and never executed.

Each command of the lines is an act, those in substitutions, functions, `bash -c` and the like too. What the
grammar does not cover whole, or reads in a way that bash might not, gives an act that nothing is known of.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache

import tree_sitter_bash
from tree_sitter import Language, Node, Parser

from phoenix.tools.acts import ANY, ONE, OPAQUE, Act, Word
from phoenix.tools.matching import hosts_in, normal_host
from phoenix.tools.programs import NETWORK, inner_of, is_risky, name_of

MAX_CHARS = 50_000
MAX_DEPTH = 8
"""Scripts inside scripts."""
MAX_ACTS = 500
MAX_WORDS = 1000
"""Of one command; what is behind them is not known."""

_UNFIT = re.compile(r"[^\t\n\x20-\x7e\u00a1-\U0010ffff]")
"""Characters that the grammar may take for white space, and bash does not."""
_GLUED = re.compile(r"(?<=\S)\\\n(?=\S)")
"""A line that is broken in the middle of a word."""
_GAP = re.compile(r"(?:[ \t\n]|\\\n)*")
_BRACES = re.compile(r"\{.*(?:,|\.\.).*\}", re.DOTALL)
_QUIET = frozenset({"/dev/null", "/dev/stdout", "/dev/stderr", "/dev/stdin", "-"})

_WORDS = frozenset({"word", "number", "test_operator", "variable_name", "special_variable_name"})
_LITERAL = frozenset({"string", "raw_string", "ansi_c_string", "heredoc_body", "heredoc_content", "comment"})
_KNOWN = _WORDS | _LITERAL
_KNOWN |= {"program", "redirected_statement", "for_statement", "c_style_for_statement", "while_statement"}
_KNOWN |= {"variable_assignment", "variable_assignments", "unary_expression", "binary_expression", "pipeline"}
_KNOWN |= {"postfix_expression", "parenthesized_expression", "ternary_expression", "do_group", "list"}
_KNOWN |= {"if_statement", "elif_clause", "else_clause", "case_statement", "case_item", "function_definition"}
_KNOWN |= {"compound_statement", "subshell", "negated_command", "test_command", "declaration_command"}
_KNOWN |= {"unset_command", "command", "command_name", "subscript", "file_redirect", "heredoc_redirect"}
_KNOWN |= {"heredoc_start", "heredoc_end", "herestring_redirect", "arithmetic_expansion", "concatenation"}
_KNOWN |= {"translated_string", "array", "simple_expansion", "expansion", "command_substitution"}
_KNOWN |= {"process_substitution", "file_descriptor", "string_content", "regex", "extglob_pattern"}
_KNOWN |= {"brace_expression"}


@cache
def _parser() -> Parser:
    return Parser(Language(tree_sitter_bash.language()))


def acts_of_shell(text: str) -> list[Act]:
    """Return what lines of a shell would do."""
    reading = _Reading()
    reading.read(text, depth=0)
    acts = reading.acts or [Act(words=())]
    if len(acts) > MAX_ACTS:
        acts = [*acts[:MAX_ACTS], OPAQUE]
    if reading.sure:
        return acts
    return [replace(act, sure=False, hides=True) for act in acts]


@dataclass
class _Reading:
    """The acts found so far. `sure` is False once words may mean something else than they say."""

    acts: list[Act] = field(default_factory=list)
    sure: bool = True

    def read(self, text: str, *, depth: int) -> None:
        """Read one script."""
        if depth > MAX_DEPTH or len(text) > MAX_CHARS or len(self.acts) > MAX_ACTS:
            self.acts.append(OPAQUE)
            return
        if _UNFIT.search(text) or _GLUED.search(text):
            self.acts.append(OPAQUE)
        source = text.encode("utf-8", "surrogatepass")
        root = _parser().parse(source).root_node
        if root.has_error:
            self.acts.append(OPAQUE)
        for node in _all(root):
            self._node(node, source, depth)

    def _node(self, node: Node, source: bytes, depth: int) -> None:
        unknown = node.is_error or node.is_missing or (node.is_named and node.type not in _KNOWN)
        if unknown or not _is_whole(node, source):
            self.acts.append(OPAQUE)
        elif node.type == "command":
            self._command(_words(node, source), depth)
        elif node.type in ("test_command", "declaration_command", "unset_command"):
            first = node.children[0] if node.children else node
            self._command((Word(_text(first, source)), ANY), depth)
        elif node.type == "variable_assignment":
            name = node.child_by_field_name("name")
            if name is None or is_risky(_text(name, source).partition("[")[0]):
                self.sure = False
        elif node.type == "file_redirect":
            self._redirect(node, source)

    def _redirect(self, node: Node, source: bytes) -> None:
        for target in node.children_by_field_name("destination"):
            word = word_of(target, source)
            if word.text is not None and (word.text in _QUIET or word.text.isdecimal()):
                continue
            hosts = tuple(Word(h) for h in hosts_in(word.text)) if word.text is not None else ()
            self.acts.append(Act(words=(), paths=(word,), hosts=hosts))

    def _command(self, words: tuple[Word, ...], depth: int) -> None:
        if len(self.acts) > MAX_ACTS or depth > MAX_DEPTH:
            self.acts.append(OPAQUE)
            return
        if not words or words[0].text is None:
            self.acts.append(replace(OPAQUE, words=words or (ANY,)))
            return
        inner = inner_of(words)
        self.sure = self.sure and inner.sure
        self.acts.append(
            Act(words=words, paths=_paths(words), hosts=_hosts(words), hides=inner.hides, sure=inner.sure)
        )
        for command in inner.commands:
            self._command(command, depth + 1)
        for script in inner.scripts:
            if script.text is None:
                self.acts.append(OPAQUE)
            else:
                self.read(script.text, depth=depth + 1)


def _all(root: Node) -> Iterator[Node]:
    """Return a node and all below it, in the order of the text."""
    waiting = [root]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += reversed(node.children)


def _text(node: Node, source: bytes) -> str:
    return source[node.start_byte : node.end_byte].decode("utf-8", "surrogatepass")


def _is_whole(node: Node, source: bytes) -> bool:
    """Tell whether nothing but white space lies between a node's parts: the grammar has left out nothing."""
    if not node.children or node.type in _LITERAL or node.type == "translated_string":
        return True
    place = node.start_byte
    for child in node.children:
        gap = source[place : child.start_byte].decode("utf-8", "replace")
        if place < child.start_byte and not _GAP.fullmatch(gap):
            return False
        if gap and node.type == "concatenation":
            return False
        place = max(place, child.end_byte)
    rest = source[place : node.end_byte].decode("utf-8", "replace")
    return bool(_GAP.fullmatch(rest))


def _words(node: Node, source: bytes) -> tuple[Word, ...]:
    """Return a command's words, program first; assignments and redirections before it are left out."""
    words: list[Word] = []
    for child in node.children:
        if child.type == "command_name":
            words += [word_of(inner, source) for inner in child.children] or [ANY]
        elif child.type in ("file_redirect", "herestring_redirect", "heredoc_redirect", "comment"):
            continue
        elif words:
            words.append(word_of(child, source))
        elif child.type not in ("variable_assignment", "variable_assignments"):
            words.append(ANY)
    return tuple(words) if len(words) <= MAX_WORDS else (*words[:MAX_WORDS], ANY)


def word_of(node: Node, source: bytes) -> Word:  # noqa: PLR0911 - one return a kind of word
    """Return a word as the shell would read it; unknown where it depends on anything."""
    text, kind = _text(node, source), node.type
    if kind in _WORDS or not node.is_named:
        return _unquoted(text)
    if kind == "raw_string":
        return Word(text[1:-1])
    if kind == "string":
        return _quoted(text)
    if kind == "ansi_c_string":
        return Word(text[2:-1]) if "\\" not in text else ONE
    if kind == "concatenation":
        return _joined(node, source)
    if kind == "arithmetic_expansion":
        return ONE
    return ANY


def _unquoted(text: str) -> Word:
    if text == "[":
        return Word(text)
    if text.startswith("~") or ("=~" in text) or (":~" in text):
        return ONE
    plain = ""
    letters = iter(text)
    for letter in letters:
        if letter == "\\":
            following = next(letters, "")
            plain += "" if following == "\n" else following
        elif letter in "*?[$`\"'":
            return ANY
        else:
            plain += letter
    return ANY if _BRACES.search(text) else Word(plain)


def _quoted(text: str) -> Word:
    plain = ""
    letters = iter(text[1:-1])
    for letter in letters:
        if letter == "\\":
            following = next(letters, "")
            plain += {"\n": ""}.get(following, following if following in '$`"\\' else f"\\{following}")
        elif letter in "$`":
            return ANY if "@" in text else ONE
        else:
            plain += letter
    return Word(plain)


def _joined(node: Node, source: bytes) -> Word:
    words = [word_of(child, source) for child in node.children]
    bare = "".join(_text(c, source) for c in node.children if c.type in _WORDS or not c.is_named)
    if not _is_whole(node, source) or _BRACES.search(bare):
        return ANY
    if any(w.text is None for w in words):
        return ANY if any(w.many for w in words) else ONE
    return Word("".join(w.text for w in words if w.text is not None))


def _paths(words: tuple[Word, ...]) -> tuple[Word, ...]:
    """Return every word that may be a path, also behind `=`, `:`, `@` or a short option."""
    found: list[Word] = []
    program = words[0].text
    if program is not None and "/" in program:
        found.append(words[0])
    for word in words[1:]:
        text = word.text
        if text is None:
            found.append(word)
            continue
        if not text.startswith("-"):
            found.append(word)
        elif len(text) > 2 and not text.startswith("--"):
            found.append(Word(text[2:]))
        for sign in "=:@":
            head, found_sign, tail = text.partition(sign)
            if found_sign and tail and not tail.startswith("//"):
                found.append(Word(tail))
            if found_sign and head and sign == ":" and not head.startswith("-") and not tail.startswith("//"):
                found.append(Word(head))
    return tuple(dict.fromkeys(found))


def _hosts(words: tuple[Word, ...]) -> tuple[Word, ...]:
    found: list[Word] = []
    is_network = name_of(words[0]) in NETWORK
    for word in words[1:]:
        if word.text is None:
            found += [ANY] if is_network else []
            continue
        found += [Word(h) for h in hosts_in(word.text)]
        if is_network and "://" not in word.text and not word.text.startswith("-"):
            head = re.split(r"[/:]", word.text.rpartition("@")[2])[0]
            if re.fullmatch(r"[\w.-]+", head):
                found.append(Word(normal_host(head)))
    return tuple(dict.fromkeys(found))
