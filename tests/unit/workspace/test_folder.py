"""Stamps: when an unchanged stamp proves an unchanged file."""

from __future__ import annotations

import pytest

from phoenix.workspace.folder import Stamp

MS = 1_000_000


@pytest.mark.parametrize(
    ("changed_ns", "later_ms", "settled"),
    [
        pytest.param(10**18 + 1, 0, False, id="seen as it changed"),
        pytest.param(10**18 + 1, 10, False, id="within a tick of the clock"),
        pytest.param(10**18 + 1, 21, True, id="a tick later"),
        pytest.param(10**18, 21, False, id="a clock of whole seconds may be coarse"),
        pytest.param(10**18, 1999, False, id="within two seconds of a coarse clock"),
        pytest.param(10**18, 2001, True, id="past a coarse tick"),
    ],
)
def test_a_stamp_seen_within_a_tick_proves_nothing(changed_ns: int, later_ms: int, settled: bool) -> None:
    """A second change within the same tick would leave the same stamp: such a file is read again."""
    stamp = Stamp(inode=1, device=1, size=1, mode=0o100644, changed_ns=changed_ns)
    assert stamp.settled(changed_ns + later_ms * MS) is settled
