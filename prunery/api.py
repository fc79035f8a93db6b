"""The API under `prunery up`: `python -m prunery.api FD` serves on a socket that is open already."""

from __future__ import annotations

import logging
import socket
import sys

from jobs import logs
from jobs.settings import Settings
from service.server import create_server


def main() -> None:
    """Serve until SIGTERM."""
    settings = Settings()
    logs.configure(logging.INFO, settings.log_format)
    create_server(settings).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])


if __name__ == "__main__":
    main()
