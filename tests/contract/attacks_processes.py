"""Attacks on other processes, on the environment, and on the time a command has."""

from __future__ import annotations

import os

import psutil

from phoenix.domain.execution import ExecuteResult
from tests.contract.sandbox_world import Attack, World, leaks, py, survives


def _dead(world: World, result: ExecuteResult) -> bool:
    return not world.victim_lives()


def _reniced(world: World, result: ExecuteResult) -> bool:
    return world.victim is not None and psutil.Process(world.victim.pid).nice() != os.getpriority(
        os.PRIO_PROCESS, 0
    )


def _limited(world: World, result: ExecuteResult) -> bool:
    return world.victim is not None and psutil.Process(world.victim.pid).rlimit(psutil.RLIMIT_NOFILE)[0] == 5


_PTRACE = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
victim = int(os.environ["VICTIM"])
if libc.ptrace(0x4206, victim, None, None) == 0:
    print("ATTACK-WON")
"""
_MEMORY = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
pid = int(os.environ["VICTIM"])
line = next(l for l in open(f"/proc/{pid}/maps") if "[stack]" in l)
low, high = (int(x, 16) for x in line.split()[0].split("-"))
"""
_READ = (
    _MEMORY
    + "f = open(f'/proc/{pid}/mem', 'rb'); f.seek(low); print(f.read(high - low).decode('ascii', 'ignore'))"
)
_VM_READ = (
    _MEMORY
    + """
class Vec(ctypes.Structure): _fields_ = [("base", ctypes.c_void_p), ("size", ctypes.c_size_t)]
buffer = ctypes.create_string_buffer(high - low)
here, there = Vec(ctypes.addressof(buffer), high - low), Vec(low, high - low)
libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
print(buffer.raw.decode("ascii", "ignore"))
"""
)
_INOTIFY = """
import ctypes, os
libc = ctypes.CDLL(None)
if libc.inotify_add_watch(libc.inotify_init(), os.environ["OUT"].encode(), 0xfff) >= 0: print("ATTACK-WON")
"""
_DOUBLE_FORK = """
import os
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for fd in range(3): os.close(fd)
        os.execvp("sleep", ["sleep", os.environ["SLEEP"]])
    os._exit(0)
os.wait()
"""
_PIDFD = """
import os, signal
signal.pidfd_send_signal(os.pidfd_open(int(os.environ["VICTIM"])), signal.SIGKILL)
"""

PROCESSES = [
    Attack("read_a_victim_s_environment", "cat /proc/$VICTIM/environ", leaks, victim=True),
    Attack("read_all_environments", "cat /proc/[0-9]*/environ", leaks, victim=True),
    Attack("read_the_inherited_environment", "env; cat /proc/self/environ /proc/$PPID/environ", leaks),
    Attack("read_the_first_process_s_environment", "cat /proc/1/environ /proc/$$/environ", leaks),
    Attack("read_a_victim_s_arguments", "cat /proc/$VICTIM/cmdline", leaks, victim=True),
    Attack("read_all_arguments", "cat /proc/[0-9]*/cmdline", leaks, victim=True),
    Attack("read_a_victim_s_memory", py(_READ), leaks, victim=True),
    Attack("read_a_victim_s_memory_by_call", py(_VM_READ), leaks, victim=True),
    # sandlock hides other processes from listings, not from someone who guesses a number.
    Attack("see_a_victim", "[ -d /proc/$VICTIM ] && echo $WON", victim=True, open_to=("sandlock",)),
    Attack("kill_a_victim", "kill -9 $VICTIM; sleep 0.05", _dead, victim=True),
    Attack("kill_a_victim_by_descriptor", py(_PIDFD) + "\nsleep 0.05", _dead, victim=True),
    Attack("signal_the_parent", "kill -0 $PARENT && echo $WON"),
    Attack("trace_a_victim", py(_PTRACE), victim=True),
    Attack("renice_a_victim", "renice -n 7 -p $VICTIM", _reniced, victim=True),
    Attack("limit_a_victim", "prlimit --nofile=5:5 --pid $VICTIM", _limited, victim=True),
    Attack("watch_outside", py(_INOTIFY)),
    Attack("leave_a_background_job", "sleep $SLEEP >/dev/null 2>&1 & sleep 0.1", survives),
    Attack("leave_a_session", "setsid -f sleep $SLEEP >/dev/null 2>&1; sleep 0.1", survives),
    Attack("leave_a_daemon", py(_DOUBLE_FORK) + "\nsleep 0.1", survives),
    Attack(
        "leave_a_deaf_process",
        "(trap '' TERM HUP INT; exec nohup sleep $SLEEP) >/dev/null 2>&1 & sleep 0.1",
        survives,
    ),
    Attack("leave_a_stopped_process", "sleep $SLEEP >/dev/null 2>&1 & sleep 0.1; kill -STOP $!", survives),
    Attack(
        "ignore_the_deadline",
        "trap '' TERM HUP INT; sleep $SLEEP & while :; do wait; done",
        survives,
        seconds=0.4,
        bare_seconds=0.4,
    ),
    Attack("stop_at_the_deadline", "sleep $SLEEP & kill -STOP $$", survives, seconds=0.4, bare_seconds=0.4),
]
