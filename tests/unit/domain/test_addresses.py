"""Only public addresses are connected to, however they are written, but for what an operator allows."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from phoenix.domain.addresses import Allowed, is_special
from phoenix.errors import AddressRefused, SettingInvalid

REFUSED = {
    "this host": ["0.0.0.0", "0.1.2.3"],
    "loopback": ["127.0.0.1", "127.255.255.254", "::1"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fd12:3456::1"],
    "link-local": ["169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0"],
    "site-local": ["fec0::1"],
    "shared": ["100.64.0.1", "100.127.255.254"],
    "cloud metadata": ["169.254.169.254", "fd00:ec2::254", "100.100.100.200"],
    "protocols": ["192.0.0.1", "192.0.0.171", "192.88.99.1"],
    "documentation": ["192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "3fff::1"],
    "benchmarks": ["198.18.0.1", "198.19.255.255", "2001:2::1"],
    "multicast": ["224.0.0.1", "239.255.255.255", "ff02::1"],
    "reserved": ["240.0.0.1", "255.255.255.255"],
    "unspecified": ["::"],
    "mapped": ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:0"],
    "compatible": ["::127.0.0.1", "::8.8.8.8"],
    "nat64": ["64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::808:808", "64:ff9b:1::1"],
    "6to4": ["2002:7f00:1::1", "2002:808:808::1"],
    "teredo": ["2001:0:4136:e378:8000:63bf:3fff:fdd2"],
    "discard": ["100::1"],
    "segment routing": ["5f00::1"],
}
PUBLIC = ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700:4700::1111", "::ffff:8.8.8.8"]


@pytest.mark.parametrize("text", [a for group in REFUSED.values() for a in group])
def test_what_is_not_public_is_refused(text: str) -> None:
    """Each range of the registries of special addresses."""
    address = ip_address(text)
    assert is_special(address)
    with pytest.raises(AddressRefused, match="not a public address"):
        Allowed().check("hooks.example.org", address, encrypted=True)


@pytest.mark.parametrize("text", PUBLIC)
def test_what_is_public_is_connected_to(text: str) -> None:
    """Neighbours of the refused ranges among them; a mapped address is its IPv4 one."""
    expected = "8.8.8.8" if text.startswith("::ffff:") else text
    assert str(Allowed().check("hooks.example.org", ip_address(text), encrypted=True)) == expected


def test_what_is_allowed_is_let_through_and_nothing_beside_it() -> None:
    """By network, also written as IPv6, and by name."""
    allowed = Allowed(["10.1.0.0/16", "Hooks.internal", "::1"])
    for text in ("10.1.2.3", "::ffff:10.1.2.3", "::1"):
        allowed.check("a.example", ip_address(text), encrypted=True)
    allowed.check("hooks.internal.", ip_address("10.9.9.9"), encrypted=False)
    for host, text in (("a.example", "10.2.0.1"), ("x.hooks.internal", "10.9.9.9"), ("b", "127.0.0.1")):
        with pytest.raises(AddressRefused):
            allowed.check(host, ip_address(text), encrypted=True)


def test_nothing_is_sent_in_the_clear_unless_allowed() -> None:
    """A public address without TLS is refused when connecting, too."""
    with pytest.raises(AddressRefused, match="in the clear"):
        Allowed().check("hooks.example.org", ip_address("8.8.8.8"), encrypted=False)


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.org/",
        "ftp://hooks.example.org/",
        "file:///etc/passwd",
        "gopher://hooks.example.org/",
        "//hooks.example.org/",
        "https://",
        "https:///path",
        "https://user:password@hooks.example.org/",
        "https://user@hooks.example.org/",
        "https://@hooks.example.org/",
        "https://hooks.example.org/#x",
        "https://hooks.example.org\\@10.0.0.1/",
        "https://hooks.example.org:0/",
        "https://hooks.example.org:99999/",
        "https://hooks.example.org:x/",
        "https://[::1/",
        "https://hooks .example.org/",
        "https://hooks.example.org/\r\nX: y",
        "https://höks.example.org/",
        "https://-x.example.org/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:169.254.169.254]/",
        "https://169.254.169.254/latest/meta-data",
        "https://hooks.example.org/" + "x" * 2000,
    ],
)
def test_a_url_that_is_not_used_is_refused_at_once(url: str) -> None:
    """Before anything is looked up, with the field at fault."""
    with pytest.raises(AddressRefused) as caught:
        Allowed().check_url(url)
    assert caught.value.field == "url"


def test_a_url_that_fits_is_taken() -> None:
    """With port, query, or an address; without TLS only where the host is allowed."""
    for url in ("https://hooks.example.org:8443/a?b=c", "https://8.8.8.8/", "HTTPS://Hooks.example.org"):
        assert Allowed().check_url(url) == url
    allowed = Allowed(["127.0.0.0/8", "hooks.internal"])
    for url in ("http://127.0.0.1:8000/x", "http://hooks.internal/x", "https://127.9.9.9/"):
        assert allowed.check_url(url) == url
    with pytest.raises(AddressRefused, match="https only"):
        allowed.check_url("http://elsewhere.internal/")


@pytest.mark.parametrize("entry", ["10.0.0.0/33", "10.0.0.1/8", "a b", "", "https://x", "1.2.3", "*", "-x"])
def test_a_wrong_entry_is_told(entry: str) -> None:
    """At the start, by the name of the setting."""
    with pytest.raises(SettingInvalid) as caught:
        Allowed([entry])
    assert caught.value.field == "PHOENIX_WEBHOOK_ALLOW"
