"""to_mermaid: the drawing parses, and its edges are the flow's."""

from __future__ import annotations

import re
from typing import Any

import pytest

from phoenix.flow import Flow, approve, ask, branch_on, fallback, loop_until, map_over, parallel, step, wait
from tests.unit.flow.steps import Reply, double, gathered, inc, show, total, upto

NODE = re.compile(r'^    (n\d+)(\["|\{"|\[/"|\[\["|\(\[")([^"<>\n]+)("\]|"\}|"/\]|"\]\]|"\]\))$')
EDGE = re.compile(r'^    (n\d+) --?\.?->(?:\|"([^"<>|\n]+)"\|)? (n\d+)$')


def parse(flow: Flow[Any, Any]) -> tuple[dict[str, str], set[tuple[str, str, str]]]:
    """Parse a flowchart by the grammar Mermaid documents; return texts by id, and edges."""
    head, *lines = flow.to_mermaid().splitlines()
    assert head == "flowchart TD"
    nodes: dict[str, str] = {}
    edges: set[tuple[str, str, str]] = set()
    for line in lines:
        if found := NODE.match(line):
            nodes[found[1]] = found[3]
        elif found := EDGE.match(line):
            edges.add((found[1], found[2] or "", found[3]))
        else:
            pytest.fail(f"not Mermaid: {line!r}")
    assert {n for a, _, b in edges for n in (a, b)} == set(nodes)
    return nodes, {(nodes[a], label, nodes[b]) for a, label, b in edges}


def positive(x: int) -> bool:
    return x > 0


def test_a_sequence_goes_from_start_to_end() -> None:
    """Steps stand in their order."""
    _, edges = parse(inc >> show)
    assert edges == {("start", "", "inc"), ("inc", "", "show"), ("show", "", "end")}


def test_a_loops_edge_enters_the_first_step_of_its_body() -> None:
    """Not the one before the loop, nor the last."""
    _, edges = parse(upto >> total >> loop_until(positive, inc >> double, cap=3) >> show)
    assert ("until positive", "again, at most 3", "inc") in edges
    assert ("total", "", "inc") in edges
    assert ("until positive", "done", "show") in edges


def test_a_loop_that_begins_with_a_construct_enters_that() -> None:
    """The first thing of the body may be a choice or a fork."""
    _, edges = parse(loop_until(positive, parallel(a=inc, b=double) >> gathered, cap=3))
    assert ("until positive", "again, at most 3", "parallel") in edges


def test_every_construct_is_drawn() -> None:
    """Nested steps appear like top ones."""
    flow = (
        inc
        >> branch_on(str, a=loop_until(positive, parallel(x=inc, y=double) >> gathered, cap=2), default=inc)
        >> upto
        >> map_over(fallback(double, inc))
        >> total
        >> approve("gate", revise=show)
        >> wait("children")
        >> ask("why", answer=Reply)
    )
    nodes, edges = parse(flow)
    assert {"approve gate", "ask why", "wait children", "map double", "parallel"} <= set(nodes.values())
    assert ("approve gate", "reject", "show") in edges
    assert ("show", "", "approve gate") in edges
    assert ("double", "on failure", "inc") in edges
    assert ("str", "otherwise", "inc") in edges


def test_names_cannot_break_the_drawing() -> None:
    """Quotes, brackets and line breaks are escaped."""

    @step(name='odd "name" <b>[x]|{y}\n#1')
    async def odd(x: int) -> int:
        return x

    parse(inc >> odd)
