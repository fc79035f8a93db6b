"""The API under `prunery up`: `python -m prunery.api FD` serves on a socket that is open already."""

from __future__ import annotations

import logging
import socket
import sys

from jobs.settings import Settings
from service import logs
from service.server import create_server


def main() -> None:
    """Serve until SIGTERM."""
    logs.configure(logging.INFO)
    create_server(Settings()).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])


if __name__ == "__main__":
    main()
