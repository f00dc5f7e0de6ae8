"""`phoenix graph`: a flow as a Mermaid flowchart."""

from __future__ import annotations

from typing import Any


async def print_graph(target: str) -> int:
    """Print a flow, `develop` or FILE:NAME."""
    import typer

    if ":" in target:
        from phoenix.workflows.loading import load_flow

        typer.echo(load_flow(target).flow.to_mermaid(), nl=False)
        return 0
    from phoenix.errors import NotFound
    from phoenix.flow import Flow
    from phoenix.workflows.develop import develop
    from phoenix.workflows.task import task

    flows: dict[str, Flow[Any, Any]] = {"develop": develop, "task": task}
    if target not in flows:
        raise NotFound(f"There is no flow {target!r}.", hint="Give develop, task, or FILE:NAME.")
    typer.echo(flows[target].to_mermaid(), nl=False)
    return 0
