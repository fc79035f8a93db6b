"""Hosts that are namespaces of this machine's network: each with one address, joined by a bridge."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_CLONE_NEWNET = 0x40000000


class Network:
    """The hosts, from the start of the block to its end, with the processes that were started on them."""

    def __init__(self, folder: Path, *names: str) -> None:
        self._folder = folder
        self._token = f"prunery-{os.getpid()}"
        self._names = names
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Network:
        bridge = f"{self._token}-net"
        _ip("netns", "add", bridge)
        _ip("-n", bridge, "link", "add", "br0", "type", "bridge")
        _ip("-n", bridge, "link", "set", "br0", "up")
        for number, name in enumerate(self._names):
            host = self._namespace(name)
            _ip("netns", "add", host)
            link = f"host{number}"
            _ip("-n", bridge, "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", host)
            _ip("-n", bridge, "link", "set", link, "master", "br0", "up")
            _ip("-n", host, "addr", "add", f"{self.address(name)}/24", "dev", "eth0")
            _ip("-n", host, "link", "set", "eth0", "up")
            _ip("-n", host, "link", "set", "lo", "up")
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            process.kill()
            process.wait()
        for name in (*self._names, "net"):
            _ip("netns", "del", self._namespace(name), check=False)

    def address(self, name: str) -> str:
        """The address of a host."""
        return f"10.77.0.{self._names.index(name) + 1}"

    @contextlib.contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Until the block ends, this thread, and what it starts, is on the host `name`."""
        with Path("/proc/thread-self/ns/net").open() as home:
            _enter(Path("/run/netns", self._namespace(name)))
            try:
                yield
            finally:
                _enter(Path(f"/proc/self/fd/{home.fileno()}"))

    def start(
        self, name: str, command: Sequence[str | Path], environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        """Start a process on a host, which is to have a folder of its own. Its log is `<host>.log`."""
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("PRUNERY_", "AWS_"))}
        with self.inside(name), (self._folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, cwd=folder, env={**clean, **environment}, stdout=log, stderr=log
            )
        self._started.append(process)
        return process

    def log(self, name: str) -> str:
        """What the processes of a host wrote."""
        return (self._folder / f"{name}.log").read_text(errors="replace")

    def _namespace(self, name: str) -> str:
        return f"{self._token}-{name}"


def possible() -> bool:
    """Whether this machine allows it."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        return False
    name = f"prunery-{os.getpid()}-probe"
    allowed = _ip("netns", "add", name, check=False) == 0
    _ip("netns", "del", name, check=False)
    return allowed


def _ip(*arguments: str, check: bool = True) -> int:
    return subprocess.run(["ip", *arguments], check=check, capture_output=True).returncode


def _enter(namespace: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with namespace.open() as opened:
        if libc.setns(opened.fileno(), _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"cannot enter {namespace}")
