"""Posting to an address that a user named reaches nothing that the user must not reach."""

from __future__ import annotations

import asyncio
import datetime
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from email.utils import format_datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from phoenix.delivery.posting import KEPT_CHARS, READ_BYTES, Poster, retry_after
from phoenix.domain.addresses import Allowed
from phoenix.domain.webhook import Received
from tests.unit.delivery.receiver import Receiver, answer, receiving

HEADERS = {"webhook-id": "1"}
LOOPBACK = Allowed(["127.0.0.0/8"])
NAME = "hooks.example.org"


class Names:
    """A resolver that answers by script: the last answer stays."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as running:
        yield running


async def test_a_message_arrives(receiver: Receiver) -> None:
    """With its body and headers, and no connection is kept."""
    received = await Poster(LOOPBACK)(receiver.url(), HEADERS, b'{"a":1}')
    assert received == Received(status=204)
    (got,) = receiver.got
    assert (got.target, got.body, got.id) == ("/hook", b'{"a":1}', "1")
    assert got.headers["content-type"] == "application/json"
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"


@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["10.0.0.1"], ["169.254.169.254"], ["::1"], ["::ffff:127.0.0.1"], ["0.0.0.0"]],
)
async def test_a_name_with_a_private_address_is_refused(receiver: Receiver, addresses: list[str]) -> None:
    """It is refused when connecting: nothing reaches the receiver that listens there."""
    received = await Poster(Allowed(), resolve=Names(addresses))(receiver.url(NAME, scheme="https"), {}, b"")
    assert "not a public address" in received.error
    assert not received.is_success
    assert receiver.connections == 0


async def test_one_private_address_among_public_ones_is_enough_to_refuse(receiver: Receiver) -> None:
    """Whichever comes first."""
    for addresses in (["8.8.8.8", "127.0.0.1"], ["127.0.0.1", "8.8.8.8"]):
        poster = Poster(Allowed(), resolve=Names(addresses))
        assert "127.0.0.1" in (await poster(receiver.url(NAME, scheme="https"), {}, b"")).error
    assert receiver.connections == 0


async def test_a_name_that_changes_its_mind_gains_nothing(receiver: Receiver) -> None:
    """Rebinding: the first lookup is checked and used, and there is no second one in an attempt."""
    names = Names(["192.0.2.1"], ["127.0.0.1"])
    allowed = Allowed(["192.0.2.0/24"])  # stands for a public address: nothing answers there
    poster = Poster(allowed, resolve=names, connect_seconds=0.3)
    url = receiver.url(NAME, scheme="https")
    assert "connect" in (await poster(url, {}, b"")).error
    assert names.asked == [NAME]
    # The next attempt looks again, and what it finds is checked again.
    assert "not a public address" in (await poster(url, {}, b"")).error
    assert names.asked == [NAME, NAME]
    assert receiver.connections == 0


async def test_the_connection_goes_to_the_address_that_was_checked(receiver: Receiver) -> None:
    """A name that no resolver knows reaches where the lookup said, and the next address when one fails."""
    names = Names(["127.0.0.9", "127.0.0.1"])
    poster = Poster(Allowed(["127.0.0.0/8", NAME]), resolve=names)
    assert (await poster(receiver.url(NAME), HEADERS, b"")).is_success
    assert receiver.got[0].headers["host"] == f"{NAME}:{receiver.port}"


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "127.1", "0177.0.0.1", "localhost"])
async def test_other_ways_to_write_loopback_are_refused(receiver: Receiver, host: str) -> None:
    """As the machine's own resolver reads them."""
    received = await Poster(Allowed())(receiver.url(host, scheme="https"), {}, b"")
    assert received.error
    assert receiver.connections == 0


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(receiver: Receiver, status: int) -> None:
    """Wherever it leads; the attempt has failed."""
    async with receiving() as other:
        receiver.reply = lambda _: answer(status, Location=other.url())
        received = await Poster(LOOPBACK)(receiver.url(), HEADERS, b"")
        assert (received.status, other.connections) == (status, 0)
        assert "redirects are not followed" in received.error


