"""Steps of the image's build: the hash-pinned requirements of extras, and the programs of the environment."""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def packages_of(lock: dict[str, Any], extras: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the locked packages that only these extras need.

    Raises:
        SystemExit: the lock file knows no such extra.
    """
    known = lock.get("extras", {})
    for name in extras:
        if name not in known:
            raise SystemExit(f"There is no extra {name!r}. Known: {', '.join(sorted(known))}.")
    for package in lock["package"]:
        markers = str(package.get("markers", ""))
        if package.get("optional") and any(f'extra == "{name}"' in markers for name in extras):
            yield package


def requirement_of(package: dict[str, Any]) -> str:
    """Return a requirement with all its hashes."""
    hashes = "".join(f" \\\n    --hash={file['hash']}" for file in package["files"])
    return f"{package['name']}=={package['version']}{hashes}"


def install(root: Path) -> None:
    """Let an environment find the code beside it, and give it the command `phoenix`."""
    site = next(root.glob("lib/python3.*/site-packages"))
    (site / "phoenix-app.pth").write_text(f"{root / 'app'}\n")
    program = root / "bin" / "phoenix"
    program.write_text(f"#!{root}/bin/python\nfrom phoenix.cli.app import main\n\nmain()\n")
    program.chmod(0o755)


def main() -> None:
    """Run the step that the arguments name: `LOCK EXTRA...`, or `--install FOLDER`."""
    if sys.argv[1] == "--install":
        install(Path(sys.argv[2]))
        return
    lock = tomllib.loads(Path(sys.argv[1]).read_text("utf-8"))
    for package in packages_of(lock, sys.argv[2:]):
        sys.stdout.write(requirement_of(package) + "\n")


if __name__ == "__main__":
    main()
