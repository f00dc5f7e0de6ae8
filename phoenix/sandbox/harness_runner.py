"""Run pytest as a child process and print what came of it, inside the sandbox.

Copied into every environment as `phoenix_harness_run`, so it imports nothing of Phoenix and needs only
the standard library. It outlives the tests: a test that ends the process, hangs or floods the output
still leaves a result. Everything is printed as one line: the order's nonce, a blank, packed JSON.
"""

from __future__ import annotations

import base64
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import zlib
from pathlib import Path
from typing import IO, Any

ORDER = "PHOENIX_HARNESS_ORDER"
HEAD_BYTES = 8 * 1024
TAIL_BYTES = 48 * 1024
RESULT_BYTES = 64 * 1024**2
PACKED_BYTES = 400_000  # below half of the output that a sandbox keeps, whose middle is dropped
RANK = {"skipped": 0, "passed": 1, "failed": 2, "error": 3}


class Kept:
    """The head and the tail of a stream of any length."""

    def __init__(self) -> None:
        self._head = b""
        self._tail = b""
        self._dropped = 0

    def drain(self, stream: IO[bytes]) -> None:
        """Read to the end of the stream."""
        while chunk := os.read(stream.fileno(), 65536):
            room = HEAD_BYTES - len(self._head)
            self._head += chunk[:room]
            self._tail += chunk[room:] if room > 0 else chunk
            if len(self._tail) > 2 * TAIL_BYTES:
                self._cut()

    def _cut(self) -> None:
        extra = max(0, len(self._tail) - TAIL_BYTES)
        self._dropped += extra
        self._tail = self._tail[extra:]

    def text(self) -> str:
        """Return what is kept, with a note where something is left out."""
        self._cut()
        gap = f"\n[... {self._dropped} bytes left out ...]\n".encode() if self._dropped else b""
        return (self._head + gap + self._tail).decode("utf-8", "replace")


def arguments(order: dict[str, Any], root: str, scratch: str) -> list[str]:
    """Return pytest's arguments, without the paths.

    Nothing is left in the workspace: caches and temporary folders go to the scratch folder.
    """
    shown = ["-q", "--no-header", "--tb=short", "--color=no"]
    # The folders above the workspace are no part of it: they may be unreadable, or hold a conftest.
    place = [f"--rootdir={root}", f"--confcutdir={root}", f"--basetemp={scratch}/t"]
    whole = ["--maxfail=0", "--continue-on-collection-errors", *place]
    if order["sealed"]:
        return [*shown, *whole, "--noconftest", "-c", "/dev/null", "-p", "no:cacheprovider"]
    return [*shown, *whole, "-p", "phoenix_harness", "-o", f"cache_dir={scratch}/cache"]


def environment(order: dict[str, Any], root: str, scratch: str) -> dict[str, str]:
    """Return the variables of the tests' process."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "PHOENIX_HARNESS_"))}
    kept.update(
        PHOENIX_HARNESS_RESULTS=f"{scratch}/results",
        PYTHONPATH=os.pathsep.join([root, f"{root}/src"]),
        PYTHONDONTWRITEBYTECODE="1",
        HYPOTHESIS_STORAGE_DIRECTORY=f"{scratch}/hypothesis",
        COVERAGE_FILE=f"{scratch}/coverage",
    )
    if order["sealed"]:
        kept["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    return kept


def read_results(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """Merge the plugin's lines into one result per test, in the order in which they started.

    Return as well whether pytest came to its end.
    """
    try:
        with path.open("rb") as file:
            text = file.read(RESULT_BYTES).decode("utf-8", "replace")
    except OSError:
        return [], False
    ended = False
    tests: dict[str, dict[str, Any]] = {}
    for line in text.splitlines():
        try:
            entry = json.loads(line)
            ended = ended or entry["event"] == "end"
            test = tests.setdefault(str(entry["id"]), {"id": str(entry["id"]), "outcome": "", "seconds": 0.0})
            if entry["event"] != "start":
                _merge(test, entry)
        except (ValueError, KeyError, TypeError):
            continue  # the last line of a killed process, or a test that wrote here
    return list(tests.values()), ended


def _merge(test: dict[str, Any], entry: dict[str, Any]) -> None:
    """Add one phase to a test: the worst outcome wins and brings its failure along."""
    test["seconds"] += float(entry.get("seconds") or 0.0)
    outcome = str(entry.get("outcome", "error"))
    when = entry.get("when", "collect")
    if outcome == "failed" and when != "call":
        outcome = "error"
    if outcome == "passed" and when != "call":
        return
    if outcome == "error" and when == "teardown" and test["outcome"] == "failed":
        return  # the test's own failure says more than the clean-up after it
    if RANK.get(outcome, 3) >= RANK.get(test["outcome"], -1):
        test["outcome"] = outcome
        test.update({k: entry.get(k) or "" for k in ("error", "where", "line", "message")})


def pack(result: dict[str, Any]) -> str:
    """Return the result as text small enough to pass through the sandbox's output."""
    packed = b""
    for cap in (1000, 200, 0):
        for test in result["tests"]:
            test["message"] = str(test.get("message", ""))[:cap]
        packed = base64.b64encode(zlib.compress(json.dumps(result).encode(), 6))
        if len(packed) <= PACKED_BYTES:
            break
    return packed.decode()


def stop(child: subprocess.Popen[bytes]) -> None:
    """Kill the tests' process group."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def supervise(order: dict[str, Any], root: str, scratch: str) -> dict[str, Any]:
    """Run the tests within the time and return everything known about them."""
    flags = (
        ["-I", "-B", "-m", "phoenix_harness_run", "--sealed"] if order["sealed"] else ["-B", "-m", "pytest"]
    )
    command = [sys.executable, *flags, *arguments(order, root, scratch), *order["paths"]]
    child = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(order, root, scratch),
        start_new_session=True,
    )
    kept = Kept()
    assert child.stdout is not None
    reader = threading.Thread(target=kept.drain, args=(child.stdout,), daemon=True)
    reader.start()
    killed = False
    try:
        child.wait(order["seconds"])
    except subprocess.TimeoutExpired:
        killed = True
    stop(child)
    child.wait()
    reader.join(1.0)  # a daemon that a test left behind may hold the pipe open for ever
    tests, ended = read_results(Path(scratch, "results"))
    return {
        "exit": child.returncode,
        "timeout": killed,
        "ended": ended,
        "tests": tests,
        "output": kept.text().replace(scratch, "<temporary>"),
    }


def sealed(arguments: list[str]) -> int:
    """Run pytest in this isolated interpreter.

    pytest and the plugin are imported before the repository is put on the path, so that no module of
    the repository stands in for them; its `sitecustomize` is not seen at all.
    """
    plugin = importlib.import_module("phoenix_harness")
    import pytest

    root = str(Path.cwd())
    sys.path[:0] = [root, str(Path(root, "src"))]
    return int(pytest.main(arguments, plugins=[plugin]))


def main() -> int:
    """Follow the order in the environment."""
    if sys.argv[1:2] == ["--sealed"]:
        return sealed(sys.argv[2:])
    order = json.loads(os.environ.pop(ORDER))
    scratch = tempfile.mkdtemp(prefix="phoenix-")
    try:
        result = supervise(order, str(Path.cwd()), scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    sys.stdout.write(f"\n{order['nonce']} {pack(result)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
