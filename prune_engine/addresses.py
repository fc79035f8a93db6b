"""Which addresses belong to the open internet.

Python's `is_global` is not asked: it differs between patch releases and calls site-local addresses global. Of
IPv6 only 2000::/3 has ever been given out for the internet, so nothing else is let through. Addresses that
carry an IPv4 address inside are as good as that one where a network may really use them (NAT64, IPv4-mapped),
and refused where nobody should (6to4, Teredo, IPv4-compatible).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# The special-purpose registries of IANA, and one address that only machines in Azure can reach.
_CLOSED_4: Final = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' NAT; metadata of Alibaba's cloud
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's own service on every virtual machine
        "169.254.0.0/16",  # link-local; metadata of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; metadata of Oracle's cloud
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
)
_OPEN_6: Final = IPv6Network("2000::/3")
_CLOSED_6: Final = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "3fff::/20",  # documentation
    )
)
_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_NAT64: Final = IPv6Network("64:ff9b::/96")


def is_open(address: Address) -> bool:
    """Whether an address belongs to the open internet."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _CLOSED_4)
    if address.scope_id is not None:
        return False
    if address in _MAPPED or address in _NAT64:
        return is_open(IPv4Address(int(address) & 0xFFFF_FFFF))
    return address in _OPEN_6 and not any(address in network for network in _CLOSED_6)


def is_within(address: Address, networks: tuple[Network, ...]) -> bool:
    """Whether an address is in one of the networks; an IPv4-mapped one where its IPv4 address is."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return any((mapped or address) in network for network in networks)


def read_address(text: str) -> Address | None:
    """The address that `text` is, as the resolver writes it; None where it is none."""
    try:
        return ip_address(text)
    except ValueError:
        return None
