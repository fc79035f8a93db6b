"""Keeps this process from connecting to anything but https in the open internet, whoever asks for it.

For fetching data sets that strangers name: their files may point to any address, and the library follows. An
audit hook sees every address just before Python's socket connects to it, when the name has been resolved; it
cannot be taken out again. What the environment itself names, a proxy or a mirror of the hub, stays reachable.
It sees nothing of libraries that connect in native code; the hub's own (`hf_xet`) is switched off.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import urlsplit

from prune_engine.addresses import is_open, read_address

_HTTPS: Final = 443
_NAMED_BY: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "HF_ENDPOINT")


def install() -> None:
    """Guard this process from now on."""
    os.environ["HF_HUB_DISABLE_XET"] = "1"
    exempt = frozenset(_addresses(_named()))

    def look(event: str, details: tuple[Any, ...]) -> None:
        if event in ("socket.connect", "socket.sendto"):
            _check(details[1], exempt)

    sys.addaudithook(look)


def _check(target: Any, exempt: frozenset[str]) -> None:
    """Refuse an address that a socket is about to be connected to; a path of a local socket is none."""
    if not isinstance(target, tuple):
        return
    host = str(target[0])
    address = read_address(host)
    if address is None:
        raise PermissionError(f"a connection to {host[:100]!r} by its name is not let through")
    if str(address) in exempt:
        return
    if not is_open(address):
        raise PermissionError("a connection to an address outside of the open internet is not let through")
    if target[1] != _HTTPS:
        raise PermissionError(f"a connection to port {target[1]} is not let through, only https is")


def _named() -> Iterable[str]:
    """The hosts that the environment names."""
    for name in _NAMED_BY:
        for given in (os.environ.get(name), os.environ.get(name.lower())):
            if given and (host := urlsplit(given if "://" in given else f"//{given}").hostname):
                yield host


def _addresses(hosts: Iterable[str]) -> Iterable[str]:
    for host in hosts:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError:
            continue
        yield from (str(read_address(str(sockaddr[0]))) for *_, sockaddr in found)