async def test_a_proxy_of_the_environment_is_not_used(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would connect to what is refused here, and see what is sent."""
    async with receiving() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert (await Poster(LOOPBACK)(receiver.url(), HEADERS, b"")).is_success
        assert (len(receiver.got), proxy.connections) == (1, 0)


async def test_a_url_that_was_allowed_once_is_checked_again(receiver: Receiver) -> None:
    """What was stored before a setting changed is refused now."""
    assert "https only" in (await Poster(Allowed())(receiver.url(), HEADERS, b"")).error
    assert receiver.connections == 0


async def test_an_endless_answer_is_cut(receiver: Receiver) -> None:
    """Of what is read only the beginning is kept, and what looks like a secret is masked."""
    said = b"token=abcdefgh12345678 " + b"x" * (50 * READ_BYTES)
    receiver.reply = lambda _: answer(500, said, Retry_After="7")
    received = await Poster(LOOPBACK)(receiver.url(), HEADERS, b"")
    assert (received.status, received.after_seconds) == (500, 7.0)
    assert len(received.body) == KEPT_CHARS
    assert "abcdefgh" not in received.body


async def test_an_answer_without_an_end_is_left() -> None:
    """It goes on as long as somebody reads; nobody does once there is enough of it."""
    sent, left = 0, asyncio.Event()

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
                await writer.drain()
                sent += 4096
        except ConnectionError:
            left.set()
        finally:
            writer.close()

    server = await asyncio.start_server(pour, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        received = await Poster(LOOPBACK, whole_seconds=5)(url, HEADERS, b"")
        assert (received.status, received.error, len(received.body)) == (200, "", KEPT_CHARS)
        await asyncio.wait_for(left.wait(), 10)
    assert sent < 64 * 1024**2, "it was read far beyond what is kept"


async def test_a_packed_answer_is_not_unpacked(receiver: Receiver) -> None:
    """A small answer cannot become a large one."""
    receiver.reply = lambda _: answer(200, b"\x1f\x8b\x08\x00", Content_Encoding="gzip")
    received = await Poster(LOOPBACK)(receiver.url(), HEADERS, b"")
    assert received.is_success
    assert len(received.body) == 4
    assert receiver.got[0].headers["accept-encoding"] == "identity"


async def test_an_answer_that_does_not_come_is_not_waited_for(receiver: Receiver) -> None:
    """From lookup to last byte there is one limit; a lookup that hangs is within it."""

    async def hang(host: str, port: int) -> Sequence[str]:
        await asyncio.sleep(60)
        return []

    receiver.reply = lambda _: None
    began = time.monotonic()
    for poster, host in (
        (Poster(LOOPBACK, whole_seconds=0.3), "127.0.0.1"),
        (Poster(Allowed([NAME]), whole_seconds=0.3, resolve=hang), NAME),
    ):
        assert "longer than 0.3 s" in (await poster(receiver.url(host), HEADERS, b"")).error
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("said", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"])
async def test_what_is_no_answer_is_a_failure(receiver: Receiver, said: bytes) -> None:
    """Nothing is raised, and the reason is told."""
    receiver.reply = lambda _: said
    received = await Poster(LOOPBACK)(receiver.url(), HEADERS, b"")
    assert not received.is_success
    assert received.error


async def test_nobody_there_is_a_failure() -> None:
    """A refused connection, and a name without address."""
    async with receiving() as gone:
        url = gone.url()
    assert "connect error" in (await Poster(LOOPBACK)(url, {}, b"")).error
    poster = Poster(Allowed([NAME]), resolve=Names([]))
    assert "no address" in (await poster(f"https://{NAME}/", {}, b"")).error


def certified(folder: Path, name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return TLS for a server of that name, and for clients that trust it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return server, ssl.create_default_context(cafile=str(folder / "cert.pem"))


async def test_tls_verifies_the_name_although_the_address_is_connected_to(tmp_path: Path) -> None:
    """The right name passes; another one, or a certificate of nobody we know, is refused."""
    server, client = certified(tmp_path, NAME)
    async with receiving(server) as receiver:
        names = Names(["127.0.0.1"])
        known = Poster(LOOPBACK, resolve=names, tls=client)
        assert (await known(receiver.url(NAME, scheme="https"), HEADERS, b"")).is_success
        for poster, host in (
            (known, "other.example.org"),
            (known, "127.0.0.1"),
            (Poster(LOOPBACK, resolve=names), NAME),
        ):
            received = await poster(receiver.url(host, scheme="https"), HEADERS, b"")
            assert "certificate verify failed" in received.error, received
        assert len(receiver.got) == 1


def test_retry_after_is_read_in_both_forms() -> None:
    """Seconds, or a date; nonsense, the past and what is endless ask for nothing unheard of."""
    soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=90)
    assert retry_after(" 120 ") == 120.0
    assert 85 <= retry_after(format_datetime(soon, usegmt=True)) <= 91
    for text in ("", "soon", "-5", "1e9", "Wed, 21 Oct 2015 07:28:00 GMT", "²"):
        assert retry_after(text) == 0.0
    assert retry_after("9" * 400) == 999_999_999.0
