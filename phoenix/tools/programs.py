"""Programs that run other commands: where the command is among their words, or that it cannot be seen."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from phoenix.tools.acts import ANY, Word

SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "ash", "fish", "rbash", "mksh"})
_INTERPRETER = re.compile(r"(python|pypy|perl|ruby|node|deno|bun|php|lua|luajit|tclsh|osascript)[\d.]*")
_INLINE = re.compile(r"-[a-zA-Z]*[ceErpS]|--(eval|execute|run|print|command)(=.*)?")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=", re.ASCII)

REDEFINES = frozenset({"alias", "hash", "enable", "shopt", "unalias"})
"""After these, words may mean something else."""

NETWORK = frozenset(
    {"curl", "wget", "ssh", "scp", "sftp", "rsync", "nc", "ncat", "netcat", "telnet", "ping", "ftp"}
    | {"git", "dig", "host", "nslookup", "http", "https", "openssl", "socat", "aria2c", "traceroute"}
)


@dataclass(frozen=True)
class Inner:
    """What a command runs: other commands by their words, and scripts of a shell."""

    commands: tuple[tuple[Word, ...], ...] = ()
    scripts: tuple[Word, ...] = ()
    hides: bool = False
    """It may run more than that."""
    sure: bool = True


@dataclass(frozen=True)
class _Runner:
    """A program that runs the command after its options. `skip` words stand before that command."""

    valued: frozenset[str] = frozenset()
    flags: frozenset[str] = frozenset()
    skip: int = 0
    appends: bool = False
    """It adds words that are not seen."""


def _runner(valued: str = "", flags: str = "", skip: int = 0, *, appends: bool = False) -> _Runner:
    return _Runner(frozenset(valued.split()), frozenset(flags.split()), skip, appends)


_RUNNERS = {
    "sudo": _runner("-u -g -h -p -C -T -U -r -t -D -R --user --group", "-n -E -H -S -k -b -A -P -i -s -v"),
    "doas": _runner("-u -C", "-n -s -L"),
    "env": _runner("-u --unset -C --chdir", "-i -0 -v - --ignore-environment"),
    "nohup": _runner(),
    "setsid": _runner("", "-c -f -w --fork --wait"),
    "nice": _runner("-n --adjustment"),
    "ionice": _runner("-c -n -p --class", "-t"),
    "timeout": _runner("-s -k --signal --kill-after", "-v --foreground --preserve-status", 1),
    "time": _runner("-f -o --format --output", "-p -a -v -q"),
    "stdbuf": _runner("-i -o -e"),
    "command": _runner("", "-p -v -V"),
    "builtin": _runner(),
    "exec": _runner("-a", "-c -l"),
    "chroot": _runner("--userspec --groups", "", 1),
    "flock": _runner("-w -E --timeout", "-n -x -s -e -u -o -F", 1),
    "busybox": _runner(),
    "toybox": _runner(),
    "chronic": _runner(),
    "coproc": _runner(),
    "unshare": _runner("", "-r -n -m -p -u -i -U -f"),
    "catchsegv": _runner(),
    "strace": _runner("-o -e -p -s -E", "-f -c -q -v -t"),
    "xargs": _runner(
        "-I -n -P -L -d -E -s -a --max-args --max-procs --delimiter",
        "-0 -r -t -p -x --null --no-run-if-empty",
        appends=True,
    ),
    "parallel": _runner("-j --jobs", "-k -0", appends=True),
}
_EXECUTING = frozenset({"-exec", "-execdir", "-ok", "-okdir"})


def name_of(word: Word) -> str:
    """Return a program's name without its folder; empty when it is not known."""
    return posixpath.basename(word.text) if word.text else ""


def is_risky(variable: str) -> bool:
    """Tell whether a variable changes what is run by a command's words."""
    names = {"PATH", "IFS", "ENV", "BASH_ENV", "SHELLOPTS", "BASHOPTS", "CDPATH", "PS4", "PROMPT_COMMAND"}
    names |= {"EDITOR", "VISUAL", "PAGER", "BROWSER", "PYTHONSTARTUP", "PERL5OPT", "RUBYOPT", "NODE_OPTIONS"}
    return variable in names or variable.startswith(("LD_", "DYLD_", "GIT_", "BASH_FUNC"))


def inner_of(words: Sequence[Word]) -> Inner:  # noqa: PLR0911, C901 - one return a kind of program
    """Return what a command runs beside itself."""
    program = name_of(words[0])
    if program in SHELLS:
        return _shell(words)
    if program == "eval":
        return Inner(scripts=(_joined(words[1:]),))
    if program == "trap":
        return Inner(scripts=tuple(words[1:2]))
    if program in ("source", "."):
        return Inner(hides=True, sure=False)
    if program in REDEFINES:
        return Inner(hides=True, sure=False)
    if program == "find":
        return _found(words)
    if program in ("ssh", "watch", "su", "script"):
        return Inner(scripts=_remote(program, words), hides=True)
    if program == "git":
        return Inner(hides=any(w.text == "-c" or (w.text or "").startswith("--config-env") for w in words))
    if program in ("awk", "gawk", "mawk", "nawk"):
        seen = [w.text for w in words[1:]]
        return Inner(hides=any(t is None or "system" in t or "|" in t or t.startswith("-f") for t in seen))
    if _INTERPRETER.fullmatch(program):
        return Inner(hides=_runs_inline(words))
    runner = _RUNNERS.get(program)
    return _run_by(runner, words) if runner else Inner()


