"""The API's process: uvicorn, ended so that nobody is cut off and nobody keeps it from ending."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from types import FrameType
from typing import Final

import uvicorn
from fastapi import FastAPI

from jobs import logs
from jobs.errors import ConfigurationError
from jobs.reading_settings import read_settings
from jobs.settings import Settings
from service import binding
from service.app import create_app

# Seconds that requests have to finish once the server is asked to end; waiting ones are answered at once.
GRACE: Final = 10


class Server(uvicorn.Server):
    """Tells the application when it is asked to end, so that waiting and streaming clients are let go."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to listen."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal to end."""
        super().handle_exit(sig, frame)
        rooms = getattr(self._app.state, "rooms", None)
        if self._loop is not None and rooms is not None:
            self._loop.call_soon_threadsafe(rooms.stopping.set)


def create_server(settings: Settings) -> Server:
    """A server for the API on the settings' host and port."""
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        http="httptools",
        loop="auto",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips=list(settings.trusted_proxies or ("127.0.0.1", "::1")),
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=GRACE,
    )
    return Server(config, app)


def serve(settings: Settings | None = None) -> None:
    """Run the API until SIGINT or SIGTERM."""
    try:
        chosen = settings or read_settings()
        logs.configure(logging.INFO, chosen.log_format)
        binding.prepare(chosen)
        create_server(chosen).run()
    except ConfigurationError as error:
        sys.stderr.write(f"error: {error.message} [{error.code}]\n")
        raise SystemExit(error.exit_status) from None


if __name__ == "__main__":
    serve()
