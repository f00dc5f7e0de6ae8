"""Which parts of this machine's system a sandbox may see, read-only."""

from __future__ import annotations

import sys
from pathlib import Path

from phoenix.errors import SandboxUnavailable

# Nothing here is secret: no shadow, no private keys, no machine id, no host names.
ETC = (
    "alternatives",
    "ca-certificates",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "os-release",
    "pki/ca-trust",
    "pki/tls/certs",
    "protocols",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
    "timezone",
)
_SHARED = frozenset(Path(p) for p in ("/", "/home", "/root", "/tmp", "/opt", "/var", "/srv"))  # noqa: S108


def python_roots() -> list[str]:
    """Return where the running Python lives when that is not part of the read-only system.

    Raises:
        SandboxUnavailable: it is installed right in a home folder or in /, which cannot be shown.
    """
    prefix = Path(sys.base_prefix)
    roots = [str(p) for p in dict.fromkeys((prefix, prefix.resolve())) if not p.is_relative_to("/usr")]
    closed = _SHARED | {Path.home(), Path.home().resolve()}
    if any(Path(p) in closed for p in roots):
        raise SandboxUnavailable(
            f"Python is installed in {prefix}, which holds more than Python.",
            hint="Use a Python with a folder of its own.",
        )
    return roots
