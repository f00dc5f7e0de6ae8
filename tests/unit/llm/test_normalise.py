"""What counts as the same tool result on another day, machine and Python."""

from __future__ import annotations

import time

import pytest

from phoenix.llm.normalise import normalise, tool_digests

SAME = {
    "duration": ("3 passed in 0.03s", "3 passed in 12.48s"),
    "long duration": ("3 passed in 61.20s (0:01:01)", "3 passed in 2.10s"),
    "frame": ("===== 3 passed in 0.03s =====", "==== 3 passed in 10.03s ===="),
    "python": (
        "platform linux -- Python 3.11.7, pytest-8.3.4, pluggy-1.5.0",
        "platform linux -- Python 3.13.1, pytest-9.0.1, pluggy-1.6.0",
    ),
    "rootdir": ("rootdir: /w/a\nok", "rootdir: /other\nok"),
    "plugins": ("plugins: anyio-4\ncollected 1 item", "collected 1 item"),
    "carets": ("    f(1)\n    ~^^^\nError", "    f(1)\n    ^^^^\nError"),
    "no carets": ("    f(1)\n    ^^^^\nError", "    f(1)\nError"),
    "stdlib": (
        'File "/usr/lib/python3.11/json/decoder.py", line 355, in raw_decode',
        'File "/opt/lib/python3.13/json/decoder.py", line 361, in raw_decode',
    ),
    "address": ("<Foo object at 0x7f83fb727d90>", "<Foo object at 0x55d0c3a1b2c0>"),
    "temporary path": ("wrote /tmp/pytest-of-me/pytest-0/a.db", "wrote /tmp/tmpx8s_1/a.db"),
    "uuid": ("id 6f1c0b1e-2b0a-4c57-9d0e-0c4b1a2f3e4d", "id 00000000-2b0a-4c57-9d0e-0c4b1a2f3e4d"),
    "moment": ("at 2026-01-02T03:04:05.678Z", "at 2027-11-12 13:14:15"),
    "http date": ("Date: Fri, 20 Nov 2026 18:30:32 GMT", "Date: Sat, 21 Nov 2026 08:30:32 GMT"),
    "commit": ("commit " + "a1" * 20, "commit " + "b2" * 20),
    "short commit": ("a1b2c3d Fix it", "0f0e0d0 Fix it"),
    "pid": ("started, pid 123", "started, pid 40211"),
    "port": ("on 127.0.0.1:43211", "on 127.0.0.1:51002"),
    "ls": ("-rw-r--r-- 1 root root 12 Nov 20 18:30 a.py", "-rw-rw-r-- 1 me me 12 Jan  2  2025 a.py"),
    "interpreter": ("/usr/bin/python3.11: No module named x", "/opt/venv/bin/python: No module named x"),
}

DIFFERENT = {
    "count": ("3 passed in 0.03s", "2 passed, 1 failed in 0.03s"),
    "number": ("total: 15", "total: 16"),
    "day": ("due 2026-01-02", "due 2026-01-03"),
    "line": ('File "app.py", line 3', 'File "app.py", line 4'),
    "word": ("feedbee went home", "decade went home"),
    "steps": ("done in 3 steps", "done in 4 steps"),
    "fixed port": ("on 127.0.0.1:8000", "on 127.0.0.1:8080"),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME.keys())
def test_what_differs_between_two_runs_is_the_same(one: str, other: str) -> None:
    """Times, places and the running Python do not matter."""
    assert normalise(one) == normalise(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT.keys())
def test_what_the_work_produced_stays_different(one: str, other: str) -> None:
    """Results that mean something else stay apart."""
    assert normalise(one) != normalise(other)


@pytest.mark.parametrize(
    "piece", [" ", "/a", "a ", "~ ^ ", "1", "a1", "/tmp/", "-", "_", "E ", "12:", "\t\n", "1 s "]
)
def test_hostile_output_takes_no_time(piece: str) -> None:
    """A tool may print anything: no rule may need quadratic time."""
    text = piece * (60_000 // len(piece)) + "x"
    started = time.process_time()
    normalise(text)
    assert time.process_time() - started < 0.5


def test_a_reworded_tool_is_the_same_tool() -> None:
    """Descriptions and titles do not count; parameters do, also one that is named title."""

    def digests(description: str, parameter: str) -> dict[str, str]:
        schema = {"type": "object", "properties": {parameter: {"type": "string", "description": description}}}
        return tool_digests(
            [{"function": {"name": "bash", "description": description, "parameters": schema}}]
        )

    assert digests("Run it.", "title") == digests("Execute it.", "title")
    assert digests("Run it.", "title") != digests("Run it.", "description")
