"""How long `phoenix --help` takes, beside Python alone and Python with typer imported.

Run it on an idle machine: python benchmarks/cli_help.py
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 15
PEERS = {
    "python -c pass": ["-c", "pass"],
    "import typer": ["-c", "import typer"],
    "phoenix --help": ["-m", "phoenix", "--help"],
}
TARGET_SECONDS = 0.4


def seconds(arguments: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    # Taken in turns, so that a busy moment of the machine falls on all alike.
    taken: dict[str, list[float]] = {name: [] for name in PEERS}
    for _ in range(RUNS):
        for name, arguments in PEERS.items():
            taken[name].append(seconds(arguments))
    middle = {name: statistics.median(times) for name, times in taken.items()}
    for name, value in middle.items():
        print(f"{name:16} median {value:.3f} s   best {min(taken[name]):.3f} s")
    help_seconds, typer_seconds = middle["phoenix --help"], middle["import typer"]
    print(f"ratio to `import typer`: {help_seconds / typer_seconds:.2f}")
    print(f"under {TARGET_SECONDS} s: {'yes' if help_seconds < TARGET_SECONDS else 'no'}")


if __name__ == "__main__":
    main()
