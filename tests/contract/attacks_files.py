"""Attacks on files: reading secrets, changing what lies outside, leaving something behind."""

from __future__ import annotations

from pathlib import Path

from phoenix.domain.execution import ExecuteResult
from tests.contract.sandbox_world import Attack, World, changes, leaks, py


def _file(path: str) -> object:
    def won(world: World, result: ExecuteResult) -> bool:
        return bool(list(Path(path.format(folder=world.folder)).parent.glob(f"*{world.tag}*")))

    return won


def _planted(path: str) -> object:
    def won(world: World, result: ExecuteResult) -> bool:
        place = world.folder / path
        return place.exists() and "planted" in place.read_text()

    return won


def _suid(world: World, result: ExecuteResult) -> bool:
    return any(p.stat().st_mode & 0o6000 for p in world.workspace.iterdir())


_CHROOT = """
import os
os.mkdir("jail"); os.chroot("jail")
for _ in range(64): os.chdir("..")
os.chroot("."); print(open(os.environ["SECRET"]).read())
"""
_HANDLE = """
import ctypes, os, struct
libc = ctypes.CDLL(None, use_errno=True)
here = os.open(".", os.O_RDONLY)
inode = int(os.environ["INODE"]) if "INODE" in os.environ else os.stat(os.environ["SECRET"]).st_ino
handle = struct.pack("Iiii", 8, 1, inode, int(os.environ.get("GENERATION", "0")))
buffer = ctypes.create_string_buffer(200)
buffer[:4] = struct.pack("I", 128)
mount = ctypes.c_int()
if libc.name_to_handle_at(-100, os.environ["SECRET"].encode(), buffer, ctypes.byref(mount), 0):
    buffer[: len(handle)] = handle
fd = libc.open_by_handle_at(here, buffer, os.O_RDONLY)
print(os.read(fd, 99))
"""

_SAME_ROOT = "[ $(stat -Lc %d:%i /proc/1/root) = $(stat -Lc %d:%i /) ]"
_DISK = """
import os
at = os.stat(".").st_dev
os.mknod("disk", 0o60600, at)
os.read(os.open("disk", os.O_RDONLY), 1)
print("ATTACK-WON")
"""

READING = [
    Attack("read_a_secret", 'cat "$SECRET"', leaks),
    Attack("read_by_climbing", "cat ../outside/secret", leaks),
    Attack("read_a_private_key", 'cat "$FAKE_HOME/.ssh/id_rsa"', leaks),
    Attack("read_another_workspace", 'cat "$OTHER/code.py"', leaks),
    Attack("list_outside", 'ls "$OUT" | grep -qx secret && echo $WON'),
    Attack("read_through_a_symlink", 'ln -s "$SECRET" link; cat link', leaks),
    Attack("read_through_a_hard_link", 'ln "$SECRET" link; cat link', leaks),
    Attack("read_through_a_folder_link", 'ln -s "$OUT" link; cat link/secret', leaks),
    Attack("read_through_own_root", 'cat "/proc/self/root$SECRET"', leaks),
    Attack("read_through_the_first_process", 'cat "/proc/1/root$SECRET"', leaks, root=True, needs=_SAME_ROOT),
    Attack("read_through_the_parent", 'cat "/proc/$PPID/root$SECRET"', leaks),
    Attack("read_through_a_victim_s_root", 'cat "/proc/$VICTIM/root$SECRET"', leaks, victim=True),
    Attack("read_through_a_victim_s_folder", "cat /proc/$VICTIM/cwd/secret", leaks, victim=True),
    Attack("read_through_any_root", 'for p in /proc/[0-9]*; do cat "$p/root$SECRET" && break; done', leaks),
    Attack(
        "read_through_a_victim_s_descriptor",
        "for f in /proc/$VICTIM/fd/*; do timeout 0.2 head -c 99 $f; done",
        leaks,
        victim=True,
    ),
    Attack("read_an_inherited_descriptor", "cat /dev/fd/$LEAKED_FD", leaks),
    Attack("escape_a_chroot", py(_CHROOT), leaks, root=True),
    Attack("open_by_handle", py(_HANDLE), leaks, root=True),
    Attack("read_the_shadow_file", "head -c 1 /etc/shadow > /dev/null && echo $WON", root=True),
    Attack(
        "read_a_raw_disk",
        "for d in /dev/vda /dev/sda /dev/nvme0n1; do head -c 1 $d >/dev/null && echo $WON; done",
        root=True,
        needs="head -c 1 /dev/vda || head -c 1 /dev/sda || head -c 1 /dev/nvme0n1",
    ),
    Attack("make_a_raw_disk", py(_DISK), root=True, needs=f"cd $(mktemp -d); {py(_DISK)}"),
    Attack("download_by_climbing", "true", leaks, download="../outside/secret"),
    Attack("download_a_symlink", 'ln -s "$SECRET" link', leaks, download="link"),
    Attack("download_below_a_symlink", 'ln -s "$OUT" link', leaks, download="link/secret"),
    Attack(
        "download_a_chain_of_links", 'ln -s "$OUT" a; ln -s a b; mkdir c', leaks, download="c/../b/secret"
    ),
    Attack("download_a_proc_link", 'ln -s "/proc/self/root$SECRET" link', leaks, download="link"),
]

