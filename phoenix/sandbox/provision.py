"""Make the environments in which a project's code runs: its declared wheels, and pytest."""

from __future__ import annotations

import asyncio
import compileall
import fcntl
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import venv
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

import structlog

from phoenix.domain.execution import Environment
from phoenix.domain.frozen import digest_of
from phoenix.errors import ProvisionFailed
from phoenix.ports import Sandboxes
from phoenix.sandbox.declared import Declared, read_declared
from phoenix.sandbox.identity import Identity, install_identity, read_identity
from phoenix.sandbox.unused import mark_used, remove_unused

log = structlog.get_logger(__name__)

DOWNLOAD_SECONDS = 900.0
INSTALL_SECONDS = 300.0
TRY_SECONDS = 60.0
LOCK_POLL_SECONDS = 0.05
HARNESS = ("pytest", "pluggy", "iniconfig", "packaging", "pygments")
_MODULES = {
    "phoenix_harness.py": "harness_plugin.py",
    "phoenix_harness_run.py": "harness_runner.py",
    "phoenix_generated.py": "harness_generated.py",
}
_RECORD = "phoenix-environment.json"


class WheelProvisioner:
    """Installs declared wheels into cached virtual environments; implements the port `Provisioner`.

    The project itself is there by its metadata only: its code is the workspace's, found by PYTHONPATH.

    No code of a package runs on the host. Only wheels are taken (`--only-binary=:all:`): pip reads their
    metadata and unpacks them, while building a source archive would run its build script. What a wheel
    could make Python run at start (a `.pth` file, `sitecustomize`) acts only in the environment's own
    interpreter, which nothing starts on the host once wheels are in it.
    """

    def __init__(self, cache: Path, sandboxes: Sandboxes) -> None:
        self._cache = cache
        self._sandboxes = sandboxes

    async def provision(self, workspace: Path) -> Environment:
        """Return the environment for the workspace's declared dependencies; idempotent, cached.

        A project that declares none needs no network. When what only its tests need has no wheel, the
        environment is made without any of that, and its record says so.

        Raises:
            ProvisionFailed: something declared cannot be installed.
        """
        declared = await asyncio.to_thread(read_declared, workspace)
        identity = await asyncio.to_thread(read_identity, workspace)
        key = await asyncio.to_thread(_key, declared, identity)
        root = self._cache / key
        if not await asyncio.to_thread(_is_finished, root):
            async with _locked(self._cache / f"{key}.lock"):
                if not await asyncio.to_thread(_is_finished, root):
                    await self._build(root, declared, identity)
        await asyncio.to_thread(mark_used, root / _RECORD)
        return _environment(root)

    async def prune(self, *, unused_seconds: float, dry_run: bool = False) -> tuple[int, int]:
        """Remove environments nobody used for so long, a day at least; return how many, and their bytes."""
        return await asyncio.to_thread(
            remove_unused, self._cache, _RECORD, unused_seconds=unused_seconds, dry_run=dry_run
        )

    async def _build(self, root: Path, declared: Declared, identity: Identity | None) -> None:
        """Build beside the final place, rename, and record last: a killed build is never taken for one."""
        for reason in declared.ignored:
            log.warning("requirement_ignored", reason=reason)
        await asyncio.to_thread(_clear, root)
        made = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=self._cache))
        new = made / "environment"
        left_out: tuple[str, ...] = ()
        try:
            await asyncio.to_thread(_create, new)
            if declared.requirements:
                left_out = await _add_wheels(declared, new, made)
            await asyncio.to_thread(_finish, new, root, bool(declared.requirements), identity)
            await self._try(root, made)
            await asyncio.to_thread(_record, root, declared, left_out, identity)
        finally:
            await asyncio.to_thread(shutil.rmtree, made, ignore_errors=True)

    async def _try(self, root: Path, empty: Path) -> None:
        """Start the environment's Python in the sandbox.

        Raises:
            ProvisionFailed: it does not start there.
        """
        sandbox = self._sandboxes.open(empty, environment=_environment(root), read_only=True)
        done = await sandbox.execute("python -I -c 'import phoenix_harness'", timeout_seconds=TRY_SECONDS)
        if not done.ok:
            said = (done.stderr or done.stdout or done.killed).strip()[-1000:]
            raise ProvisionFailed(
                f"the environment's Python does not start in the {sandbox.kind} sandbox: {said}\n",
                hint=f"The sandbox must be able to read {sys.base_prefix} and {root.parent}.",
            )


