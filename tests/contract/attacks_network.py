"""Attacks over sockets: reaching anything but itself."""

from __future__ import annotations

from tests.contract.sandbox_world import Attack, py, reaches

_CONNECT = "import os, socket; e = os.environ; s = socket.socket({}); s.settimeout(0.4); s.connect({})"
_SEND = "import os, socket; e = os.environ; s = socket.socket({}); s.sendto({}, {})"
_UNIX = """
import os, socket
s = socket.socket(socket.AF_UNIX)
folder, name = os.path.split(os.environ["OUT"] + "/docker.sock")
os.chdir(folder); s.connect(name)
"""
_QUERY = r'b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x06secret\x04evil\x00\x00\x01\x00\x01"'
_METADATA = """
import os, socket
place = os.environ["METADATA"]
if place.startswith("127."):
    server = socket.create_server((place, 0)); port = server.getsockname()[1]
else:
    port = 80
socket.create_connection((place, port), timeout=0.4); print("ATTACK-WON")
"""
_VSOCK = "import socket; socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM); print('ATTACK-WON')"

NETWORK = [
    Attack("connect_by_tcp", py(_CONNECT.format("", "('127.0.0.1', int(e['TCP']))")), reaches),
    Attack("connect_by_tcp_6", py(_CONNECT.format("socket.AF_INET6", "('::1', int(e['TCP6']))")), reaches),
    Attack("connect_to_any", py(_CONNECT.format("", "('0.0.0.0', int(e['ANY']))")), reaches),
    Attack(
        "connect_by_mapped_address",
        py(_CONNECT.format("socket.AF_INET6", "('::ffff:127.0.0.1', int(e['TCP']))")),
        reaches,
    ),
    Attack("connect_by_the_shell", "exec 3<>/dev/tcp/127.0.0.1/$TCP", reaches),
    Attack(
        "connect_without_blocking",
        py(
            "import os, socket, time; s = socket.socket(); s.setblocking(False);"
            "s.connect_ex(('127.0.0.1', int(os.environ['TCP']))); time.sleep(0.1)"
        ),
        reaches,
    ),
    Attack(
        "connect_with_fast_open",
        py(
            "import os, socket; s = socket.socket();"
            "s.sendto(b'x', 0x20000000, ('127.0.0.1', int(os.environ['TCP'])))"
        ),
        reaches,
    ),
    Attack("send_by_udp", py(_SEND.format("2, 2", "b'x'", "('127.0.0.1', int(e['UDP']))")), reaches),
    Attack("send_a_name_query", py(_SEND.format("2, 2", _QUERY, "('127.0.0.1', int(e['UDP']))")), reaches),
    Attack(
        "send_by_sendmsg",
        py(
            "import os, socket; s = socket.socket(2, 2);"
            "s.sendmsg([b'x'], [], 0, ('127.0.0.1', int(os.environ['UDP'])))"
        ),
        reaches,
    ),
    Attack("connect_to_a_unix_socket", py(_UNIX), reaches),
    Attack("connect_to_an_abstract_socket", py(_CONNECT.format("1", "chr(0) + e['ABSTRACT']")), reaches),
    Attack("send_to_an_abstract_socket", py(_SEND.format("1, 2", "b'x'", "chr(0) + e['DATAGRAM']")), reaches),
    Attack("open_a_vsock", py(_VSOCK), needs=f'python3 -c "{_VSOCK}"'),
    Attack("open_a_raw_socket", py("import socket; socket.socket(2, 3, 1); print('ATTACK-WON')"), root=True),
    Attack(
        "open_a_packet_socket", py("import socket; socket.socket(17, 3, 768); print('ATTACK-WON')"), root=True
    ),
    Attack("ask_the_metadata_address", py(_METADATA)),
    Attack(
        "look_up_a_name",
        py("import os, socket; socket.getaddrinfo(os.environ['LOOKUP'], 80); print('ATTACK-WON')"),
    ),
]
