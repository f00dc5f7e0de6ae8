"""The pipeline algebra: typed steps, composed with `>>`, run durably by LangGraph."""

from phoenix.flow.algebra import Flow, Pipeline
from phoenix.flow.branch import branch_on
from phoenix.flow.cache import Cache, InMemoryCache, cached
from phoenix.flow.failure import is_transient, step_of
from phoenix.flow.feedback import Feedback
from phoenix.flow.forms import check_decision
from phoenix.flow.group import as_step
from phoenix.flow.hooks import Hooks
from phoenix.flow.human import approve, ask, wait
from phoenix.flow.loop import loop_until
from phoenix.flow.parallel import map_over, parallel
from phoenix.flow.pending import Pending, answer, pending
from phoenix.flow.rescue import fallback
from phoenix.flow.run import Item, Result, StepOutput, Waiting
from phoenix.flow.step import Step, step
from phoenix.flow.tracing import console_tracer
from phoenix.flow.verdict import Accept, Redirect, Reject, Replace

__all__ = [
    "Accept",
    "Cache",
    "Feedback",
    "Flow",
    "Hooks",
    "InMemoryCache",
    "Item",
    "Pending",
    "Pipeline",
    "Redirect",
    "Reject",
    "Replace",
    "Result",
    "Step",
    "StepOutput",
    "Waiting",
    "answer",
    "approve",
    "as_step",
    "ask",
    "branch_on",
    "cached",
    "check_decision",
    "console_tracer",
    "fallback",
    "is_transient",
    "loop_until",
    "map_over",
    "parallel",
    "pending",
    "step",
    "step_of",
    "wait",
]