def _environment(root: Path) -> Environment:
    variables = {"VIRTUAL_ENV": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    return Environment(id=root.name, root=root, path=(root / "bin",), variables=variables)


def _key(declared: Declared, identity: Identity | None) -> str:
    """Name an environment by all that decides its content."""
    here = Path(__file__).parent
    value = {
        "python": [platform.python_version(), sys.base_prefix],
        "harness": [metadata.version(name) for name in HARNESS],
        "modules": [(here / source).read_text() for source in _MODULES.values()],
        "requirements": list(declared.requirements),
        "runtime": list(declared.runtime),
        "identity": asdict(identity) if identity else {},
    }
    return digest_of(value).removeprefix("sha256:")[:24]


@asynccontextmanager
async def _locked(path: Path) -> AsyncIterator[None]:
    """Hold a file lock, which the system frees when its holder dies."""
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(LOCK_POLL_SECONDS)
        yield


def _create(root: Path) -> None:
    """Make a virtual environment without pip, of links to the running Python's base."""
    venv.EnvBuilder(symlinks=True, with_pip=False).create(root)
    for script in (root / "bin").glob("[aA]ctivate*"):
        script.unlink()  # they name the temporary folder, and nobody sources them


def _site(root: Path) -> Path:
    return root / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"


def _is_finished(root: Path) -> bool:
    root.parent.mkdir(parents=True, exist_ok=True)
    return (root / _RECORD).is_file()


def _clear(root: Path) -> None:
    """Remove what a killed build left. The caller holds the lock."""
    for left in [root, *root.parent.glob(f".{root.name}-*")]:
        shutil.rmtree(left, ignore_errors=True)


def _finish(new: Path, root: Path, has_pytest: bool, identity: Identity | None) -> None:
    """Add the harness and the project's metadata, and move the environment to its place."""
    site = _site(new)
    if not has_pytest:
        _copy_harness(new, site, root)
    if identity is not None:
        install_identity(identity, site, new, kept=HARNESS)
    for name, source in _MODULES.items():
        (site / name).unlink(missing_ok=True)
        shutil.copyfile(Path(__file__).with_name(source), site / name)
        compileall.compile_file(site / name, quiet=2)
    _rebind(new, root)
    new.rename(root)


def _record(root: Path, declared: Declared, left_out: Sequence[str], identity: Identity | None) -> None:
    """Write down what the environment holds: the sign that it is finished."""
    record = {
        "requirements": [r for r in declared.requirements if r not in left_out],
        "left_out": left_out,
        "ignored": declared.ignored,
        "project": asdict(identity) if identity else None,
    }
    with tempfile.NamedTemporaryFile("w", dir=root, delete=False) as file:
        file.write(json.dumps(record, indent=1) + "\n")
    Path(file.name).chmod(0o644)
    Path(file.name).replace(root / _RECORD)


def _copy_harness(new: Path, site: Path, root: Path) -> None:
    """Copy pytest and what it needs from the environment that runs Phoenix."""
    for name in HARNESS:
        distribution = metadata.distribution(name)
        for file in distribution.files or ():
            if file.parts[0] == "..":
                continue  # scripts, which name this environment's interpreter: made anew below
            source = Path(str(distribution.locate_file(file)))
            if source.is_file():
                target = site / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target)
        for entry in distribution.entry_points.select(group="console_scripts"):
            script = new / "bin" / entry.name
            script.write_text(
                f"#!{root}/bin/python\nimport sys\nfrom {entry.module} import {entry.attr}\n"
                f"sys.exit({entry.attr}())\n"
            )
            script.chmod(0o755)
    # Byte code that came along is kept; what is missing is made once, as sandboxes cannot write it.
    compileall.compile_dir(site, quiet=2)


def _rebind(new: Path, root: Path) -> None:
    """Let scripts name the environment's final place."""
    for script in (new / "bin").iterdir():
        if script.is_symlink() or not script.is_file():
            continue
        content = script.read_bytes()
        first, separator, rest = content.partition(b"\n")
        if first.startswith(b"#!") and str(new).encode() in content[:1000]:
            head, tail = (first + separator + rest)[:1000], content[1000:]
            script.write_bytes(head.replace(str(new).encode(), str(root).encode()) + tail)


