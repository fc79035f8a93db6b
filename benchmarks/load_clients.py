"""Clients of `benchmarks.load`, in a process of their own: some watch events live, some ask for a status.

    python -m benchmarks.load_clients '{"port": 8000, "token": "prn_...", "jobs": ["job_..."], ...}'

Plain asyncio protocols, as in `benchmarks.status_load`. Prints JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass, field
from typing import cast

import uvloop


@dataclass
class Tally:
    """What happened."""

    latencies: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    events: int = 0
    watching: int = 0


class Poller(asyncio.Protocol):
    """Asks for a status every `interval` seconds over one connection."""

    def __init__(self, request: bytes, interval: float, tally: Tally) -> None:
        self._request = request
        self._interval = interval
        self._tally = tally
        self._held = b""
        self._sent = 0.0
        self._over = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first time."""
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Take a piece of an answer; when it is whole, ask again in a while."""
        self._held += data
        end = self._held.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._held[:end].lower()
        at = head.index(b"content-length:") + 15
        if len(self._held) < end + 4 + int(head[at:].split(b"\r\n", 1)[0]):
            return
        if not head.startswith(b"http/1.1 200"):
            self._tally.errors.append(self._held[:300].decode(errors="replace"))
        took = time.perf_counter() - self._sent
        self._tally.latencies.append(took)
        self._held = b""
        asyncio.get_running_loop().call_later(max(0.0, self._interval - took), self._ask)

    def connection_lost(self, error: Exception | None) -> None:
        """Notice a server that gives up."""
        if not self._over:
            self._tally.errors.append(f"a poller's connection ended: {error}")

    def end(self) -> None:
        """Ask no more."""
        self._over = True
        if self._transport is not None:
            self._transport.close()

    def _ask(self) -> None:
        if not self._over and self._transport is not None:
            self._sent = time.perf_counter()
            self._transport.write(self._request)


class Watcher(asyncio.Protocol):
    """Watches a job's events until it is told to end."""

    def __init__(self, request: bytes, tally: Tally) -> None:
        self._request = request
        self._tally = tally
        self._begun = False
        self._over = False
        self._rest = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the stream."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Count the events in a piece of the stream."""
        if not self._begun:
            self._begun = True
            if data.startswith(b"HTTP/1.1 200"):
                self._tally.watching += 1
            else:
                self._tally.errors.append(data[:300].decode(errors="replace"))
        held = self._rest + data
        self._tally.events += held.count(b"\nid:")
        self._rest = held[-3:] if not held.endswith(b"\nid:") else b""

    def connection_lost(self, error: Exception | None) -> None:
        """Notice a stream that ends before its time."""
        if not self._over:
            self._tally.errors.append(f"a stream ended: {error}")

    def end(self) -> None:
        """Watch no more."""
        self._over = True
        if self._transport is not None:
            self._transport.close()


async def run(
    port: int, token: str, jobs: list[str], watchers: int, pollers: int, interval: float, seconds: float
) -> dict[str, object]:
    """Run the load against this machine's loopback address."""
    loop, tally = asyncio.get_running_loop(), Tally()
    clients: list[Watcher | Poller] = []

    def request(path: str, accept: str) -> bytes:
        return (
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n"
            f"Authorization: Bearer {token}\r\n\r\n"
        ).encode()

    for number in range(watchers):
        ask = request(f"/jobs/{jobs[number % len(jobs)]}/events", "text/event-stream")
        clients.append(
            (await loop.create_connection(lambda ask=ask: Watcher(ask, tally), "127.0.0.1", port))[1]
        )  # type: ignore[misc]
    while tally.watching < watchers and not tally.errors:
        await asyncio.sleep(0.05)
    for number in range(pollers):
        ask = request(f"/jobs/{jobs[number % len(jobs)]}", "application/json")
        clients.append(
            (await loop.create_connection(lambda ask=ask: Poller(ask, interval, tally), "127.0.0.1", port))[1]  # type: ignore[misc]
        )
        await asyncio.sleep(interval / pollers)  # they do not all ask in the same moment
    tally.latencies.clear()  # whoever came first had the service for itself
    await asyncio.sleep(seconds)
    for client in clients:
        client.end()
    latencies = sorted(tally.latencies)
    return {
        "requests": len(latencies),
        "errors": len(tally.errors),
        "first errors": tally.errors[:3],
        "watching": tally.watching,
        "events": tally.events,
        "p50 ms": round(1e3 * latencies[len(latencies) // 2], 2),
        "p99 ms": round(1e3 * latencies[int(len(latencies) * 0.99)], 2),
    }


if __name__ == "__main__":
    print(json.dumps(uvloop.run(run(**json.loads(sys.argv[1])))))
