"""Receivers of requests: real TLS servers on loopback, with a certificate authority of their own."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trustme

from jobs.settings import Settings

LOOPBACK = "127.0.0.1/32"
Behave = Callable[[socket.socket, bytes], None]


@dataclass
class Request:
    """What a receiver was sent."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """A server that keeps what it is sent, and answers as `behave` does: with 204, unless told otherwise."""

    port: int
    behave: Behave
    requests: list[Request] = field(default_factory=list)
    server_names: list[str | None] = field(default_factory=list)

    def answers(self, *statuses: int, headers: str = "") -> None:
        """Answer with these statuses in turn, the last one ever after."""
        left = list(statuses)

        def behave(connection: socket.socket, _: bytes) -> None:
            status = left.pop(0) if len(left) > 1 else left[0]
            connection.sendall(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n{headers}\r\n".encode())

        self.behave = behave


def no_content(connection: socket.socket, _: bytes) -> None:
    connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture
def receiver(authority: trustme.CA) -> Iterator[Receiver]:
    """A TLS server for `hooks.example.com` and `127.0.0.1`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("hooks.example.com", "127.0.0.1").configure_cert(context)
    with listening(context) as started:
        yield started


@pytest.fixture
def plain_receiver() -> Iterator[Receiver]:
    """The same without TLS."""
    with listening(None) as started:
        yield started


@contextlib.contextmanager
def listening(context: ssl.SSLContext | None) -> Iterator[Receiver]:
    server = socket.create_server(("127.0.0.1", 0))
    receiver = Receiver(server.getsockname()[1], no_content)
    if context is not None:
        context.sni_callback = lambda _socket, name, _context: receiver.server_names.append(name)

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=handle, args=(connection,), daemon=True).start()

    def handle(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            stack.enter_context(connection)
            connection.settimeout(30)
            if context is not None:
                connection = stack.enter_context(context.wrap_socket(connection, server_side=True))
            request = _read(connection)
            receiver.requests.append(request)
            receiver.behave(connection, request.body)

    threading.Thread(target=serve, daemon=True).start()
    yield receiver
    server.close()


def _read(connection: socket.socket) -> Request:
    received = b""
    while b"\r\n\r\n" not in received:
        received += (chunk := connection.recv(65_536))
        if not chunk:
            raise OSError("hung up")
    head, _, body = received.partition(b"\r\n\r\n")
    line, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (text.split(": ", 1) for text in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        body += connection.recv(65_536)
    return Request(line, headers, body)


def trusting(ca_file: Path, **fields: Any) -> Settings:
    """Settings that let requests out to this machine's loopback address and trust the test's authority."""
    defaults: dict[str, Any] = {"outgoing_networks": (LOOPBACK,), "outgoing_ca_file": ca_file}
    return Settings(_env_file=None, **(defaults | fields))
