"""The service answers as it describes itself, whatever it is sent."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

from phoenix.settings import Settings
from tests.e2e.test_up import up

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
UNBOUNDED = "1000000/minute"


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["positive", "negative"])
async def test_no_request_breaks_the_service(settings: Settings, mode: str, tmp_path: Path) -> None:
    """Generated requests, fitting and not: no 5xx, no status, type or body that is not described."""
    rates = {"PHOENIX_RATE_LIMIT": UNBOUNDED, "PHOENIX_SIGN_IN_LIMIT": UNBOUNDED, "PHOENIX_WORK": "0"}
    rates["PHOENIX_ROUTE_LIMITS"] = "{}"
    async with up(settings, **rates) as service:
        fuzzing = await asyncio.create_subprocess_exec(
            *(str(Path(sys.executable).with_name("schemathesis")), "run"),
            f"{service.url}/api/v1/openapi.json",
            *("--header", f"X-API-Key: {service.key}", "--mode", mode, "--max-examples", "2"),
            *("--phases", "coverage,fuzzing", "--exclude-path-regex", "stream|sign-out", "--checks", CHECKS),
            *("--request-timeout", "20", "--seed", "1"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await fuzzing.communicate()
        said = output.decode()
    assert fuzzing.returncode == 0, said[-4000:]
    passed = re.search(r"(\d+) generated, (\d+) passed", said)
    assert passed, said[-2000:]
    assert passed[1] == passed[2]
    assert int(passed[1]) > 50
