"""Connections that go where the rules allow, and end in time whatever the other side does.

The name is resolved here, once; every address that it has must pass, and one of those very addresses is
connected to, so a name that means something else a moment later gains nothing. httpcore puts TLS on top with
the name, not the address, as what the certificate has to be for.
"""

from __future__ import annotations

import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import httpcore

from jobs.errors import OutgoingFailedError, OutgoingRefusedError
from jobs.outgoing.rules import Rules
from prune_engine.addresses import Address, read_address

Resolve = Callable[[str, int], list[str]]
_MOST_ADDRESSES: Final = 16


def system_resolver(host: str, port: int) -> list[str]:
    """All addresses of a name, as the system's resolver has them. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class Deadline:
    """When a whole request has to be over, and how many bytes may still come in."""

    def __init__(self, seconds: float, bytes_in: int) -> None:
        self._until = time.monotonic() + seconds
        self._bytes_left = bytes_in

    def seconds(self) -> float:
        """The time that is left.

        Raises:
            OutgoingFailedError: there is none.
        """
        left = self._until - time.monotonic()
        if left <= 0:
            raise OutgoingFailedError("the request took longer than it may")
        return left

    def took(self, count: int) -> None:
        """Count what came in.

        Raises:
            OutgoingFailedError: it is more than may come.
        """
        self._bytes_left -= count
        if self._bytes_left < 0:
            raise OutgoingFailedError("the answer is longer than it may be")


class GuardedBackend(httpcore.NetworkBackend):
    """Opens the connections of one request.

    Args:
        rules: what an address must be; None: the host is our own proxy, which checks for itself.
        deadline: of the whole request, the resolver's time included.
        resolve: name and port to addresses.
    """

    def __init__(self, rules: Rules | None, deadline: Deadline, resolve: Resolve) -> None:
        self._rules = rules
        self._deadline = deadline
        self._resolve = resolve
        self._tcp = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """A connection to the first of the host's addresses that takes one."""
        failure: Exception | None = None
        addresses = self._addresses(host, port)
        for place, address in enumerate(addresses):
            # One that swallows everything must leave time for the others.
            share = self._deadline.seconds() / (len(addresses) - place)
            try:
                stream = self._tcp.connect_tcp(
                    str(address), port, timeout=share, socket_options=socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _BoundStream(stream, self._deadline)
        raise OutgoingFailedError(f"no connection: {failure}")

    def _addresses(self, host: str, port: int) -> list[Address]:
        """The host's addresses, every one of them checked."""
        literal = read_address(host.strip("[]"))
        found = [literal] if literal is not None else self._looked_up(host, port)
        if self._rules is not None:
            for address in found:
                self._rules.check(address)
        return found[:_MOST_ADDRESSES]

    def _looked_up(self, host: str, port: int) -> list[Address]:
        """In a thread of its own: the system's resolver knows of no deadline."""
        answers: queue.Queue[list[str] | Exception] = queue.Queue(1)

        def ask() -> None:
            try:
                answers.put(self._resolve(host, port))
            except (OSError, UnicodeError) as error:
                answers.put(error)

        threading.Thread(target=ask, name="resolver", daemon=True).start()
        try:
            answer = answers.get(timeout=self._deadline.seconds())
        except queue.Empty:
            raise OutgoingFailedError("the name was not resolved in time") from None
        if isinstance(answer, Exception):
            raise OutgoingFailedError("the name cannot be resolved")
        addresses = [read_address(text) for text in answer]
        known = [address for address in addresses if address is not None]
        if not known or len(known) < len(addresses):
            raise OutgoingRefusedError("the name has no usable address")
        return known


class _BoundStream(httpcore.NetworkStream):
    """A connection all of whose waiting counts against one deadline, and whose incoming bytes are counted."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = self._stream.read(max_bytes, self._deadline.seconds())
        self._deadline.took(len(data))
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.seconds())

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        secured = self._stream.start_tls(ssl_context, server_hostname, self._deadline.seconds())
        return _BoundStream(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
