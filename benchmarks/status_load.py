"""A load of `GET /jobs/{id}`: a bounded number of clients, each with one connection, asking without a pause.

    python -m benchmarks.status_load HOST PORT PATH CLIENTS SECONDS      prints JSON

A process of its own, so that what it costs is not the API's; plain asyncio protocols, since an HTTP client
library would be slower than what it measures. Only loopback addresses are accepted.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import cast

import uvloop

MOST_CLIENTS = 500
MOST_SECONDS = 60.0


class Client(asyncio.Protocol):
    """One connection. Answers are read by their Content-Length, so that a late byte is never counted."""

    def __init__(
        self, request: bytes, until: float, latencies: list[float], done: asyncio.Future[None]
    ) -> None:
        self._request = request
        self._until = until
        self._latencies = latencies
        self._done = done
        self._held = b""
        self._sent = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first time."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is of its own kind
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Take a piece of an answer; when it is whole, ask again."""
        assert self._transport is not None
        self._held += data
        end = self._held.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._held[:end].lower()
        at = head.index(b"content-length:") + 15
        length = int(head[at:].split(b"\r\n", 1)[0])
        if len(self._held) < end + 4 + length:
            return
        if not head.startswith(b"http/1.1 200"):
            self._done.set_exception(RuntimeError(head.decode()))
            return
        self._latencies.append(time.perf_counter() - self._sent)
        self._held = b""
        if time.perf_counter() < self._until:
            self._ask()
        elif not self._done.done():
            self._done.set_result(None)
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        """Notice a server that gives up."""
        if not self._done.done():
            self._done.set_exception(error or ConnectionError("the server closed the connection"))

    def _ask(self) -> None:
        assert self._transport is not None
        self._sent = time.perf_counter()
        self._transport.write(self._request)


async def load(host: str, port: int, path: str, clients: int, seconds: float) -> dict[str, float]:
    """Run the load; requests a second and latencies in milliseconds."""
    if host not in ("127.0.0.1", "::1") or clients > MOST_CLIENTS or seconds > MOST_SECONDS:
        raise SystemExit(f"only loopback, at most {MOST_CLIENTS} clients and {MOST_SECONDS:.0f} s")
    loop = asyncio.get_running_loop()
    request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\n\r\n".encode()
    latencies: list[float] = []
    began = time.perf_counter()
    waiting = []
    for _ in range(clients):
        done: asyncio.Future[None] = loop.create_future()
        waiting.append(done)
        await loop.create_connection(
            lambda done=done: Client(request, began + seconds, latencies, done),  # type: ignore[misc]
            host,
            port,
        )
    await asyncio.gather(*waiting)
    elapsed = time.perf_counter() - began
    latencies.sort()
    at = {name: latencies[int(len(latencies) * share)] for name, share in (("p50", 0.5), ("p99", 0.99))}
    return {
        "requests": len(latencies),
        "per second": round(len(latencies) / elapsed, 1),
        "p50 ms": round(1e3 * at["p50"], 2),
        "p99 ms": round(1e3 * at["p99"], 2),
        "max ms": round(1e3 * latencies[-1], 2),
    }


if __name__ == "__main__":
    host, port, path, clients, seconds = sys.argv[1:]
    print(json.dumps(uvloop.run(load(host, int(port), path, int(clients), float(seconds)))))
