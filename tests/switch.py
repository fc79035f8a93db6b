"""A proxy before a server, with a switch: let everything through, answer 503, or cut the connections."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import Iterator

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_REFUSAL = b"<Error><Code>ServiceUnavailable</Code><Message>Reduce your request rate.</Message></Error>"


class Switch:
    """Listens on a free port of `host` from the start on, in a thread of its own."""

    def __init__(self, target: tuple[str, int], host: str = "127.0.0.1") -> None:
        self.refused = 0  # requests answered with 503
        self._target = target
        self._away = False
        self._open: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, host, 0))
        self.port: int = server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Every connection is cut, and every request answered with 503, until the block ends."""
        self.leave()
        try:
            yield
        finally:
            self.come_back()

    def leave(self) -> None:
        """From now on the server is away."""
        self._away = True
        self.cut()

    def come_back(self) -> None:
        """From now on the server is there again."""
        self._away = False
        self.cut()

    def cut(self) -> None:
        """Reset every connection there is."""

        def reset() -> None:
            for writer in self._open:
                writer.transport.abort()

        self._loop.call_soon_threadsafe(reset)

    def close(self) -> None:
        """End it."""

        async def end() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with contextlib.suppress(
            OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError
        ):
            await (self._refuse(reader, writer) if self._away else self._through(reader, writer))
        self._open.discard(writer)
        writer.close()

    async def _refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request is read whole and refused: who sends a large body would not hear of it before."""
        head = await reader.readuntil(b"\r\n\r\n")
        left = int(found[1]) if (found := _LENGTH.search(head)) else 0
        while left and (chunk := await reader.read(min(left, 65_536))):
            left -= len(chunk)
        self.refused += 1
        body = b"" if head.startswith(b"HEAD") else _REFUSAL
        writer.write(
            b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/xml\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(_REFUSAL), body)
        )
        await writer.drain()

    async def _through(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream_reader, upstream = await asyncio.open_connection(*self._target)
        self._open.add(upstream)
        try:
            await asyncio.wait(
                {
                    asyncio.ensure_future(_pump(reader, upstream)),
                    asyncio.ensure_future(_pump(upstream_reader, writer)),
                },
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            self._open.discard(upstream)
            upstream.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(65_536):
            writer.write(chunk)
            await writer.drain()
