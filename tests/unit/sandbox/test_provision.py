"""Environments are made of wheels, once, without running foreign code on the host."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import os
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from phoenix.domain.execution import Environment
from phoenix.errors import ProvisionFailed
from phoenix.ports import Sandbox
from phoenix.sandbox.bubblewrap import BubblewrapSandboxes
from phoenix.sandbox.provision import HARNESS, WheelProvisioner


def wheel(folder: Path, name: str, version: str, files: dict[str, bytes]) -> None:
    """Write a wheel with a right RECORD."""
    info = f"{name}-{version}.dist-info"
    tags = b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    start = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()
    files = {f"{info}/METADATA": start, **files, f"{info}/WHEEL": tags}
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        record = io.StringIO()
        for path, data in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            record.write(f"{path},sha256={digest},{len(data)}\n")
            archive.writestr(path, data)
        archive.writestr(f"{info}/RECORD", record.getvalue() + f"{info}/RECORD,,\n")


def installed_wheel(folder: Path, name: str) -> None:
    """Pack a distribution of this environment into a wheel again."""
    distribution = metadata.distribution(name)
    files = {}
    for file in distribution.files or ():
        path = Path(str(distribution.locate_file(file)))
        if file.parts[0] != ".." and path.suffix != ".pyc" and path.name not in {"RECORD", "INSTALLER"}:
            files[str(file)] = path.read_bytes()
    info = next(path for path in files if path.endswith("/METADATA")).split("/")[0]
    files = {path: data for path, data in files.items() if path != f"{info}/WHEEL"}
    wheel(folder, *info.removesuffix(".dist-info").rsplit("-", 1), files)


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of wheels that stands for the package index."""
    folder = tmp_path_factory.mktemp("index")
    for name in HARNESS:
        installed_wheel(folder, name)
    wheel(
        folder,
        "greeter",
        "1.0",
        {
            "greeter.py": b"def main(): print('hello from', __name__)\n",
            "greeter-1.0.dist-info/entry_points.txt": b"[console_scripts]\ngreet = greeter:main\n",
            "zz_canary.pth": b"import os; open(os.environ.get('CANARY', '/dev/null'), 'w').write('ran')\n",
        },
    )
    with tarfile.open(folder / "sourceonly-1.0.tar.gz", "w:gz") as archive:
        script = b"import os; open(os.environ['CANARY'], 'w').write('ran')\n"
        member = tarfile.TarInfo("sourceonly-1.0/setup.py")
        member.size = len(script)
        archive.addfile(member, io.BytesIO(script))
    return folder


@pytest.fixture
def pip_index(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Configure pip as a user would, with that index; return where a canary would appear."""
    for name in list(os.environ):
        if name.startswith("PIP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    canary = tmp_path / "canary"
    monkeypatch.setenv("CANARY", str(canary))
    return canary


@pytest.fixture
def no_pip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let every use of a package index fail."""
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)


def project(folder: Path, requirements: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "requirements.txt").write_text(requirements)
    return folder


def library(folder: Path, pyproject: str) -> Path:
    folder.mkdir()
    (folder / "pyproject.toml").write_text(pyproject)
    return folder


def sandbox(workspace: Path, environment: Environment) -> Sandbox:
    return BubblewrapSandboxes().open(workspace, environment=environment)


@pytest.mark.usefixtures("no_pip")
async def test_a_project_without_dependencies_needs_no_network(tmp_path: Path) -> None:
    """The base environment has pytest, works in the sandbox, and cannot be written there."""
    workspace = project(tmp_path / "p")
    environment = await WheelProvisioner(tmp_path / "cache", BubblewrapSandboxes()).provision(workspace)
    box = sandbox(workspace, environment)
    done = await box.execute(
        "pytest --version && python -m pytest --version && python -c 'import sys; print(sys.prefix)'",
        timeout_seconds=20,
    )
    assert done.ok, done
    assert done.stdout.splitlines()[-1] == str(environment.root)
    write = await box.execute(f"touch {environment.root}/planted", timeout_seconds=20)
    assert not write.ok
    assert not (environment.root / "planted").exists()
    assert environment.path == (environment.root / "bin",)
    assert environment.variables["VIRTUAL_ENV"] == str(environment.root)


@pytest.mark.usefixtures("no_pip")
async def test_environments_are_made_once(tmp_path: Path) -> None:
    """Provisioners that race, and later ones, share one environment and leave nothing else."""
    cache = tmp_path / "cache"
    made = await asyncio.gather(
        *(
            WheelProvisioner(cache, BubblewrapSandboxes()).provision(project(tmp_path / f"p{n}"))
            for n in range(3)
        )
    )
    inode = made[0].root.stat().st_ino
    again = await WheelProvisioner(cache, BubblewrapSandboxes()).provision(project(tmp_path / "p9"))
    assert {e.root for e in made} == {again.root}
    assert again.root.stat().st_ino == inode
    assert sorted(p.name for p in cache.iterdir()) == [again.id, f"{again.id}.lock"]


