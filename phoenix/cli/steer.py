"""`phoenix watch`, `pause`, `message` and `cancel`: a project that workers elsewhere work on."""

from __future__ import annotations

from dataclasses import replace

from phoenix.cli.output import print_json, say, summary_of


async def watch(prefix: str, *, server: str = "", as_json: bool = False) -> int:
    """Follow a project without working on it, and return the exit code of how it stands at the end."""
    from phoenix.cli.connection import open_connection
    from phoenix.cli.follow import Follower, stands_still
    from phoenix.cli.screen import open_screen
    from phoenix.cli.session import asker_of, end, first_view, open_settings
    from phoenix.cli.work import hint_at_workers
    from phoenix.domain.run import FINISHED

    async with open_connection(open_settings(server=server), execution=False) as connection:
        overview = await connection.client.find(prefix)
        project = overview.project
        screen = open_screen(as_json=as_json, output_only=":" in overview.run.flow)
        follower = Follower(connection, project, screen, asker_of(screen))
        view = await follower.past(first_view(connection, project))
        still = overview.run.status in FINISHED or (follower.asker is None and stands_still(overview))
        if project.paused_at is not None and overview.run.status not in FINISHED:
            return end(replace(view, status="paused"), overview, as_json=as_json)
        if still and overview.run.status not in FINISHED:
            view = replace(view, status="waiting")
        if not still:
            await hint_at_workers(connection)
            view = await follower.follow(view)
            overview = await connection.client.overview(project.id)
    return end(view, overview, as_json=as_json)


async def pause(prefix: str, *, reason: str = "", server: str = "", as_json: bool = False) -> int:
    """Pause a project: its steps that run are finished, and nothing more is begun."""
    from phoenix.cli.connection import open_connection
    from phoenix.cli.session import open_settings

    async with open_connection(open_settings(server=server), execution=False) as connection:
        project = (await connection.client.find(prefix)).project
        await connection.client.pause(project.id, reason=reason)
    short = str(project.id)[:8]
    say(f"paused: {project.title} ({short}); steps that run are finished first")
    say(f"hint: Let it go on with: phoenix resume {short}")
    if as_json:
        print_json(summary_of(str(project.id), "paused"))
    return 0


async def message(prefix: str, text: str, *, task: str = "", server: str = "", as_json: bool = False) -> int:
    """Say something to a project's agents."""
    from phoenix.cli.connection import open_connection
    from phoenix.cli.new import read_text
    from phoenix.cli.session import open_settings

    said = read_text(text) if text == "-" else text
    async with open_connection(open_settings(server=server), execution=False) as connection:
        project = (await connection.client.find(prefix)).project
        sent = await connection.client.message(project.id, said, task=task)
    to = f"the agents of {task}" if task else "all agents"
    say(f"sent to {to} of {project.title} ({str(project.id)[:8]}); each reads it before its next model call")
    if as_json:
        print_json(sent.model_dump(mode="json"))
    return 0


async def cancel(prefix: str, *, server: str = "", as_json: bool = False) -> int:
    """Cancel a project and all its tasks."""
    from phoenix.cli.connection import open_connection
    from phoenix.cli.session import open_settings

    async with open_connection(open_settings(server=server), execution=False) as connection:
        project = (await connection.client.find(prefix)).project
        kept = await connection.client.cancel(project.id)
        status = (await connection.client.overview(project.id)).run.status
    said = "cancelled" if status == "cancelled" else f"was over already ({status})"
    short = str(project.id)[:8]
    say(f"{said}: {project.title} ({short})")
    for one in kept:
        say(f"kept: {one.what} is commit {one.commit[:12]}{f' on branch {one.branch}' if one.branch else ''}")
    if not kept:
        say("kept: its documents; nothing was committed yet")
    if status == "cancelled":
        say(f"hint: Unfinished work stays in its checkpoints for a while: phoenix history {short} --all")
    if as_json:
        print_json(summary_of(str(project.id), status) | {"kept": [one.model_dump() for one in kept]})
    return 0
