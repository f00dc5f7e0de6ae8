"""What every sandbox must do, over every adapter that works on this machine."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from phoenix.domain.execution import Environment, Limits
from phoenix.errors import PathRefused
from phoenix.ports import Sandboxes
from phoenix.sandbox.kubernetes import KubernetesSandboxes
from tests.contract.emulated_cluster import emulated_cluster
from tests.contract.sandbox_adapters import ADAPTERS, working

MB = 1024**2


@pytest.fixture(params=[*ADAPTERS, "kubernetes"])
def of_this_machine(request: pytest.FixtureRequest) -> Sandboxes | None:
    """Return each adapter that works here; None stands for a cluster, whose containers are bubblewrap's."""
    found = working("bubblewrap" if request.param == "kubernetes" else request.param)
    return None if request.param == "kubernetes" else found


@pytest.fixture
async def sandboxes(
    of_this_machine: Sandboxes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Sandboxes]:
    """Return each adapter; `host` promises everything but isolation."""
    if of_this_machine is not None:
        yield of_this_machine
        return
    async with emulated_cluster(tmp_path) as (_, config):
        monkeypatch.setenv("KUBECONFIG", str(config))
        yield KubernetesSandboxes()


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """Return an empty workspace folder."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    return folder


def alive(marker: str) -> list[int]:
    """Return live processes of this machine whose command line holds the marker."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        if process.info["status"] != psutil.STATUS_ZOMBIE and marker in " ".join(
            process.info["cmdline"] or []
        ):
            found.append(process.pid)
    return [pid for pid in found if pid != os.getpid()]


def begun(marker: str, workspace: Path) -> bool:
    """Tell whether a command runs: it has touched `started`, or where that is not here yet, it sleeps."""
    return (workspace / "started").exists() or any(
        process.info["cmdline"] and process.info["cmdline"][:2] == ["sleep", marker]
        for process in psutil.process_iter(["cmdline"])
    )


async def test_a_command_runs_in_the_workspace(sandboxes: Sandboxes, workspace: Path) -> None:
    """The command's folder is the workspace; its streams and exit code come back."""
    sandbox = sandboxes.open(workspace)
    result = await sandbox.execute("pwd; echo made > file; echo oops >&2; exit 7", timeout_seconds=10)
    assert result.exit_code == 7
    assert not result.ok
    assert result.stdout == f"{sandbox.root}\n"
    assert result.stderr == "oops\n"
    assert result.killed == ""
    assert (workspace / "file").read_text() == "made\n"
    assert 0 < result.seconds < 10


async def test_the_shell_is_a_real_one(sandboxes: Sandboxes, workspace: Path) -> None:
    """Pipes, quotes, newlines, here-documents and Unicode reach the shell unchanged."""
    command = "cat <<'X' | tr a-z A-Z\nit's \"grün\" $HOME\nX\n"
    result = await sandboxes.open(workspace).execute(command, timeout_seconds=10)
    assert result.stdout == 'IT\'S "GRüN" $HOME\n'


async def test_python_runs(sandboxes: Sandboxes, workspace: Path) -> None:
    """A Python is found and can use temporary files, threads and /dev/null."""
    code = (
        "import tempfile,threading,subprocess;"
        "t=threading.Thread(target=print,args=('thread',));t.start();t.join();"
        "f=tempfile.NamedTemporaryFile();f.write(b'x');"
        "subprocess.run(['true'],stdout=subprocess.DEVNULL,check=True);print('done')"
    )
    result = await sandboxes.open(workspace).execute(f'python3 -c "{code}"', timeout_seconds=10)
    assert result.stdout == "thread\ndone\n", result.stderr


async def test_git_works_inside(sandboxes: Sandboxes, workspace: Path) -> None:
    """Builds that call git find it working on the workspace."""
    command = (
        "git init -q . && git add -A && git -c user.name=a -c user.email=b@c commit -q --allow-empty -m x"
    )
    result = await sandboxes.open(workspace).execute(command, timeout_seconds=10)
    if result.exit_code == 127:
        pytest.skip("this sandbox has no git")
    assert result.ok, result.stderr