WRITING = [
    Attack("overwrite_outside", 'echo x > "$TARGET"', changes),
    Attack("overwrite_by_climbing", "echo x > ../outside/target", changes),
    Attack("create_outside", 'echo x > "$OUT/new"', changes),
    Attack("delete_outside", 'rm -f "$TARGET"', changes),
    Attack("rename_over_outside", 'echo x > y; mv -f y "$TARGET"', changes),
    Attack("truncate_outside", 'truncate -s 0 "$TARGET"', changes),
    # Landlock has no rule for modes, times and attributes: only what the same user owns is open to it.
    Attack("change_mode_outside", 'chmod 777 "$TARGET"', changes, open_to=("sandlock",)),
    Attack("link_into_outside", 'touch y; ln y "$OUT/linked"', changes),
    Attack("write_through_a_symlink", 'ln -s "$TARGET" link; echo x > link', changes),
    Attack("write_through_a_hard_link", 'ln "$TARGET" link; echo x > link', changes),
    Attack("write_through_own_root", 'echo x > "/proc/self/root$TARGET"', changes),
    Attack(
        "write_through_the_first_process",
        'echo x > "/proc/1/root$TARGET"',
        changes,
        root=True,
        needs=_SAME_ROOT,
    ),
    Attack("write_through_a_victim", "echo x > /proc/$VICTIM/cwd/target", changes, victim=True),
    Attack("upload_by_climbing", "true", changes, upload="../outside/target"),
    Attack("upload_through_a_symlink", 'ln -s "$TARGET" link', changes, upload="link"),
    Attack("upload_below_a_symlink", 'ln -s "$OUT" link', changes, upload="link/target"),
    Attack(
        "write_to_the_system",
        "f=/usr/local/phoenix-$TAG; echo x > $f && rm $f && echo $WON",
        root=True,
    ),
    Attack("write_to_python", "f=$PREFIX/phoenix-$TAG; echo x > $f && rm $f && echo $WON", root=True),
    Attack(
        "write_to_the_environment",
        'echo planted >> "$ENVIRONMENT/bin/tool"',
        _planted("environment/bin/tool"),
    ),
    Attack("change_the_users", py("open('/etc/passwd', 'a').close(); print('ATTACK-WON')"), root=True),
    Attack("persist_in_a_profile", 'echo planted >> "$FAKE_HOME/.bashrc"', _planted("home/.bashrc")),
    Attack(
        "persist_in_a_git_hook",
        'echo planted > "$OTHER/.git/hooks/pre-commit"',
        _planted("other/.git/hooks/pre-commit"),
    ),
    Attack("persist_in_tmp", "echo x > /tmp/phoenix-$TAG", _file("/tmp/x")),
    Attack("persist_in_shared_memory", "echo x > /dev/shm/phoenix-$TAG", _file("/dev/shm/x")),
    Attack(
        "persist_in_a_message_queue",
        py("import ctypes,os; ctypes.CDLL(None).msgget(int(os.environ['KEY']), 0o1666)"),
        lambda world, result: world.queue_exists(),
    ),
    Attack("leave_a_setuid_file", "cp /bin/true s; chmod 4755 s", _suid),
]
