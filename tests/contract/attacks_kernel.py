"""Attacks on the kernel and on what belongs to the whole machine. Each is a harmless form."""

from __future__ import annotations

from tests.contract.sandbox_world import Attack, py

_CALL = """
import ctypes, errno, os, platform
libc = ctypes.CDLL(None, use_errno=True)
column = 0 if platform.machine() == "x86_64" else 1
def call(numbers, *args):
    done = libc.syscall(numbers[column], *args)
    return 0 if done >= 0 else ctypes.get_errno()
def won(code, *codes):
    print("ATTACK-WON" if code in codes else errno.errorcode.get(code))
"""


def _call(check: str) -> str:
    return py(_CALL + check)


_TIOCSTI = """
import fcntl, os, pty, termios
if os.fork() == 0:
    os.setsid()
    lead, tty = os.openpty()
    fcntl.ioctl(tty, termios.TIOCSCTTY, 0)
    fcntl.ioctl(tty, termios.TIOCSTI, b"x")
    print("ATTACK-WON", flush=True)
    os._exit(0)
os.wait()
"""
_REWRITE = "v=$(cat {0}); printf '%s\\n' \"$v\" > {0} && echo $WON"
_CHOWN = "import os; open('f','w').close(); os.chown('f', 12345, 12345); print('ATTACK-WON')"
_RESOURCE = "[ $((0x$(awk '/CapEff/{print $2}' /proc/self/status) >> 24 & 1)) = 1 ]"
_RAISE = (
    "import resource as r\n"
    "r.setrlimit(r.RLIMIT_NICE, (0, r.getrlimit(r.RLIMIT_NICE)[1] + 1)); print('ATTACK-WON')"
)

KERNEL = [
    Attack(
        "mount",
        "mkdir m; unshare -m sh -c 'mount -t tmpfs none m && echo $WON'"
        " || (mount -t tmpfs none m && echo $WON && umount m)",
        root=True,
    ),
    Attack(
        "mount_in_a_user_namespace",
        "mkdir m; unshare -Urm sh -c 'mount -t tmpfs none m && echo $WON'",
        needs="unshare -Urm true",
    ),
    Attack("make_a_user_namespace", "unshare -U true && echo $WON", needs="unshare -U true"),
    Attack("make_a_network_namespace", "unshare -n true && echo $WON", root=True),
    Attack("enter_a_victim_s_namespace", "nsenter -t $VICTIM -m true && echo $WON", victim=True, root=True),
    Attack("write_a_kernel_setting", _REWRITE.format("/proc/sys/vm/swappiness"), root=True),
    Attack("write_the_core_pattern", _REWRITE.format("/proc/sys/kernel/core_pattern"), root=True),
    Attack(
        "open_the_system_request_trigger",
        py("open('/proc/sysrq-trigger', 'w').close(); print('ATTACK-WON')"),
        root=True,
        needs="[ -e /proc/sysrq-trigger ]",
    ),
    Attack(
        "read_the_kernel_log",
        py("import os; os.open('/dev/kmsg', os.O_RDONLY); print('ATTACK-WON')"),
        root=True,
    ),
    Attack(
        "read_the_kernel_log_by_call", _call("code = call((103, 116), 10, None, 0); won(code, 0)"), root=True
    ),
    Attack(
        "set_the_host_name",
        _call("name = os.uname().nodename.encode(); code = call((170, 161), name, len(name)); won(code, 0)"),
        root=True,
    ),
    Attack("make_a_device", "mknod null c 1 3 && echo x > null && echo $WON", root=True),
    Attack("give_a_file_away", py(_CHOWN), root=True),
    Attack(
        "become_another_user",
        py("import os; os.setgroups([]); os.setresuid(12345, 12345, 12345); print('ATTACK-WON')"),
        root=True,
    ),
    Attack("raise_a_limit", py(_RAISE), root=True, needs=_RESOURCE),
    Attack(
        "run_in_real_time",
        py("import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1)); print('ATTACK-WON')"),
        root=True,
    ),
    Attack(
        "hide_from_the_memory_killer",
        "echo -1000 > /proc/self/oom_score_adj && echo $WON",
        root=True,
        needs=_RESOURCE,
    ),
    Attack("type_into_a_terminal", py(_TIOCSTI), root=True),
    Attack("add_a_key", _call("code = call((248, 217), b'user', b'phoenix', b'x', 1, -1); won(code, 0)")),
    Attack(
        "load_a_bpf_program",
        _call(
            "code = call((321, 280), 0, ctypes.create_string_buffer(128), 128); "
            "won(code, 0, errno.EINVAL, errno.EFAULT)"
        ),
        root=True,
    ),
    Attack("fault_pages_by_hand", _call("code = call((323, 282), 0); won(code, 0)"), root=True),
    Attack(
        "use_a_kernel_ring",
        _call("code = call((425, 425), 1, ctypes.create_string_buffer(128)); won(code, 0)"),
        root=True,
    ),
    Attack(
        "open_a_counter",
        _call(
            "b = ctypes.create_string_buffer(128); b[4] = 128; b[0] = 1; "
            "code = call((298, 241), b, 0, -1, -1, 0); won(code, 0)"
        ),
        root=True,
    ),
    Attack(
        "load_a_module",
        _call(
            "code = call((175, 105), None, 0, b''); won(code, 0, errno.EFAULT, errno.ENOEXEC, errno.EINVAL)"
        ),
        root=True,
        needs="[ -e /proc/modules ]",
    ),
    Attack(
        "swap_on_a_file",
        _call("code = call((167, 224), b'/nonexistent', 0); won(code, 0, errno.ENOENT)"),
        root=True,
    ),
    Attack(
        "account_processes",
        _call("code = call((163, 89), b'/nonexistent'); won(code, 0, errno.ENOENT)"),
        root=True,
    ),
    Attack(
        "restart_the_machine",
        _call("code = call((169, 142), 1, 2, 3, None); won(code, errno.EINVAL)"),
        root=True,
    ),
    Attack("watch_the_file_system", _call("code = call((300, 262), 0, 0); won(code, 0)"), root=True),
]
