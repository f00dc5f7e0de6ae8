"""When a process pauses, and what counts as a full disk."""

from __future__ import annotations

import errno
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from phoenix.engine import pauses
from phoenix.engine.pauses import MB, Pauses, Space, is_full
from phoenix.errors import DatabaseUnavailable, DiskFull
from phoenix.storage import schema
from phoenix.storage.database import connect


class Disk(Space):
    """A disk whose free space is said."""

    said = 100 * MB

    @property
    def free(self) -> int:
        return self.said


def caused(by: BaseException) -> Exception:
    error = RuntimeError("a step failed")
    error.__cause__ = by
    return error


@pytest.mark.parametrize(
    "error",
    [
        DiskFull(),
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        psycopg.errors.DiskFull("could not extend file"),
        OperationalError("INSERT", None, psycopg.errors.DiskFull("could not extend file")),
        caused(OSError(errno.ENOSPC, "No space left on device")),
    ],
)
def test_a_full_disk_is_known_by_its_codes(error: Exception) -> None:
    """Wherever the write was, and however deep below a step's own error."""
    assert is_full(error)


def circle() -> Exception:
    error = caused(ValueError("first"))
    assert error.__cause__ is not None
    error.__cause__.__cause__ = error
    return error


@pytest.mark.parametrize(
    "error",
    [OSError(errno.EIO, "broken"), DatabaseUnavailable(), caused(ValueError("no space left")), circle()],
)
def test_other_errors_are_no_full_disk(error: Exception) -> None:
    """Words are not enough."""
    assert not is_full(error)


def test_a_pause_ends_with_twice_the_space_that_began_it() -> None:
    """A disk at the edge does not make work start and stop."""
    disk = Disk(Path("/data"), least=64 * MB, enough=128 * MB)
    here = Pauses(disk)
    for free, expected in ((64, False), (63, True), (100, True), (127, True), (128, False), (100, False)):
        Disk.said = free * MB
        here.look_at_disk()
        assert bool(here.reason) is expected, free
    assert not here.reason


def test_a_data_folder_that_is_gone_is_a_reason(tmp_path: Path) -> None:
    """A volume that was taken away pauses work, until it is back."""
    here = Pauses(Space(tmp_path / "volume", least=1, enough=1))
    here.look_at_disk()
    assert "cannot be looked at: No such file" in here.reason
    (tmp_path / "volume").mkdir()
    here.look_at_disk()
    assert not here.reason


def test_writes_that_fail_again_make_the_pause_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is not the watched one is asked less and less often; a later failure begins anew."""
    now = 1000.0
    monkeypatch.setattr("phoenix.engine.pauses.time.monotonic", lambda: now)
    here, lengths = Pauses(), []
    for _ in range(9):
        here.because_of(DiskFull())
        here.because_of(DiskFull())  # of another run, at the same time
        lengths.append(here._until - now)
        now = here._until + 1
    assert lengths == [5, 10, 20, 40, 80, 160, 320, 600, 600]
    now += 3600
    here.because_of(DiskFull())
    assert here._until - now == 5


async def test_a_schema_that_goes_past_a_running_process_pauses_it(
    migrated_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A contracting migration of a newer version is noticed, and so is its undoing; an expansion is not."""
    monkeypatch.setattr(pauses, "SCHEMA_SECONDS", 0.0)
    engine = connect(migrated_database_url)
    here = Pauses()
    async with engine.connect() as plain:
        connection = await plain.execution_options(isolation_level="AUTOCOMMIT")

        async def reason(revision: str) -> str:
            await connection.execute(text("UPDATE alembic_version SET version_num = :r"), {"r": revision})
            await here.look(connection)
            return here.reason

        assert await reason(schema.head()) == ""
        for revision, contracts in (("9001", ""), ("9002", "8.0.0")):
            await connection.execute(
                text("INSERT INTO phoenix_schema VALUES ('phoenix', :r, '9.0.0', :c)"),
                {"r": revision, "c": contracts},
            )
            assert ("Install phoenix-engine 8.0.0" in await reason(revision)) is bool(contracts)
        await connection.execute(text("DELETE FROM phoenix_schema WHERE name = '9002'"))
        assert await reason("9001") == ""
        assert "Run `phoenix migrate`" in await reason("0001")
    await engine.dispose()
