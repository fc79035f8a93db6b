"""Where an outgoing request may go: judged by its URL first, and by the addresses when they are known."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Final

import httpx

from jobs.errors import ConfigurationError, OutgoingRefusedError
from jobs.settings import Settings
from prune_engine.addresses import Address, Network, is_open, is_within, read_address

_LONGEST: Final = 2048
_HOST: Final = re.compile(r"[a-z0-9_.-]{1,253}|\[?[0-9a-f:.]{2,45}\]?")
_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True)
class Target:
    """Where a request goes: a URL taken apart. `path` has the query too."""

    scheme: str
    host: str
    port: int
    path: str
    header: str  # what goes into `Host`


@dataclass(frozen=True)
class Rules:
    """What is let out.

    `hosts`: names that may be reached, `*.example.com` for all below one; None: any. `plain`: hosts that may
    be spoken to without TLS. `networks`: reached although they do not belong to the open internet.
    """

    hosts: tuple[str, ...] | None = None
    plain: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, settings: Settings) -> Rules:
        """The rules of the settings.

        Raises:
            ConfigurationError: a network is none.
        """
        try:
            networks = tuple(ip_network(text) for text in settings.outgoing_networks)
        except ValueError as error:
            raise ConfigurationError(
                f"outgoing_networks: {error}; write networks as 10.20.0.0/16", param="outgoing_networks"
            ) from None
        return cls(settings.outgoing_hosts, settings.outgoing_plain_hosts, networks)

    def target(self, url: str) -> Target:
        """The URL taken apart, where it may be asked for at all; its name is not resolved yet.

        Raises:
            OutgoingRefusedError: it may not; says why.
        """
        parsed = _parsed(url)
        host = parsed.raw_host.decode().rstrip(".").lower()
        if parsed.scheme not in _PORTS or not _HOST.fullmatch(host):
            raise OutgoingRefusedError("only https:// addresses with the name of a host are sent to")
        if parsed.userinfo:
            raise OutgoingRefusedError("a user name or password in the address is not sent")
        if parsed.scheme == "http" and host not in self.plain:
            raise OutgoingRefusedError(
                "only https:// is sent to; whoever runs the service can let http through to a host by name "
                "(PRUNERY_OUTGOING_PLAIN_HOSTS)"
            )
        if self.hosts is not None and not any(_matches(host, pattern) for pattern in self.hosts):
            raise OutgoingRefusedError(
                f"{host[:100]} is not among the hosts that this service sends to "
                "(PRUNERY_OUTGOING_HOSTS); ask whoever runs it"
            )
        if (address := read_address(host.strip("[]"))) is not None:
            self.check(address)
        port = _PORTS[parsed.scheme] if parsed.port is None else parsed.port
        if not 0 < port < 65_536:
            raise OutgoingRefusedError(f"{port} is no port")
        path = parsed.raw_path.decode() or "/"
        return Target(parsed.scheme, host, port, path, parsed.netloc.decode())

    def check(self, address: Address) -> None:
        """See that an address may be connected to.

        Raises:
            OutgoingRefusedError: it does not belong to the open internet. It is not named: whoever asked must
                not learn what names of this network mean.
        """
        if not is_open(address) and not is_within(address, self.networks):
            raise OutgoingRefusedError(
                "the host's address does not belong to the open internet; whoever runs the service can let "
                "a network of their own through (PRUNERY_OUTGOING_NETWORKS)"
            )


def host_of(url: str) -> str:
    """The host that a URL names, in small letters; the URL itself where it cannot be understood."""
    try:
        return _parsed(url).raw_host.decode().rstrip(".").lower()
    except OutgoingRefusedError:
        return url


def _parsed(url: str) -> httpx.URL:
    try:
        if len(url) > _LONGEST:
            raise OutgoingRefusedError(f"the address has more than {_LONGEST:,} characters")
        return httpx.URL(url.strip())
    except (httpx.InvalidURL, UnicodeError) as error:
        raise OutgoingRefusedError(f"the address cannot be understood: {error}") from None


def _matches(host: str, pattern: str) -> bool:
    """Whether a host is the one of the pattern, or below it."""
    pattern = pattern.lower()
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern
