"""Flows as Mermaid flowcharts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from phoenix.flow.algebra import Flow

Shape = Literal["step", "choice", "human", "fork", "end"]
_BRACKETS: dict[Shape, tuple[str, str]] = {
    "step": ('["', '"]'),
    "choice": ('{"', '"}'),
    "human": ('[/"', '"/]'),
    "fork": ('[["', '"]]'),
    "end": ('(["', '"])'),
}


@dataclass(frozen=True)
class Source:
    """An end of a drawn part: edges to what follows leave from here."""

    node: str
    label: str = ""


@dataclass
class Drawing:
    """A flowchart being drawn. Node ids are n0, n1, ... so that any name is legal."""

    lines: list[str] = field(default_factory=list)
    count: int = 0

    def node(self, text: str, sources: list[Source], shape: Shape = "step") -> str:
        """Draw a node with an edge from each source, and return its id."""
        node = f"n{self.count}"
        self.count += 1
        start, end = _BRACKETS[shape]
        self.lines.append(f"    {node}{start}{_escape(text)}{end}")
        for source in sources:
            self.edge(source, node)
        return node

    def edge(self, source: Source, node: str, *, dotted: bool = False) -> None:
        """Draw an edge, labelled when the source is."""
        arrow = "-.->" if dotted else "-->"
        label = f'|"{_escape(source.label)}"|' if source.label else ""
        self.lines.append(f"    {source.node} {arrow}{label} {node}")

    @property
    def following(self) -> str:
        """The id that the next node will have."""
        return f"n{self.count}"


def _escape(text: str) -> str:
    for found, shown in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;"), ("\n", " ")):
        text = text.replace(found, shown)
    return text


def draw_mermaid(flow: Flow[Any, Any]) -> str:
    """Return a flow as a flowchart from start to end."""
    drawing = Drawing()
    start = drawing.node("start", [], "end")
    drawing.node("end", flow.draw(drawing, [Source(start)]), "end")
    return "\n".join(["flowchart TD", *drawing.lines]) + "\n"