async def test_the_environment_is_not_this_process_s(
    sandboxes: Sandboxes, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables of this process do not get in; those given do."""
    monkeypatch.setenv("CANARY_KEY", "canary-value-1")
    result = await sandboxes.open(workspace).execute("env", timeout_seconds=10, variables={"GIVEN": "x y"})
    assert "canary-value-1" not in result.stdout
    assert "GIVEN=x y\n" in result.stdout
    assert "HOME=" in result.stdout


async def test_an_environment_is_first_in_the_path(
    sandboxes: Sandboxes, workspace: Path, tmp_path: Path
) -> None:
    """An installed environment is seen at its own place, its programs before the system's."""
    root = tmp_path / "environment"
    (root / "bin").mkdir(parents=True)
    tool = root / "bin" / "ls"
    tool.write_text("#!/bin/sh\necho mine $FLAVOUR\n")
    tool.chmod(0o755)
    environment = Environment(id="e", root=root, path=(root / "bin",), variables={"FLAVOUR": "sweet"})
    result = await sandboxes.open(workspace, environment=environment).execute("ls", timeout_seconds=10)
    assert result.stdout == "mine sweet\n", result.stderr


async def test_a_command_over_time_is_killed(sandboxes: Sandboxes, workspace: Path) -> None:
    """A command that ignores every signal ends at its deadline and keeps its output so far."""
    command = "trap '' TERM INT HUP QUIT; echo before; while true; do sleep 0.01; done"
    start = time.monotonic()
    result = await sandboxes.open(workspace).execute(command, timeout_seconds=0.5)
    # A pod's start and its files are not the command's time.
    assert (result.seconds if sandboxes.kind == "kubernetes" else time.monotonic() - start) < 3
    assert result.exit_code is None
    assert result.killed == "timeout"
    assert result.stdout == "before\n"


async def test_daemons_end_with_their_command(sandboxes: Sandboxes, workspace: Path) -> None:
    """What left its session, forked twice and closed its streams is gone when execute returns."""
    marker = f"314{os.getpid()}.5"
    command = (
        f"(setsid sleep {marker} >/dev/null 2>&1 </dev/null &)\n"
        f"(trap '' TERM HUP; nohup sleep {marker} >/dev/null 2>&1 &)\nsleep 0.05; echo started"
    )
    result = await sandboxes.open(workspace).execute(command, timeout_seconds=10)
    assert result.stdout == "started\n"
    assert alive(marker) == []


async def test_a_daemon_that_holds_the_output_does_not_hold_the_result(
    sandboxes: Sandboxes, workspace: Path
) -> None:
    """Output pipes kept open by a background process do not delay the result."""
    result = await sandboxes.open(workspace).execute("sleep 60 & echo now", timeout_seconds=30)
    assert result.stdout == "now\n"
    assert result.ok
    assert result.seconds < 5


async def test_cancelling_kills_everything_first(sandboxes: Sandboxes, workspace: Path) -> None:
    """A cancelled execute leaves no process, and only then is the cancellation seen."""
    marker = f"315{os.getpid()}.5"
    command = f"setsid sleep {marker} & touch started; sleep {marker}"
    task = asyncio.create_task(sandboxes.open(workspace).execute(command, timeout_seconds=60))
    for _ in range(500):
        if begun(marker, workspace):
            break
        await asyncio.sleep(0.01)
    assert alive(marker)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert alive(marker) == []


async def test_cancelling_at_once_leaves_nothing(sandboxes: Sandboxes, workspace: Path) -> None:
    """A cancellation at any early moment of the start leaves no process either."""
    marker = f"316{os.getpid()}.5"
    for pause in (0, 0.001, 0.004, 0.01):
        task = asyncio.create_task(sandboxes.open(workspace).execute(f"sleep {marker}", timeout_seconds=60))
        await asyncio.sleep(pause)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert alive(marker) == []


CHILD = """
import asyncio, sys
from pathlib import Path
from phoenix.sandbox.{module} import {name}
asyncio.run({name}().open(Path(sys.argv[1])).execute(sys.argv[2], timeout_seconds=60))
"""


async def test_kill_minus_nine_of_phoenix_ends_the_command(sandboxes: Sandboxes, workspace: Path) -> None:
    """When the process that executes dies without a word, the sandboxed tree dies too."""
    marker = f"317{os.getpid()}.5"
    code = CHILD.format(module=sandboxes.kind, name=type(sandboxes).__name__)
    command = f"(setsid sleep {marker} &) ; touch started; sleep {marker}"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(workspace), command, cwd=Path(__file__).parents[2]
    )
    for _ in range(1000):
        if begun(marker, workspace):
            break
        await asyncio.sleep(0.01)
    process.kill()
    await process.wait()
    for _ in range(300):
        if not alive(marker):
            break
        await asyncio.sleep(0.01)
    assert alive(marker) == []


