"""Send generated requests, fitting and not, to a running service: no 5xx, no answer that is not described.

    python benchmarks/api_fuzz.py                # at least 20,000 cases in all; exits 0 only when all pass

The service runs in a process of its own over an embedded database, without a worker. schemathesis makes the
requests from the service's own description, in its positive and its negative mode.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

CASES = 20_000
UNBOUNDED = "1000000000/minute"
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
LEFT_OUT = "stream|sign-out"
"""Streams do not end, and the key that all requests are made with would be revoked."""
START_SECONDS = 90


@dataclass(frozen=True)
class Outcome:
    """What a run of schemathesis found."""

    mode: str
    seed: int
    cases: int
    passed: int
    code: int


def start(home: Path) -> tuple[subprocess.Popen[str], str, str]:
    """Start the service, and return its process, its URL and the first administrator's key."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PHOENIX_HOME": str(home / "phoenix"),
        "PHOENIX_PORT": "0",
        "PHOENIX_WORK": "0",
        "PHOENIX_SANDBOX": "host",
        "PHOENIX_RATE_LIMIT": UNBOUNDED,
        "PHOENIX_SIGN_IN_LIMIT": UNBOUNDED,
        "PHOENIX_ROUTE_LIMITS": "{}",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "phoenix.main"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said, until = "", time.monotonic() + START_SECONDS
    while time.monotonic() < until and (line := process.stderr.readline()):
        said += line
        served, key = re.search(r"serving (http://\S+)", said), re.search(r"phx_key_\S+", said)
        if served and key:
            return process, served[1], key[0]
    process.kill()
    raise SystemExit(f"The service did not start:\n{said}")


def prepare(url: str, key: str, folder: Path) -> None:
    """Make something that requests can name, so that not all of them find nothing."""
    made = {}
    launch = {"requirement": "Count words.", "model": "openai:none"}
    for name, body in (("projects", launch), ("templates", {"name": "counter", "launch": launch})):
        request = urllib.request.Request(
            f"{url}/api/v1/{name}",
            data=json.dumps(body).encode(),
            headers={"X-API-Key": key, "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            made[name] = json.load(answer)["id"]
    lines = [f'"path.{name[:-1]}_id" = "{found}"' for name, found in made.items()]
    (folder / "schemathesis.toml").write_text("\n".join(["[parameters]", *lines, ""]))


def fuzz(url: str, key: str, mode: str, seed: int, examples: int, folder: Path) -> Outcome:
    """Run schemathesis once, and print what it found wrong."""
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        *("run", f"{url}/api/v1/openapi.json"),
        *("--header", f"X-API-Key: {key}", "--mode", mode, "--max-examples", str(examples)),
        *("--phases", "examples,coverage,fuzzing", "--exclude-path-regex", LEFT_OUT, "--checks", CHECKS),
        *("--request-timeout", "30", "--seed", str(seed), "--workers", "1"),
        *("--generation-database", "none", "--suppress-health-check", "all"),
        # Else it sends a token of its own beside the key.
        *("--generation-with-security-parameters", "false"),
    ]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    counts = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    if done.returncode or not counts:
        print(done.stdout[-12_000:], done.stderr[-2000:], file=sys.stderr)
    cases, passed = (int(counts[1]), int(counts[2])) if counts else (0, 0)
    return Outcome(mode, seed, cases, passed, done.returncode)


def main() -> int:
    """Run until enough cases were made in both modes; return 0 when all passed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=CASES, help="how many at least, in both modes together")
    parser.add_argument("--examples", type=int, default=100, help="of each operation in a run")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    total, seed, is_good = 0, given.seed, True
    with tempfile.TemporaryDirectory() as folder:
        process, url, key = start(Path(folder))
        prepare(url, key, Path(folder))
        reading = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
        try:
            while is_good and total < given.cases:
                for mode in ("positive", "negative"):
                    outcome = fuzz(url, key, mode, seed, given.examples, Path(folder))
                    print(f"{mode:9} seed {seed}: {outcome.cases} cases, {outcome.passed} passed", flush=True)
                    total += outcome.cases
                    is_good = is_good and outcome.code == 0 and outcome.cases == outcome.passed > 0
                seed += 1
            is_good = is_good and process.poll() is None
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            reading.kill()
            reading.wait()
    print(f"{total} cases: {'no 5xx, and every answer is described' if is_good else 'FAILED'}")
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
