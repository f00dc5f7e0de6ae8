"""The system-call filter: a small classic BPF program, assembled by hand for x86_64 and aarch64.

It refuses what builds and tests do not need and what kernel bugs have most often been reached through.
Layout of the data that the program reads: see seccomp(2), `struct seccomp_data`.
"""

from __future__ import annotations

import errno
import platform
import struct

_LOAD, _JEQ, _JGE, _JSET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NR, _ARCH, _ARG0 = 0, 4, 16
_ARG1, _ARG1_HIGH = 24, 28
_X32 = 0x40000000
_NAMESPACES = 0x7E020080  # every CLONE_NEW* flag
_SOCKET_FAMILIES = (1, 2, 10, 16)  # unix, inet, inet6, netlink: not vsock, packet, alg, ...
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_SHARED_SEGMENT_BYTES = 64 * 1024  # PostgreSQL's interlock takes 56; larger ones escape the memory watch

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name: (x86_64, aarch64)
_REFUSED = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "bpf": (321, 280),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "init_module": (175, 105),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "lookup_dcookie": (212, 18),
    "memfd_secret": (447, 447),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "perf_event_open": (298, 241),
    "pivot_root": (155, 41),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "vhangup": (153, 58),
}
_REFUSED_X86 = {"ioperm": 173, "iopl": 172, "modify_ldt": 154, "uselib": 134, "ustat": 136, "sysfs": 139}
# These report "not implemented": callers then fall back to what the filter can see through.
_MISSING = {"clone3": (435, 435), "memfd_create": (319, 279)}
_OPENAT2 = (437, 437)  # its mode is out of a filter's sight; callers fall back to openat
# Where no namespace hides the machine's other processes, these may only name the caller itself:
# the argument that holds a process id, by call.
_OWN_ONLY = {
    "ioprio_set": (251, 30, 1),
    "migrate_pages": (256, 238, 0),
    "move_pages": (279, 239, 0),
    "prlimit64": (302, 261, 0),
    "sched_setaffinity": (203, 122, 0),
    "sched_setattr": (314, 274, 0),
    "sched_setparam": (142, 118, 0),
    "sched_setscheduler": (144, 119, 0),
    "setpriority": (141, 140, 1),
}
_INOTIFY = {"inotify_add_watch": (254, 27)}  # Landlock does not see it
# Calls that set a file's mode, with the argument that holds it, for x86_64 and aarch64.
_MODES = (
    (((90, 1), (91, 1), (268, 2), (452, 2), (85, 1), (133, 1), (259, 2))),
    (((52, 1), (53, 2), (452, 2), (33, 2))),
)
_OPENS = (((2, 1), (257, 2)), ((56, 2),))  # the argument that holds the flags; the mode follows it
_SET_ID, _CREATES = 0o6000, 0x400040  # O_CREAT and O_TMPFILE
_SENDS = (((44, 3), (46, 2), (307, 3)), ((206, 3), (211, 2), (269, 3)))
_FAST_OPEN = 0x20000000  # connects without the connect that Landlock checks
_CLONE, _SOCKET, _SOCKETPAIR, _IOCTL, _SHMGET = (56, 220), (41, 198), (53, 199), (16, 29), (29, 194)


def _op(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value & 0xFFFFFFFF)


def _give(error: int) -> bytes:
    return _op(_RETURN, _ERRNO | error)


def _when(number: int, *body: bytes) -> list[bytes]:
    """Run the body, which must return, for one system call."""
    return [_op(_JEQ, number, 0, len(body)), *body]


def _argument(index: int) -> bytes:
    return _op(_LOAD, _ARG0 + 8 * index)


def _files(column: int) -> list[bytes]:
    """Refuse to make files that run with their owner's rights: in the workspace they would stay."""
    allow, refuse = _op(_RETURN, _ALLOW), _give(errno.EPERM)
    code = _when(_OPENAT2[column], _give(errno.ENOSYS))
    for number, index in _MODES[column]:
        code += _when(number, _argument(index), _op(_JSET, _SET_ID, 0, 1), refuse, allow)
    for number, index in _OPENS[column]:
        code += _when(
            number,
            _argument(index),
            _op(_JSET, _CREATES, 1, 0),
            allow,
            _argument(index + 1),
            _op(_JSET, _SET_ID, 0, 1),
            refuse,
            allow,
        )
    for number, index in _SENDS[column]:
        code += _when(number, _argument(index), _op(_JSET, _FAST_OPEN, 0, 1), refuse, allow)
    return code


def _strangers(column: int) -> list[bytes]:
    """Refuse to touch processes of this machine that no namespace hides."""
    allow, refuse = _op(_RETURN, _ALLOW), _give(errno.EPERM)
    code: list[bytes] = []
    for numbers in _INOTIFY.values():
        code += _when(numbers[column], refuse)
    for entry in _OWN_ONLY.values():
        code += _when(entry[column], _argument(entry[2]), _op(_JEQ, 0, 0, 1), allow, refuse)
    return code


def _arguments(column: int) -> list[bytes]:
    """Check the calls whose arguments decide."""
    allow = _op(_RETURN, _ALLOW)
    families = [
        _op(_LOAD, _ARG0),
        *(op for family in _SOCKET_FAMILIES for op in _when(family, allow)),
        _give(errno.EAFNOSUPPORT),
    ]
    return [
        *_when(_CLONE[column], _op(_LOAD, _ARG0), _op(_JSET, _NAMESPACES, 0, 1), _give(errno.EPERM), allow),
        *_when(_SOCKET[column], *families),
        *_when(_SOCKETPAIR[column], *families),
        *_when(
            _IOCTL[column],
            _op(_LOAD, _ARG1),
            _op(_JEQ, _TIOCSTI, 1),
            _op(_JEQ, _TIOCLINUX, 0, 1),
            _give(errno.EPERM),
            allow,
        ),
        *_when(
            _SHMGET[column],
            _op(_LOAD, _ARG1_HIGH),
            _op(_JEQ, 0, 0, 2),
            _op(_LOAD, _ARG1),
            _op(_JGE, _SHARED_SEGMENT_BYTES + 1, 0, 1),
            _give(errno.ENOSPC),
            allow,
        ),
    ]


def program(machine: str = "", *, shared: bool = False) -> bytes | None:
    """Return the filter as the kernel takes it; None for an architecture it is not written for.

    Args:
        machine: The architecture; this machine's when left out.
        shared: The sandbox has no process namespace of its own.
    """
    machine = machine or platform.machine()
    if machine not in _ARCHITECTURES:
        return None
    column = list(_ARCHITECTURES).index(machine)
    refused = sorted(numbers[column] for numbers in _REFUSED.values())
    code = [
        _op(_LOAD, _ARCH),
        _op(_JEQ, _ARCHITECTURES[machine], 1, 0),
        _give(errno.ENOSYS),  # another architecture's numbers, such as 32-bit calls
        _op(_LOAD, _NR),
    ]
    if machine == "x86_64":
        refused += sorted(_REFUSED_X86.values())
        code += [_op(_JGE, _X32, 0, 1), _give(errno.ENOSYS)]
    for numbers in _MISSING.values():
        code += _when(numbers[column], _give(errno.ENOSYS))
    for number in refused:
        code += _when(number, _give(errno.EPERM))
    code += _files(column)
    if shared:
        code += _strangers(column)
    code += _arguments(column)
    code.append(_op(_RETURN, _ALLOW))
    return b"".join(code)
