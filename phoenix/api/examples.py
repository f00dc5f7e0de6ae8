"""Examples of what goes in and comes out, put into the OpenAPI description by the names of its schemas."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

JSON = "application/json"
PAGE = "Page_"

AT, LATER = "2026-03-02T09:30:00Z", "2026-03-02T10:05:00Z"
DIGEST = "sha256:" + "3b5d" * 16
COMMIT = "9f2c" * 10
ORGANISATION = "00000000-0000-0000-0000-000000000001"
USER, OTHER = "6f1d2c7a-0b3e-4f0a-9a51-2d8f3a7c1e01", "6f1d2c7a-0b3e-4f0a-9a51-2d8f3a7c1e02"
PROJECT_ID, RUN_ID = "41c7be02-5d7b-4c5e-8f63-0a9d1b2c3d01", "41c7be02-5d7b-4c5e-8f63-0a9d1b2c3d02"
APPROVAL_ID, TEMPLATE_ID = "8a6e4f10-7c2d-4e3b-b1a0-5c6d7e8f9a01", "8a6e4f10-7c2d-4e3b-b1a0-5c6d7e8f9a02"
WEBHOOK_ID, DELIVERY_ID = "8a6e4f10-7c2d-4e3b-b1a0-5c6d7e8f9a03", "8a6e4f10-7c2d-4e3b-b1a0-5c6d7e8f9a04"
KEY_ID = "8a6e4f10-7c2d-4e3b-b1a0-5c6d7e8f9a05"
CHECKPOINT = "1f0bd2f4-8c41-6d6a-8002-5f3e4ee0400b"

LAUNCH = {
    "requirement": "Rename photos by the date they were taken.",
    "model": "openai:gpt-5",
    "path": "auto",
}
TOOL_RULES = {
    "rules": [{"effect": "ask", "tool": "bash", "command": "git push *", "reason": "It publishes."}]
}
GATES = {"gates": {"delivery": {"role": "approver", "quorum": 2, "four_eyes": True}}}
PARAMETER = {"name": "language", "description": "What it is written in.", "default": "Python"}
SPEC = {
    "title": "Rename photos",
    "summary": "Renames the photos of a folder by the date they were taken.",
    "requirements": [
        {
            "id": "R1",
            "text": "Photos are renamed by the date they were taken.",
            "criteria": [{"id": "C1", "text": "A photo without a date keeps its name."}],
        }
    ],
    "request": DIGEST,
}
USAGE = {"calls": 12, "input_tokens": 48211, "output_tokens": 6034, "cost_usd": "0.1740"}
USER_ = {"id": USER, "email": "ada@example.org", "name": "Ada", "is_active": True, "created_at": AT}
PROJECT = {
    **LAUNCH,
    "id": PROJECT_ID,
    "title": "Rename photos",
    "approvals": "guarded",
    "organisation_id": ORGANISATION,
    "created_by": USER,
    "version": 1,
    "created_at": AT,
}
RUN = {
    "id": RUN_ID,
    "project_id": PROJECT_ID,
    "organisation_id": ORGANISATION,
    "thread_id": RUN_ID,
    "flow": "develop",
    "status": "waiting",
    "attempt": 1,
    "created_at": AT,
    "started_at": AT,
}
TASK_RUN = RUN | {"key": "build/1/T1", "flow": "task", "parent_id": RUN_ID, "status": "running"}
REQUEST = {
    "kind": "approve",
    "name": "spec",
    "value_digest": DIGEST,
    "value": SPEC,
    "answer_schema": {"type": "object"},
    "verdicts": ["approve", "edit", "reject"],
}
APPROVAL = {
    "id": APPROVAL_ID,
    "project_id": PROJECT_ID,
    "run_id": RUN_ID,
    "interrupt_id": "5b1f0c7d9e2a4386",
    "request": REQUEST,
    "created_at": LATER,
}
MOMENT = {
    "checkpoint": CHECKPOINT,
    "run_id": RUN_ID,
    "step": "specify",
    "next": ["spec"],
    "asks": ["spec"],
    "value": "Spec",
    "calls": 3,
    "cost_usd": "0.0312",
    "at": LATER,
}
SPAN = {
    "id": "00f067aa0ba902b7",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "parent_id": "b7ad6b7169203331",
    "run_id": RUN_ID,
    "attempt": 1,
    "kind": "step",
    "name": "large/specify",
    "began_at": AT,
    "ended_at": LATER,
    "status": "ok",
    "attributes": {"phoenix.step": "specify"},
}
MESSAGE = {
    "id": APPROVAL_ID,
    "project_id": PROJECT_ID,
    "seq": 1,
    "task": "T2",
    "text": "Keep it to the standard library.",
    "sent_by": "ada@example.org",
    "at": LATER,
}
KEY = {
    "id": KEY_ID,
    "organisation_id": ORGANISATION,
    "user_id": USER,
    "name": "ci",
    "scopes": ["develop", "read"],
    "created_at": AT,
    "expires_at": "2027-03-02T09:30:00Z",
}
ORGANISATION_ = {
    "id": ORGANISATION,
    "name": "default",
    "max_runs": None,
    "max_projects": 20,
    "max_usd_day": "25.0000",
    "version": 2,
    "created_at": AT,
}
TEMPLATE_LAUNCH = {"requirement": "A command-line tool in {{ language }} that renames photos."}
TEMPLATE = {
    "id": TEMPLATE_ID,
    "organisation_id": ORGANISATION,
    "name": "tool",
    "description": "A small command-line tool.",
    "launch": TEMPLATE_LAUNCH,
    "parameters": [PARAMETER],
    "version": 1,
    "created_by": USER,
    "created_at": AT,
    "updated_at": AT,
}
WEBHOOK = {
    "id": WEBHOOK_ID,
    "organisation_id": ORGANISATION,
    "url": "https://hooks.example.org/phoenix",
    "kinds": ["approval_requested", "project_finished"],
    "digest_every": "daily",
    "active": True,
    "created_by": USER,
    "created_at": AT,
}
NEW_WEBHOOK = {name: WEBHOOK[name] for name in ("url", "kinds", "digest_every")}
VERSION = "0.1.0"

MEMORY_ID = "8a6e4f10-7c2d-4e3b-b1a0-5c6d7e8f9a20"
MEMORY: Mapping[str, Any] = {
    "id": MEMORY_ID,
    "kind": "debugging",
    "text": "Dates in EXIF have no zone: compare them as they are, and sort by name where they are equal.",
    "tags": ["exif", "dates"],
    "language": "python",
    "licence": "MIT",
    "origin": "own",
    "project_id": "8a6e4f10-7c2d-4e3b-b1a0-5c6d7e8f9a01",
    "commit": "5f1c3f3c0f6f4c8f0d5f5b7b8a9c0d1e2f3a4b5c",
    "agent": "retrospect",
    "pinned": False,
    "helped": 3,
    "failed": 1,
    "version": 1,
    "created_at": "2026-11-28T09:00:00Z",
    "recalled_at": None,
    "expires_at": None,
}

REQUESTS: Mapping[str, Any] = {
    "SignIn": {"email": "ada@example.org", "password": "correct horse battery staple"},  # nosec B105
    "Refresh": {"refresh_token": "phx_refresh_8a6e4f107c2d4e3bb1a05c6d7e8f9a05_..."},  # nosec B105
    "NewMember": {"email": "ada@example.org", "name": "Ada", "role": "developer"},
    "NewRole": {"role": "approver"},
    "NewKey": {"name": "ci", "scopes": ["read", "develop"], "expires_at": "2099-12-31T00:00:00Z"},
    "Quotas": {"max_projects": 20, "max_usd_day": "25"},
    "MemoryChange": {"text": "Write CSV files with newline=''.", "pinned": True},
    "Brought": {
        "items": [
            {"kind": "pattern", "text": "Read EXIF dates with Pillow.", "language": "python", "origin": "own"}
        ]
    },
    "Pruning": {"older_than_days": 30, "dry_run": True},
    "NewProject": LAUNCH | {"approvals": "guarded", "budget_usd": "5"},
    "Change": {"title": "Rename photos by date", "priority": 10, "approvals": "manual"},
    "Pause": {"reason": "Until the style guide is there."},
    "Resume": {"budget_usd": "10"},
    "NewMessage": {"text": "Keep it to the standard library.", "task": "T2"},
    "NewRules": {"rules": TOOL_RULES},
    "NewFork": {"at": "plan", "title": "Another try", "reuse": True},
    "NewTemplate": {"name": "tool", "launch": TEMPLATE_LAUNCH, "parameters": [PARAMETER]},
    "TemplateChange": {"description": "A small command-line tool."},
    "Values": {"parameters": {"language": "Go"}},
    "NewDecision": {
        "verdict": "reject",
        "digest": DIGEST,
        "reason": "C1 does not say what happens to videos.",
    },
    "GateRules": GATES,
    "NewWebhook": NEW_WEBHOOK,
    "WebhookChange": {"active": True, "digest_every": "hourly"},
    "Rotation": {"overlap_hours": 24},
}
"""What fits each body, by the name of its schema. A new body needs a line here."""

ANSWERS: Mapping[str, Any] = {
    "SpanPage": {"items": [SPAN], "next": None, "counts": {"kept": 1}},
    "MemoryItem": MEMORY,
    "Searched": {
        "hits": [{"item": MEMORY, "why": "close in meaning; words: dates", "score": 0.031}],
        "missed": "",
    },
    "MemoryReport": {
        "recalling": {"projects": 9, "tasks": 31, "first_try": 0.81, "calls": 22.5, "cost_usd": 0.42},
        "held_out": {"projects": 1, "tasks": 4, "first_try": 0.75, "calls": 25.0, "cost_usd": 0.5},
        "said": "Too few projects: 9 with memory and 1 without; 10 of each are the least that say anything.",
    },
    "Written": {"stored": [MEMORY_ID], "known": 1, "masked": 0},
    "Forgotten": {"ids": [MEMORY_ID]},
    "Rebuilt": {"items": 412, "embedder": "hashed"},
    "Session": {
        "access_token": "eyJhbGciOiJIUzI1NiIsImtpZCI6Im9uZSJ9...",  # nosec B105
        "refresh_token": "phx_refresh_8a6e4f107c2d4e3bb1a05c6d7e8f9a05_...",  # nosec B105
        "token_type": "Bearer",  # nosec B105
        "expires_in": 3600,
        "organisation_id": ORGANISATION,
    },
    "Me": {
        "user_id": USER,
        "email": "ada@example.org",
        "organisation_id": ORGANISATION,
        "role": "developer",
        "may": ["develop", "read"],
        "grants": {PROJECT_ID: "approver"},
    },
    "Member": {"user": USER_, "role": "developer"},
    "ApiKey": KEY,
    "MadeKey": {"key": KEY, "secret": "phx_key_8a6e4f107c2d4e3bb1a05c6d7e8f9a05_..."},  # nosec B105
    "Organisation": ORGANISATION_,
    "Standing": {"organisation": ORGANISATION_, "used": {"projects": 3, "usd_today": "4.2100"}},
    "UpkeepReport": {
        "projects": [
            {
                "project_id": PROJECT_ID,
                "title": "Rename photos",
                "finished_at": LATER,
                "database_bytes": 1310720,
                "disk_bytes": 5242880,
            }
        ],
        "has_more": False,
    },
    "UsageLine": {"key": "2026-03-02", "usage": USAGE},
    "Project": PROJECT,
    "Listed": {"project": PROJECT, "run": RUN, "usage": USAGE, "waiting_for": ["spec"]},
    "Overview": {
        "project": PROJECT,
        "run": RUN,
        "children": [],
        "approvals": [APPROVAL],
        "usage": USAGE,
        "artifacts": {"spec": SPEC},
    },
    "Task": {"key": "build/1/T1", "run": TASK_RUN},
    "Cost": {
        "total": USAGE,
        "shares": [{"agent": "coding", "model": "openai:gpt-5", "usage": USAGE}],
        "budget_usd": "5",
    },
    "Cancelled": {"kept": [{"what": "T1", "commit": COMMIT, "branch": "phoenix/41c7be02/T1"}]},
    "Message": MESSAGE,
    "SentMessage": {
        "message": MESSAGE,
        "reads": [{"run_id": RUN_ID, "agent": "coding", "task": "T2", "turn": 4, "at": LATER}],
    },
    "RulesInForce": {"service": TOOL_RULES, "organisation": None},
    "ToolDecision": {
        "id": APPROVAL_ID,
        "project_id": PROJECT_ID,
        "run_id": RUN_ID,
        "call": "call_1",
        "agent": "coding",
        "task": "T2",
        "tool": "bash",
        "arguments": {"command": "git push origin main"},
        "arguments_digest": DIGEST,
        "effect": "ask",
        "rule": "organisation: rule 1",
        "outcome": "approved",
        "by": "ada@example.org",
        "at": AT,
        "decided_at": LATER,
    },
    "CodeFile": {"path": "photos/rename.py", "kind": "file", "bytes": 1834},
    "Moment": MOMENT,
    "Looked": {"moment": MOMENT, "value": SPEC, "requests": [REQUEST]},
    "Template": TEMPLATE,
    "Workflow": {"name": "develop", "queue": "default", "steps": ["triage", "question", "specify"]},
    "Graph": {"name": "develop", "mermaid": "flowchart TD\n  triage --> question"},
    "Schemas": {
        "name": "develop",
        "input": {"type": "object"},
        "output": {"type": "object"},
        "steps": {"specify": {"input": {"type": "object"}, "output": {"type": "object"}}},
    },
    "Event": {
        "seq": 7,
        "project_id": PROJECT_ID,
        "run_id": RUN_ID,
        "kind": "approval_requested",
        "data": {"approval_id": APPROVAL_ID, "kind": "approve", "name": "spec"},
        "at": LATER,
    },
    "SeenApproval": APPROVAL | {"needed": {"role": "approver", "users": [], "votes": 1}, "may_decide": True},
    "Digest": {
        "count": 1,
        "oldest_seconds": 340.5,
        "next_deadline_at": None,
        "waiting": [
            {
                "project_id": PROJECT_ID,
                "title": "Rename photos",
                "gate": "spec",
                "count": 1,
                "oldest_seconds": 340.5,
                "next_deadline_at": None,
            }
        ],
    },
    "GateRules": GATES,
    "AuditEntry": {
        "id": 41,
        "organisation_id": ORGANISATION,
        "at": LATER,
        "actor_id": USER,
        "actor": "ada@example.org",
        "action": "approval.decide",
        "object_id": APPROVAL_ID,
        "data": {"gate": "spec", "verdict": "approve"},
        "request_id": "3210b67e3a40fb63",
    },
    "Verdict": {"checked": 412, "broken_at": None, "why": "", "last_hash": "3b5d" * 16},
    "Worker": {
        "key": 81234,
        "host": "worker-1",
        "pid": 17,
        "version": VERSION,
        "queues": ["default"],
        "concurrency": 8,
        "running": 3,
        "state": "active",
        "started_at": AT,
        "heartbeat_at": LATER,
        "heartbeat_age_seconds": 0.8,
    },
    "Webhook": WEBHOOK,
    "MadeWebhook": {"webhook": WEBHOOK, "secret": "whsec_..."},  # nosec B105
    "WebhookDelivery": {
        "id": DELIVERY_ID,
        "webhook_id": WEBHOOK_ID,
        "type": "approval_requested",
        "status": "delivered",
        "attempts": 1,
        "response_status": 204,
        "log": [{"at": LATER, "status": 204, "seconds": 0.12}],
        "payload": {"type": "approval_requested", "project_id": PROJECT_ID},
        "created_at": LATER,
    },
    "Alive": {"version": VERSION},
    "Ready": {
        "version": VERSION,
        "workers": 2,
        "due": 0,
        "oldest_due_seconds": 0.0,
        "is_progressing": True,
        "wall": "role",
    },
}
"""What is answered, by the name of its schema; of lists and pages, what one item is."""

OTHERS: Mapping[str, Any] = {"get /projects/{project_id}/documents/{kind}": SPEC}
"""Answers whose schema has no name, by method and path."""


def put_examples(document: dict[str, Any], prefix: str) -> None:
    """Put an example at every JSON body and answer of a description that there is one for.

    Args:
        document: The description; changed in place.
        prefix: What stands before the paths as `OTHERS` has them.
    """
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            _put(operation.get("requestBody", {}), REQUESTS)
            other = OTHERS.get(f"{method} {path.removeprefix(prefix)}")
            for status, answer in operation["responses"].items():
                if status.startswith("2"):
                    _put(answer, ANSWERS, other)


def _put(part: dict[str, Any], examples: Mapping[str, Any], other: Any = None) -> None:
    """Put an example at the JSON of a body or an answer; `other` is one for a schema without a name."""
    media = part.get("content", {}).get(JSON, {})
    schema = media.get("schema", {})
    name = _named(schema)
    if schema and other is not None:
        media["example"] = other
    elif schema.get("type") == "array" and _named(schema["items"]) in examples:
        media["example"] = [examples[_named(schema["items"])]]
    elif name in examples:
        media["example"] = examples[name]
    elif name.startswith(PAGE) and (one := name.removeprefix(PAGE).removesuffix("_")) in examples:
        media["example"] = {"items": [examples[one]], "next": None}


def _named(schema: Mapping[str, Any]) -> str:
    return str(schema.get("$ref", "")).rpartition("/")[2]
