"""PostgreSQL runs as an account that exists, with no more rights than it needs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from phoenix.errors import DatabaseUnavailable
from phoenix.storage.embedded import _programs
from phoenix.storage.unprivileged import account_for

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root lends an account")


@pytest.fixture
def programs() -> Path:
    return _programs()


def pretend_to_be(uid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)


def test_a_user_runs_the_server_as_themselves(
    tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ordinary user's server is their own process, started without detours."""
    pretend_to_be(1, monkeypatch)
    account = account_for(tmp_path / "postgres", programs)
    assert (account.uid, account.prefix) == (1, ())


def test_anothers_database_is_refused(
    tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user is told that the data folder belongs to somebody else."""
    pretend_to_be(1 if os.geteuid() == 0 else os.geteuid() + 1, monkeypatch)
    with pytest.raises(DatabaseUnavailable, match=r"another user|no name"):
        account_for(tmp_path, programs)


def test_a_user_without_a_name_is_told(
    tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container's number without a name gets a hint, not PostgreSQL's own complaint."""
    pretend_to_be(987_654, monkeypatch)
    with pytest.raises(DatabaseUnavailable, match="DATABASE_URL"):
        account_for(tmp_path / "postgres", programs)


def test_root_without_setpriv_is_told(
    tmp_path: Path, programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root gets a hint when there is no way to start something as somebody else."""
    pretend_to_be(0, monkeypatch)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(DatabaseUnavailable, match="util-linux"):
        account_for(tmp_path / "postgres", programs)


@only_root
def test_root_lends_an_account_that_can_do_little(tmp_path: Path, programs: Path) -> None:
    """The server is not root, has one capability at most, and can gain none."""
    account = account_for(tmp_path / "postgres", programs)
    assert account.uid != 0
    show = [*account.prefix, "grep", "-E", "^(Uid|CapEff|CapPrm|NoNewPrivs)", "/proc/self/status"]
    lines = subprocess.run(show, check=True, capture_output=True, text=True).stdout.split("\n")
    status = dict(line.split(":\t", 1) for line in lines if line)
    assert set(status["Uid"].split()) == {str(account.uid)}
    assert int(status["CapEff"], 16).bit_count() <= 1
    assert status["CapPrm"] == status["CapEff"]
    assert status["NoNewPrivs"] == "1"


@only_root
def test_the_owner_of_the_data_stays_the_account(tmp_path: Path, programs: Path) -> None:
    """A database made under one account is run under it again, whichever root would lend today."""
    os.chown(tmp_path, 1, 1)
    assert account_for(tmp_path, programs).uid == 1
