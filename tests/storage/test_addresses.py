"""The address rule: public addresses only, whatever they are dressed up as."""

import socket

import pytest

from engine.errors import InvalidInput, SourceBlocked
from engine.storage.addresses import Guard, host_and_port, refused, resolve


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "198.18.0.1",
        "203.0.113.9",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "0.0.0.0",
        "::",
        "::1",
        "::127.0.0.1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::808:808",
        "2002:7f00:1::",
        "2001:0:7f00:1::",
        "2001:db8::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
    ],
)
def test_addresses_that_lead_inside_are_refused(address: str) -> None:
    assert refused(address)


@pytest.mark.parametrize(
    "address", ["8.8.8.8", "151.101.1.69", "2606:4700::6810:84e5", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public_addresses_are_accepted(address: str) -> None:
    assert not refused(address)


def test_one_refused_address_among_many_refuses_the_name() -> None:
    guard = Guard(resolve=lambda host, port: ["8.8.8.8", "10.0.0.1"])
    with pytest.raises(SourceBlocked) as caught:
        guard.addresses("rebind.example", 443)
    assert caught.value.code == "SOURCE_BLOCKED"
    assert "rebind.example" in caught.value.message
    assert "10.0.0.1" not in caught.value.message
    assert caught.value.field == "source"


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f000001", "017700000001"])
def test_names_and_odd_spellings_of_loopback_are_resolved_before_they_are_judged(host: str) -> None:
    with pytest.raises(SourceBlocked):
        Guard().addresses(host, 80)


@pytest.mark.parametrize(
    ("entry", "host", "port", "open_"),
    [
        ("127.0.0.1", "127.0.0.1", 9000, True),
        ("127.0.0.1:9000", "127.0.0.1", 9000, True),
        ("127.0.0.1:9000", "127.0.0.1", 9001, False),
        ("minio.local", "MINIO.local.", 80, True),
        ("minio.local", "evil.minio.local", 80, False),
        ("[::1]:9000", "[::1]", 9000, True),
        ("::1", "::1", 80, True),
    ],
)
def test_allowed_hosts_are_exempt_by_name_and_port(entry: str, host: str, port: int, open_: bool) -> None:
    guard = Guard(frozenset({entry}), resolve=lambda host, port: ["127.0.0.1"])
    if open_:
        assert guard.addresses(host, port) == ["127.0.0.1"]
    else:
        with pytest.raises(SourceBlocked):
            guard.addresses(host, port)


@pytest.mark.parametrize("url", ["ftp://example.org/x", "http://", "https:///x", "http://[::1/x", "http://h:99999/x"])
def test_only_http_addresses_with_a_host_are_taken(url: str) -> None:
    with pytest.raises(InvalidInput):
        host_and_port(url)


def test_a_name_without_an_address_is_a_resolver_error() -> None:
    with pytest.raises(socket.gaierror):
        Guard(resolve=lambda host, port: []).addresses("nowhere.example", 80)


def test_the_real_resolver_knows_this_machine() -> None:
    assert "127.0.0.1" in resolve("127.0.0.1", 80)
