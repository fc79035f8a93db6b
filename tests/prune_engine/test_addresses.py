from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prune_engine.addresses import is_open, is_within

OPEN = [
    "1.1.1.1",
    "93.184.215.14",
    "223.255.255.255",
    "2606:4700::1111",
    "2a00:1450:4001::200e",
    "::ffff:1.1.1.1",
]
OPEN += ["64:ff9b::101:101"]
CLOSED = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254"),
    *("168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1"),
    *("192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1"),
    "255.255.255.255",
    *("::", "::1", "::7f00:1", "::1.1.1.1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254"),
    *(
        "ff02::1",
        "100::1",
        "5f00::1",
        "2001::1",
        "2001:2::1",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:101:101::1",
    ),
    *("3fff::1", "64:ff9b:1::1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "::ffff:127.0.0.1"),
    *("::ffff:169.254.169.254", "2001:0:1234::1", "2606:4700::1111%eth0"),
]


@pytest.mark.parametrize("text", OPEN)
def test_an_address_of_the_internet_is_open(text: str) -> None:
    assert is_open(ip_address(text))


@pytest.mark.parametrize("text", CLOSED)
def test_every_other_address_is_not(text: str) -> None:
    assert not is_open(ip_address(text))


@given(st.ip_addresses(v=4))
def test_nothing_is_open_that_python_calls_private_reserved_or_multicast(address: IPv4Address) -> None:
    if is_open(address):
        assert address.is_global
        assert not address.is_reserved
        assert not address.is_multicast


@given(st.ip_addresses(v=6))
def test_nothing_is_open_that_python_calls_private_or_reserved_in_ipv6(address: IPv6Address) -> None:
    if is_open(address) and address not in ip_network("64:ff9b::/96") and address.ipv4_mapped is None:
        assert address.is_global
        assert not address.is_multicast
        assert not address.is_site_local
        assert address.sixtofour is None
        assert address.teredo is None


@given(st.ip_addresses(v=4))
def test_an_address_that_carries_another_is_no_more_open_than_that_one(address: IPv4Address) -> None:
    for network in ("::ffff:0:0", "64:ff9b::"):
        assert is_open(IPv6Address(int(IPv6Address(network)) + int(address))) == is_open(address)


def test_an_exception_is_for_its_network_alone() -> None:
    networks = (ip_network("127.0.0.1/32"), ip_network("fd00::/64"))
    for inside in ("127.0.0.1", "::ffff:127.0.0.1", "fd00::1"):
        assert is_within(ip_address(inside), networks)
    for outside in ("127.0.0.2", "::1", "fd00:0:0:1::1"):
        assert not is_within(ip_address(outside), networks)