async def test_output_keeps_its_head_and_tail(sandboxes: Sandboxes, workspace: Path) -> None:
    """Of too much output the middle is dropped, and a line says how much."""
    limits = Limits(output_bytes=1000)
    result = await sandboxes.open(workspace).execute(
        "echo first; seq 100000; echo last", timeout_seconds=20, limits=limits
    )
    assert result.ok
    assert result.truncated
    assert result.stdout.startswith("first\n1\n2\n")
    assert result.stdout.endswith("100000\nlast\n")
    assert "bytes dropped ...]" in result.stdout
    assert len(result.stdout) < 1100


async def test_a_flood_of_output_is_stopped(sandboxes: Sandboxes, workspace: Path) -> None:
    """Endless output is killed long before the deadline, in bounded memory."""
    before = psutil.Process().memory_info().rss
    result = await sandboxes.open(workspace).execute(
        "yes", timeout_seconds=30, limits=Limits(output_bytes=10_000)
    )
    assert result.killed == "output"
    assert result.truncated
    assert psutil.Process().memory_info().rss - before < 30 * MB


async def test_output_cannot_act_on_a_terminal(sandboxes: Sandboxes, workspace: Path) -> None:
    """Escape sequences, NUL and broken UTF-8 do not come through."""
    command = r"printf 'a\033[31mred\033[0m\033]0;title\007b\000c\x9b\xff\rd\n'"
    result = await sandboxes.open(workspace).execute(command, timeout_seconds=10)
    assert result.stdout == "aredbc\ufffd\ufffd\nd\n"


async def test_memory_of_one_process_is_limited(sandboxes: Sandboxes, workspace: Path) -> None:
    """One process cannot fill more memory than allowed."""
    result = await sandboxes.open(workspace).execute(
        "python3 -c \"b = bytearray(400 * 2**20); print('got it')\"",
        timeout_seconds=20,
        limits=Limits(memory_bytes=200 * MB),
    )
    assert "got it" not in result.stdout
    assert not result.ok


async def test_memory_of_many_processes_is_limited(sandboxes: Sandboxes, workspace: Path) -> None:
    """Processes that each stay below the limit are killed when together they exceed it."""
    hog = "import time; b = b'x' * (90 * 2**20); time.sleep(20)"
    command = f'for i in 1 2 3 4; do python3 -c "{hog}" & done; wait'
    result = await sandboxes.open(workspace).execute(
        command, timeout_seconds=15, limits=Limits(memory_bytes=200 * MB)
    )
    assert result.killed == "memory" or (sandboxes.kind == "docker" and not result.ok)
    assert result.seconds < 10


async def test_processes_are_limited(sandboxes: Sandboxes, workspace: Path) -> None:
    """More processes than allowed cannot run: forks fail, or all are killed."""
    command = "for i in $(seq 80); do sleep 1.7 & done 2>/dev/null; wait; echo all"
    result = await sandboxes.open(workspace).execute(command, timeout_seconds=15, limits=Limits(processes=30))
    assert result.killed == "processes" or "Resource temporarily" in result.stderr or result.stdout != "all\n"


async def test_cpu_time_is_limited(sandboxes: Sandboxes, workspace: Path) -> None:
    """A busy loop ends by its CPU time, before its deadline."""
    result = await sandboxes.open(workspace).execute(
        "while :; do :; done", timeout_seconds=20, limits=Limits(cpu_seconds=1)
    )
    assert not result.ok
    assert result.seconds < 10


async def test_a_file_cannot_grow_without_end(sandboxes: Sandboxes, workspace: Path) -> None:
    """A file stops at its size limit."""
    result = await sandboxes.open(workspace).execute(
        "head -c 5000000 /dev/zero > big", timeout_seconds=10, limits=Limits(file_bytes=MB)
    )
    assert not result.ok
    assert (workspace / "big").stat().st_size <= MB


