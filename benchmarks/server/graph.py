"""The graph that every server runs: ten steps, each adding one. Peers load this file by its path."""

from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph

STEPS = 10


class State(TypedDict):
    """One number."""

    value: int


async def add_one(state: State) -> State:
    return {"value": state["value"] + 1}


def build() -> StateGraph[Any, Any, Any, Any]:
    """Return the graph, not yet compiled."""
    built = StateGraph(State)
    names = [f"step{n}" for n in range(STEPS)]
    for name in names:
        built.add_node(name, add_one)
    for before, after in zip([START, *names], [*names, END], strict=True):
        built.add_edge(before, after)
    return built


graph = build().compile()
