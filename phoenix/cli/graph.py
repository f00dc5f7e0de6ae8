"""`phoenix graph`: a flow as a Mermaid flowchart."""

from __future__ import annotations


async def print_graph(target: str) -> int:
    """Print a flow, `develop` or FILE:NAME."""
    import typer

    if ":" in target:
        from phoenix.workflows.loading import load_flow

        typer.echo(load_flow(target).flow.to_mermaid(), nl=False)
        return 0
    from phoenix.errors import NotFound
    from phoenix.workflows.develop import develop
    from phoenix.workflows.task import task

    drawings = {"develop": develop.to_mermaid, "task": task.to_mermaid}
    if target not in drawings:
        raise NotFound(f"There is no flow {target!r}.", hint="Give develop, task, or FILE:NAME.")
    typer.echo(drawings[target](), nl=False)
    return 0