async def _add_wheels(declared: Declared, new: Path, made: Path) -> tuple[str, ...]:
    """Install what is declared, and pytest; return what is left out since it has no fitting wheel.

    All are resolved together with pytest: a project may need one of pytest's own requirements. The second
    try asks the package index again, so an index that cannot be reached is not taken for a missing wheel.

    Raises:
        ProvisionFailed: what the project needs at run time cannot be installed.
    """
    wanted, wheels = [*declared.requirements, "pytest"], made / "wheels"
    left_out: tuple[str, ...] = ()
    code, output = await _download(wanted, wheels, made)
    if code != 0 and declared.runtime != declared.requirements and _is_definite(output):
        left_out = tuple(r for r in declared.requirements if r not in {*declared.runtime, "pytest"})
        log.warning("test_requirements_left_out", left_out=left_out, reason=_errors(output))
        wanted, wheels = [*declared.runtime, "pytest"], made / "wheels-runtime"
        code, output = await _download(wanted, wheels, made)
    if code != 0:
        raise _failed(output)
    await _install(wanted, wheels, new, made)
    return left_out


async def _download(requirements: Sequence[str], wheels: Path, empty: Path) -> tuple[int, str]:
    """Fetch wheels from the configured package index, the user's own settings of pip included.

    Requirements are arguments, as pip would expand variables of the environment in a file of them.
    """
    options = ["download", "--only-binary=:all:", "--no-input", "--progress-bar=off", "-d", str(wheels)]
    return await _pip([*options, "--", *requirements], empty, DOWNLOAD_SECONDS)


async def _install(requirements: Sequence[str], wheels: Path, root: Path, empty: Path) -> None:
    """Unpack the wheels, without network and without the user's settings of pip.

    `--python` starts the environment's interpreter once, while it is still empty of foreign files.
    """
    options = ["--isolated", "--python", str(root / "bin" / "python"), "install", "--no-index", "--no-input"]
    options += [
        "--only-binary=:all:",
        "--find-links",
        str(wheels),
        "--progress-bar=off",
        "--no-warn-script-location",
    ]
    code, output = await _pip([*options, "--", *requirements], empty, INSTALL_SECONDS)
    if code != 0:
        raise _failed(output)


async def _pip(arguments: Sequence[str], empty: Path, timeout_seconds: float) -> tuple[int, str]:
    """Run Phoenix's own pip; return its exit code and output. Its whole process group ends with it."""
    unwanted = {"PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_REQUIRE_VIRTUALENV"}
    variables = {k: v for k, v in os.environ.items() if k not in unwanted}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-m", "pip", "--disable-pip-version-check", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=empty,
        env=variables,
        start_new_session=True,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), timeout_seconds)
    except TimeoutError:
        return 1, f"pip did not end within {timeout_seconds:g} s"
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return process.returncode or 0, output.decode("utf-8", "replace")


def _is_definite(output: str) -> bool:
    """Tell whether pip found that no wheel fits, rather than an index it could not ask."""
    fits_none = "No matching distribution" in output or "ResolutionImpossible" in output
    return fits_none and not any(sign in output for sign in ("Retrying (", "Could not fetch URL"))


def _errors(output: str) -> str:
    """Return the lines of pip's output that say what is wrong."""
    lines = [x.strip() for x in output.splitlines() if x.strip()]
    errors = [x for x in lines if x.startswith("ERROR")] or lines
    return "\n".join(errors[-6:])[-2000:]


def _failed(output: str) -> ProvisionFailed:
    """Say what pip said, and what can be done about it."""
    if "No module named pip" in output:
        hint = f"Give Phoenix's own environment pip: {sys.executable} -m ensurepip."
    elif "No matching distribution" in output or "ResolutionImpossible" in output:
        hint = (
            "Only wheels are installed, since building a source archive runs its code: choose versions "
            "that have a wheel for this Python and do not exclude each other, or drop the requirement."
        )
    else:
        hint = "Check that the package index pip is configured for can be reached, then resume."
    return ProvisionFailed(
        f"the declared dependencies could not be installed:\n{_errors(output)}\n", hint=hint
    )
