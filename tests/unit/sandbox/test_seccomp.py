"""The system-call filter, run by a small interpreter of classic BPF."""

from __future__ import annotations

import errno
import struct

import pytest

from phoenix.sandbox.seccomp import program

ALLOW = 0x7FFF0000
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def run(code: bytes, arch: int, number: int, *args: int) -> int:
    """Return the filter's verdict on a call: 0 when allowed, else the error it gives."""
    padded = (*args, 0, 0, 0, 0, 0, 0)[:6]
    data = struct.pack("=IIQ6Q", number, arch, 0, *padded)
    at, value = 0, 0
    while True:
        op, yes, no, k = struct.unpack_from("=HBBI", code, at * 8)
        at += 1
        if op == 0x20:
            value = struct.unpack_from("=I", data, k)[0]
        elif op == 0x06:
            return 0 if k == ALLOW else k & 0xFFFF
        else:
            holds = {0x15: value == k, 0x35: value >= k, 0x45: bool(value & k)}[op]
            at += yes if holds else no


@pytest.mark.parametrize("machine", ARCHITECTURES)
@pytest.mark.parametrize(
    ("numbers", "args", "error"),
    [
        ((0, 63), (0,), 0),  # read
        ((59, 221), (), 0),  # execve
        ((56, 220), (0x11,), 0),  # clone: fork
        ((56, 220), (0x10000011,), errno.EPERM),  # clone: user namespace
        ((435, 435), (), errno.ENOSYS),  # clone3
        ((272, 97), (0x10000000,), errno.EPERM),  # unshare
        ((41, 198), (2, 1), 0),  # socket: inet
        ((41, 198), (40, 1), errno.EAFNOSUPPORT),  # socket: vsock
        ((41, 198), (38, 5), errno.EAFNOSUPPORT),  # socket: alg
        ((16, 29), (0, 0x5401), 0),  # ioctl: TCGETS
        ((16, 29), (0, 0x5412), errno.EPERM),  # ioctl: TIOCSTI
        ((16, 29), (0, 0xFFFF_FFFF_0000_5412), errno.EPERM),  # the kernel ignores the upper half
        ((29, 194), (0, 56), 0),  # shmget: PostgreSQL's interlock
        ((29, 194), (0, 2**20), errno.ENOSPC),
        ((29, 194), (0, 2**32), errno.ENOSPC),
        ((250, 219), (), errno.EPERM),  # keyctl
        ((321, 280), (), errno.EPERM),  # bpf
        ((425, 425), (), errno.EPERM),  # io_uring_setup
        ((319, 279), (), errno.ENOSYS),  # memfd_create
        ((91, 52), (3, 0o755), 0),  # fchmod
        ((91, 52), (3, 0o4755), errno.EPERM),
        ((257, 56), (3, 0, 0o100, 0o644), 0),  # openat
        ((257, 56), (3, 0, 0o100, 0o4755), errno.EPERM),
        ((257, 56), (3, 0, 0, 0o4755), 0),  # without O_CREAT the mode is whatever was there
        ((437, 437), (), errno.ENOSYS),  # openat2
        ((44, 206), (3, 0, 1, 0x4000), 0),  # sendto
        ((44, 206), (3, 0, 1, 0x20000000), errno.EPERM),  # sendto: fast open
        ((302, 261), (99, 7), 0),  # prlimit64 of another process: hidden by the namespace
    ],
)
def test_calls_are_judged(machine: str, numbers: tuple[int, int], args: tuple[int, ...], error: int) -> None:
    """What builds need is allowed, what they do not need is refused, on each architecture."""
    code = program(machine)
    assert code is not None
    number = numbers[list(ARCHITECTURES).index(machine)]
    if machine == "aarch64" and number == 52:
        args = (args[0], args[1])
    assert run(code, ARCHITECTURES[machine], number, *args) == error


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_without_a_process_namespace_other_processes_are_out_of_reach(machine: str) -> None:
    """In the shared form a process may set limits for itself and for no other."""
    code = program(machine, shared=True)
    assert code is not None
    number = (302, 261)[list(ARCHITECTURES).index(machine)]
    assert run(code, ARCHITECTURES[machine], number, 0, 7) == 0
    assert run(code, ARCHITECTURES[machine], number, 99, 7) == errno.EPERM


def test_other_numberings_are_refused() -> None:
    """32-bit and x32 calls, which mean other things by the same numbers, do not get in."""
    code = program("x86_64")
    assert code is not None
    assert run(code, 0x40000003, 11) == errno.ENOSYS
    assert run(code, 0xC000003E, 0x40000000 | 59) == errno.ENOSYS


def test_an_unknown_architecture_has_no_filter() -> None:
    """No filter is better known than a wrong one loaded."""
    assert program("riscv64") is None
