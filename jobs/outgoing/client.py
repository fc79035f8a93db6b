"""The client: one request, one connection, one answer."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpcore
import httpx

from jobs.errors import ConfigurationError, OutgoingFailedError
from jobs.outgoing.connections import Deadline, GuardedBackend, Resolve, system_resolver
from jobs.outgoing.rules import Rules
from jobs.settings import Settings

# All that may come in, headers included (of which httpcore takes 100 KiB), before the connection is cut.
_ANSWER_BYTES: Final = 256 * 1024
_BROKEN: Final = (
    *(httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, httpcore.ProxyError),
    OSError,
)


@dataclass(frozen=True)
class Answer:
    """What came back, without its body: nobody must be able to read through us what they cannot reach."""

    status: int
    headers: Mapping[str, str]


class Outgoing:
    """Makes guarded requests. Thread-safe; keeps no connection.

    Args:
        settings: the rules, the longest time, the certificates and the proxy.
        resolve: how names become addresses; for tests.
    """

    def __init__(self, settings: Settings, resolve: Resolve = system_resolver) -> None:
        self.rules = Rules.of(settings)
        self._seconds = settings.outgoing_seconds
        self._proxy = settings.outgoing_proxy
        self._resolve = resolve
        self._tls = _tls(settings.outgoing_ca_file)

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send `body`; redirects are answers like others.

        Raises:
            OutgoingRefusedError: the address may not be sent to.
            OutgoingFailedError: there was no answer in time, or none that is HTTP.
        """
        target = self.rules.target(url)
        deadline = Deadline(self._seconds, _ANSWER_BYTES)
        request = httpcore.Request(
            "POST",
            httpcore.URL(
                scheme=target.scheme.encode(),
                host=target.host.encode(),
                port=target.port,
                target=target.path.encode(),
            ),
            headers=[
                ("Host", target.header),
                ("User-Agent", "prunery"),
                ("Accept", "*/*"),
                ("Connection", "close"),
                ("Content-Length", str(len(body))),
                *headers.items(),
            ],
            content=body,
        )
        try:
            with self._pool(deadline) as pool:
                response = pool.handle_request(request)
                _hear_out(response)
                return Answer(response.status, _headers(response))
        except (httpcore.ConnectError, ssl.SSLError) as error:
            raise OutgoingFailedError(f"no secure connection: {error}") from None
        except httpcore.TimeoutException:
            raise OutgoingFailedError("the request took longer than it may") from None
        except _BROKEN as error:
            raise OutgoingFailedError(f"no answer: {error or type(error).__name__}") from None

    def _pool(self, deadline: Deadline) -> httpcore.ConnectionPool:
        if self._proxy is not None:
            backend = GuardedBackend(None, deadline, self._resolve)
            return httpcore.HTTPProxy(self._proxy, ssl_context=self._tls, network_backend=backend)
        backend = GuardedBackend(self.rules, deadline, self._resolve)
        return httpcore.ConnectionPool(ssl_context=self._tls, network_backend=backend)


def _hear_out(response: httpcore.Response) -> None:
    """Let the other side finish its answer, so that it sees no broken connection; within the limits only."""
    with contextlib.suppress(OutgoingFailedError, *_BROKEN), contextlib.closing(response):
        for _ in response.iter_stream():
            pass


def _headers(response: httpcore.Response) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    """Certificates are always checked: against the public authorities, and those of the file.

    Raises:
        ConfigurationError: the file cannot be used.
    """
    context = httpx.create_ssl_context(trust_env=False)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(
                f"outgoing_ca_file: {ca_file} has no certificates ({error})", param="outgoing_ca_file"
            ) from None
    return context