def _joined(words: Sequence[Word]) -> Word:
    texts = [w.text for w in words]
    return ANY if any(t is None for t in texts) else Word(" ".join(t for t in texts if t is not None))


def _shell(words: Sequence[Word]) -> Inner:
    takes_script = False
    place = 1
    while place < len(words):
        text = words[place].text
        if text is None:
            return Inner(scripts=(ANY,), hides=True)
        if not text.startswith(("-", "+")) or text in ("-", "--"):
            break
        if text in ("-o", "+o", "-O", "+O", "--rcfile", "--init-file"):
            place += 1
        elif not text.startswith("--") and "c" in text:
            takes_script = True
        place += 1
    if takes_script and place < len(words):
        return Inner(scripts=(words[place],))
    # A file, or its input.
    return Inner(hides=True)


def _found(words: Sequence[Word]) -> Inner:
    commands, place = [], 1
    while place < len(words):
        if words[place].text in _EXECUTING:
            end = place + 1
            while end < len(words) and words[end].text not in (";", "+"):
                end += 1
            commands.append(tuple(_filled(w) for w in words[place + 1 : end]))
            place = end
        place += 1
    return Inner(commands=tuple(c for c in commands if c), hides=any(w.text is None for w in words))


def _filled(word: Word) -> Word:
    """Return a word in which `{}` stands for what is not known."""
    return ANY if word.text is not None and "{}" in word.text else word


def _remote(program: str, words: Sequence[Word]) -> tuple[Word, ...]:
    if program == "ssh":
        plain = [w for w in words[1:] if not (w.text or "").startswith("-")]
        return (_joined(plain[1:]),) if len(plain) > 1 else ()
    if program == "watch":
        return (_joined([w for w in words[1:] if not (w.text or "").startswith("-")]),)
    following = [b for a, b in pairwise(words) if a.text in ("-c", "--command")]
    return tuple(following)


def _runs_inline(words: Sequence[Word]) -> bool:
    for word in words[1:]:
        if word.text is None or _INLINE.fullmatch(word.text):
            return True
        if word.text == "-" or (word.text.startswith("-") and len(word.text) > 2 and word.text[1] in "ceE"):
            return True
        if not word.text.startswith("-"):
            return False
    return len(words) == 1


def _run_by(runner: _Runner, words: Sequence[Word]) -> Inner:
    place, hides, sure = 1, False, True
    replaced = ""
    scripts: list[Word] = []
    while place < len(words):
        text = words[place].text
        if text is None:
            return Inner(commands=((ANY,),), hides=True, sure=False)
        if _ASSIGNMENT.match(text):
            sure = sure and not is_risky(text.partition("=")[0].rstrip("+"))
        elif text == "--":
            place += 1
            break
        elif not text.startswith("-") or text == "-":
            break
        else:
            name = text.partition("=")[0] if text.startswith("--") else text[:2]
            following = words[place + 1] if text in runner.valued and place + 1 < len(words) else None
            if name in ("-S", "--split-string"):
                scripts.append(ANY)
            if name == "-I":
                replaced = following.text or "" if following else text[2:]
            # Whether an option that is not known takes the next word cannot be seen.
            hides = hides or (name not in runner.valued and text not in runner.flags)
            place += text in runner.valued
        place += 1
    rest = [_replaced(w, replaced) for w in words[place + runner.skip :]]
    if runner.appends and rest:
        rest.append(ANY)
    return Inner((tuple(rest),) if rest else (), tuple(scripts), hides=hides, sure=sure)


def _replaced(word: Word, mark: str) -> Word:
    return ANY if mark and word.text is not None and mark in word.text else word


_GIT_VALUED = frozenset(
    {"-C", "-c", "--git-dir", "--work-tree", "--namespace", "--exec-path", "--config-env"}
)


def plain_forms(words: tuple[Word, ...]) -> list[tuple[Word, ...]]:
    """Return other ways to write a command that means the same: without folder, without git's own options."""
    if not words or words[0].text is None:
        return [words]
    named = (Word(name_of(words[0])), *words[1:])
    forms = [words, named]
    if named[0].text == "git":
        place = 1
        while place < len(words) and (words[place].text or "").startswith("-"):
            place += 2 if words[place].text in _GIT_VALUED else 1
        forms.append((named[0], *words[place:]))
    return forms


def without_options(words: tuple[Word, ...]) -> tuple[Word, ...]:
    """Return a command without its options; each may have taken the word after it."""
    kept: list[Word] = list(words[:1])
    for before, word in pairwise(words):
        if word.text is not None and word.text.startswith("-"):
            continue
        if before.text is not None and before.text.startswith("-"):
            kept.append(ANY)
        else:
            kept.append(word)
    return tuple(kept)