async def test_temporary_files_are_limited_and_gone_afterwards(sandboxes: Sandboxes, workspace: Path) -> None:
    """The temporary folder has a size, and the next command finds it empty."""
    sandbox = sandboxes.open(workspace)
    command = "for i in 1 2 3 4 5 6; do head -c 1000000 /dev/zero > $TMPDIR/f$i || exit 9; done; sleep 3"
    result = await sandbox.execute(command, timeout_seconds=10, limits=Limits(tmp_bytes=4 * MB))
    assert result.exit_code == 9 or result.killed == "disk"
    assert (await sandbox.execute("ls $TMPDIR/f1", timeout_seconds=10)).exit_code != 0


async def test_read_only_means_read_only(sandboxes: Sandboxes, workspace: Path) -> None:
    """A read-only workspace can be read and not written."""
    if sandboxes.kind == "host":
        pytest.skip("the host isolates nothing")
    (workspace / "file").write_text("here")
    sandbox = sandboxes.open(workspace, read_only=True)
    result = await sandbox.execute("cat file; echo x > file; touch new; rm file", timeout_seconds=10)
    assert result.stdout == "here"
    assert (workspace / "file").read_text() == "here"
    assert not (workspace / "new").exists()


async def test_a_command_that_no_shell_can_take_is_refused(sandboxes: Sandboxes, workspace: Path) -> None:
    """NUL and over-long commands give a result that says so; lone surrogates do not raise."""
    sandbox = sandboxes.open(workspace)
    assert (await sandbox.execute("echo \0", timeout_seconds=10)).exit_code == 126
    long = await sandbox.execute("true " + "x" * 200_000, timeout_seconds=10)
    assert long.exit_code == 126
    assert "file" in long.stderr
    assert (await sandbox.execute("echo '\ud800'", timeout_seconds=10)).ok


async def test_many_sandboxes_run_side_by_side(sandboxes: Sandboxes, workspace: Path) -> None:
    """Several commands of one workspace at once keep their own output and exit codes."""
    sandbox = sandboxes.open(workspace)
    results = await asyncio.gather(
        *(sandbox.execute(f"echo {n}; exit {n}", timeout_seconds=20) for n in range(8))
    )
    assert [r.exit_code for r in results] == list(range(8))
    assert [r.stdout for r in results] == [f"{n}\n" for n in range(8)]


async def test_files_go_up_and_come_down(sandboxes: Sandboxes, workspace: Path) -> None:
    """Uploaded files are seen by commands, downloaded ones are exact, missing ones left out."""
    sandbox = sandboxes.open(workspace)
    await sandbox.upload({"a/b/c.bin": bytes(range(256)), "top.txt": b"top"})
    result = await sandbox.execute("cat top.txt; cp a/b/c.bin copy", timeout_seconds=10)
    assert result.stdout == "top"
    assert await sandbox.download(["copy", "nowhere", "a/none"]) == {"copy": bytes(range(256))}


@pytest.mark.parametrize("path", ["/etc/hostname", "../x", "a/../../x", "link/x", "link", "pipe", "..", ""])
async def test_paths_that_leave_the_workspace_are_refused(
    sandboxes: Sandboxes, workspace: Path, path: str
) -> None:
    """Absolute paths, climbing, links a command has planted, and FIFOs are neither read nor written."""
    if sandboxes.kind == "kubernetes" and path not in {"link/x", "pipe"}:
        pytest.skip("what needs no command is the same code for all")
    sandbox = sandboxes.open(workspace)
    outside = workspace.parent / "outside"
    outside.mkdir()
    (outside / "x").write_text("secret")
    await sandbox.execute(f"ln -s {outside} link; mkfifo pipe; mkdir a", timeout_seconds=10)
    with pytest.raises(PathRefused):
        await sandbox.download([path])
    with pytest.raises(PathRefused):
        await sandbox.upload({path: b"overwritten"})
    assert (outside / "x").read_text() == "secret"
    assert not (workspace.parent / "x").exists()


async def test_a_missing_workspace_is_refused(sandboxes: Sandboxes, tmp_path: Path) -> None:
    """A workspace folder that does not exist is said so before anything runs."""
    with pytest.raises(PathRefused):
        await sandboxes.open(tmp_path / "none").execute("true", timeout_seconds=10)
