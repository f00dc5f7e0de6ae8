"""Options that several commands take. Only typer is imported here."""

from __future__ import annotations

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON lines, and nothing else, on stdout.")]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="MODEL",
        help="provider:model, an alias of the catalogue or auto, or recorded:FILE to replay a recording; "
        "chaos:RATE: before it rehearses faults.",
    ),
]
Budget = Annotated[
    str, typer.Option("--budget-usd", metavar="USD", help="Stop when model calls cost this much.")
]
BudgetTokens = Annotated[
    int | None,
    typer.Option("--budget-tokens", metavar="N", min=1, help="Stop at so many tokens, in and out together."),
]
BudgetCalls = Annotated[
    int | None, typer.Option("--budget-calls", metavar="N", min=1, help="Stop at so many model calls.")
]
BudgetMinutes = Annotated[
    int | None,
    typer.Option(
        "--budget-minutes", metavar="N", min=1, help="Stop after so many minutes, without those of people."
    ),
]
Approvals = Annotated[
    str,
    typer.Option(
        "--approve",
        metavar="POLICY",
        help="A level: manual (every gate), ask (all but merges), guarded (what matters), auto (none); or "
        "the gates to ask: questions,spec,plan,merge,delivery,budget.",
    ),
]
Record = Annotated[
    str, typer.Option("--record", metavar="FILE", help="Record the model's traffic to a file.")
]
AT_HELP = "A checkpoint's id, or a step: spec, plan, build, ... is the last checkpoint before it."
ProbePort = Annotated[
    int | None,
    typer.Option(
        "--probe-port",
        metavar="PORT",
        min=0,
        max=65535,
        help="Answer /livez, /readyz and /metrics; for operators alone.",
    ),
]
Detach = Annotated[bool, typer.Option("--detach", help="Print its id and leave the work to workers.")]
Concurrency = Annotated[
    int | None,
    typer.Option("--concurrency", metavar="N", min=1, max=1000, help="Runs to work on at once."),
]
Queues = Annotated[
    list[str] | None,
    typer.Option("--queues", metavar="NAME,...", help="Take runs of these queues only; else of all known."),
]
Flows = Annotated[
    list[str] | None,
    typer.Option("--flow", metavar="FILE:NAME", help="Take runs of this flow too; may be given again."),
]
Server = Annotated[
    str,
    typer.Option("--server", metavar="URL", help="The service to speak to; else one in this process."),
]
ProjectId = Annotated[str, typer.Argument(metavar="ID", help="A project's id, or its beginning.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Change the model catalogue or the options of workflows, such as models.cache_hours=1 or "
        "workflows.task.rounds=5; may be given again.",
    ),
]
