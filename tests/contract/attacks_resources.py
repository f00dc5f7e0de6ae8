"""Attacks by using too much: processes, memory, disk, time, output."""

from __future__ import annotations

from phoenix.domain.execution import ExecuteResult
from tests.contract.sandbox_world import LIMITS, Attack, World, py


def _printed(text: str) -> object:
    def won(world: World, result: ExecuteResult) -> bool:
        return text in result.stdout

    return won


def _flooded(world: World, result: ExecuteResult) -> bool:
    return len(result.stdout) + len(result.stderr) > 2.2 * LIMITS.output_bytes


def _large(world: World, result: ExecuteResult) -> bool:
    return any(p.stat().st_size > LIMITS.file_bytes for p in world.workspace.iterdir())


_FORKS = """
import os, time
n = 0
try:
    for _ in range(90):
        if os.fork() == 0: time.sleep(3); os._exit(0)
        n += 1
except OSError: pass
time.sleep(0.4)
print("ATTACK-WON" if n > 45 else n, flush=True)
os.killpg(0, 9)
"""
_THREADS = """
import os, threading, time
n = 0
try:
    for _ in range(90): threading.Thread(target=time.sleep, args=(0.6,), daemon=True).start(); n += 1
except RuntimeError: pass
time.sleep(0.4); print("ATTACK-WON" if n > 45 else n, flush=True); os._exit(0)
"""
_MANY = """
import os, time
for _ in range(4):
    if os.fork() == 0:
        b = b"x" * (60 * 2**20); time.sleep(3); os._exit(0)
time.sleep(1.2); print("ATTACK-WON", flush=True); os.killpg(0, 9)
"""
_MEMFD = """
import os, time
for _ in range(60):
    fd = os.memfd_create("x"); os.write(fd, b"x" * (3 * 2**20))
time.sleep(0.3); print("ATTACK-WON")
"""
_SEGMENT = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p
ids = [libc.shmget(0, 2**20, 0o1600) for _ in range(200)]
print("ATTACK-WON" if min(ids) >= 0 else "")
for i in ids: libc.shmctl(i, 0, None)
"""
_SHARED = """
import mmap, time
m = mmap.mmap(-1, 250 * 2**20)
for at in range(0, len(m), 4096): m[at] = 1
time.sleep(0.3); print("ATTACK-WON")
"""
_BURN = """
import time
while time.process_time() < 1.3: pass
print("ATTACK-WON")
"""
_FILL = (
    "for i in $(seq 30); do head -c 2000000 /dev/zero > {0}-$i || exit 1; done; "
    "sleep 0.4; echo $WON; rm -f {0}*"
)

RESOURCES = [
    Attack("fork_without_end", py(_FORKS)),
    Attack("start_threads_without_end", py(_THREADS)),
    Attack("take_all_memory", py("b = bytearray(300 * 2**20); print('ATTACK-WON')")),
    Attack("take_all_memory_together", py(_MANY)),
    Attack("take_all_memory_in_shared_pages", py(_SHARED)),
    Attack("take_all_memory_in_nameless_files", py(_MEMFD)),
    Attack("take_all_memory_in_segments", py(_SEGMENT)),
    Attack("fill_tmp", _FILL.format("/tmp/phoenix-$TAG")),
    Attack("fill_shared_memory", _FILL.format("/dev/shm/phoenix-$TAG")),
    Attack("fill_the_temporary_folder", _FILL.format("${TMPDIR:-/tmp}/phoenix-$TAG")),
    Attack("write_a_huge_file", "head -c 20000000 /dev/zero > huge", _large),
    Attack("write_a_huge_sparse_file", "truncate -s 5G huge", _large),
    Attack("reserve_a_huge_file", "fallocate -l 20000000 huge", _large),
    Attack(
        "open_files_without_end",
        py(
            "import os, resource as r; r.setrlimit(r.RLIMIT_NOFILE, (r.getrlimit(r.RLIMIT_NOFILE)[1],) * 2)\n"
            "for _ in range(6000): os.open('/dev/null', 0)\nprint('ATTACK-WON')"
        ),
        needs="[ $(ulimit -Hn) = unlimited ] || [ $(ulimit -Hn) -gt 6100 ]",
    ),
    Attack("burn_time", py(_BURN), bare_seconds=20),
    Attack("run_past_the_deadline", "sleep 0.9; echo $WON", seconds=0.4),
    Attack("flood_output", "head -c 3000000 /dev/zero | tr '\\0' x", _flooded),
    Attack("flood_errors", "head -c 3000000 /dev/zero | tr '\\0' x >&2", _flooded),
    Attack("flood_with_bad_text", "head -c 1000000 /dev/zero | tr '\\0' '\\377'", _flooded),
    Attack("colour_the_terminal", "printf '\\033[31mred'", _printed("\x1b")),
    Attack("name_the_terminal", "printf '\\033]0;owned\\007'", _printed("owned")),
    Attack("move_the_cursor", "printf 'ok\\r\\033[2Kforged'", _printed("\r")),
    Attack("print_8_bit_controls", "printf '\\302\\233 31m'", _printed("\x9b")),
    Attack("print_nul", "printf 'a\\000b'", _printed("\0")),
    Attack("print_backwards", "printf 'a\\342\\200\\256b'", _printed("\u202e")),
]