@pytest.mark.usefixtures("no_pip")
async def test_what_a_killed_build_left_is_replaced(tmp_path: Path) -> None:
    """An environment without its record is not taken for a finished one."""
    workspace = project(tmp_path / "p")
    provisioner = WheelProvisioner(tmp_path / "cache", BubblewrapSandboxes())
    root = (await provisioner.provision(workspace)).root
    (root / "phoenix-environment.json").unlink()
    (root / "bin" / "python").unlink()
    (root.parent / f".{root.name}-left").mkdir()
    environment = await provisioner.provision(workspace)
    assert (await sandbox(workspace, environment).execute("python -V", timeout_seconds=20)).ok
    assert not (root.parent / f".{root.name}-left").exists()


async def test_declared_wheels_are_installed_without_running_their_code(
    pip_index: Path, tmp_path: Path
) -> None:
    """Modules and scripts work inside the sandbox; start-up code of a wheel never ran outside."""
    workspace = project(tmp_path / "p", "greeter>=1\n./other\n")
    environment = await WheelProvisioner(tmp_path / "cache", BubblewrapSandboxes()).provision(workspace)
    done = await sandbox(workspace, environment).execute("greet && python -m pytest -V", timeout_seconds=20)
    assert done.ok, done
    assert "hello from greeter" in done.stdout
    assert not pip_index.exists()
    record = (environment.root / "phoenix-environment.json").read_text()
    assert '"greeter>=1"' in record
    assert "./other" in record


async def test_a_source_archive_is_not_built(pip_index: Path, tmp_path: Path) -> None:
    """A package without a wheel fails with what to do, its build script unrun, nothing cached."""
    workspace = project(tmp_path / "p", "sourceonly\n")
    with pytest.raises(ProvisionFailed) as failed:
        await WheelProvisioner(tmp_path / "cache", BubblewrapSandboxes()).provision(workspace)
    assert "sourceonly" in failed.value.message
    assert "wheel" in failed.value.hint
    assert not pip_index.exists()
    assert [p.suffix for p in (tmp_path / "cache").iterdir()] == [".lock"]


@pytest.mark.usefixtures("no_pip")
async def test_an_environment_that_does_not_start_in_the_sandbox_is_refused(tmp_path: Path) -> None:
    """A sandbox that cannot see the environment is found out before any test runs in it."""

    class Blind(BubblewrapSandboxes):
        def open(self, workspace: Path, **_: object) -> Sandbox:  # type: ignore[override]
            return super().open(workspace)

    workspace = project(tmp_path / "p")
    provisioner = WheelProvisioner(tmp_path / "cache", Blind())
    with pytest.raises(ProvisionFailed, match="does not start in the bubblewrap sandbox"):
        await provisioner.provision(workspace)
    with pytest.raises(ProvisionFailed):
        await provisioner.provision(workspace)


@pytest.mark.usefixtures("no_pip")
async def test_what_a_project_says_of_itself_decides_its_environment(tmp_path: Path) -> None:
    """Worktrees of one version share an environment; another version or plugin gets its own."""
    provisioner = WheelProvisioner(tmp_path / "cache", BubblewrapSandboxes())
    texts = ["version = '1'", "version = '1'", "version = '2'", "version = '1'\nscripts = {x = 'x:y'}"]
    roots = []
    for number, text in enumerate(texts):
        workspace = library(tmp_path / f"p{number}", f"[project]\nname = 'shop'\n{text}\n")
        roots.append((await provisioner.provision(workspace)).root)
    assert roots[0] == roots[1]
    assert len(set(roots)) == 3
    record = json.loads((roots[2] / "phoenix-environment.json").read_text())
    assert (record["project"]["name"], record["project"]["version"]) == ("shop", "2")


PARTLY = "[project]\nname = 'shop'\ndependencies = ['greeter']\n"
PARTLY += "optional-dependencies = {test = ['%s', 'pytest']}\n"


@pytest.mark.parametrize("missing", ["sourceonly", "nowhere-to-be-found"])
async def test_test_tools_without_a_wheel_are_left_out_and_recorded(
    pip_index: Path, tmp_path: Path, missing: str
) -> None:
    """What the project runs on is installed with pytest, and the record says what is lacking."""
    workspace = library(tmp_path / "p", PARTLY % missing)
    environment = await WheelProvisioner(tmp_path / "cache", BubblewrapSandboxes()).provision(workspace)
    done = await sandbox(workspace, environment).execute("greet && python -m pytest -V", timeout_seconds=20)
    assert done.ok, done
    record = json.loads((environment.root / "phoenix-environment.json").read_text())
    assert record["left_out"] == [missing]
    assert record["requirements"] == ["greeter", "pytest"]
    assert not pip_index.exists()


@pytest.mark.usefixtures("pip_index")
@pytest.mark.parametrize("keep_wheels", [True, False])
async def test_an_index_out_of_reach_leaves_nothing_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep_wheels: bool
) -> None:
    """A failure that may pass fails, instead of making an environment that lacks something for ever."""
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1" if keep_wheels else "0")
    if not keep_wheels:
        monkeypatch.delenv("PIP_FIND_LINKS")
    workspace = library(tmp_path / "p", PARTLY % "sourceonly")
    with pytest.raises(ProvisionFailed):
        await WheelProvisioner(tmp_path / "cache", BubblewrapSandboxes()).provision(workspace)
    assert [p.suffix for p in (tmp_path / "cache").iterdir()] == [".lock"]
