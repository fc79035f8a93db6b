"""The guard in processes of their own: once installed it cannot be taken out."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from prune_engine import network_guard

CONNECT = """
import socket, sys
from prune_engine import network_guard
network_guard.install()
host, port = sys.argv[1], int(sys.argv[2])
{how}
print("connected")
"""
HOWS = {
    "socket": "socket.create_connection((host, port), timeout=3)",
    "httpx": "import httpx; httpx.get(f'http://{host}:{port}/', trust_env=False, timeout=3)",
    "urllib": "import urllib.request; urllib.request.urlopen(f'http://{host}:{port}/', timeout=3)",
    "asyncio": "import asyncio; asyncio.run(asyncio.open_connection(host, port))",
    "connect_ex": "socket.socket().connect_ex((host, port))",
    "by name": "socket.socket().connect((host, port))",
    "datagram": "socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', (host, port))",
}


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def run(how: str, host: str, port: int, **environment: str) -> subprocess.CompletedProcess[str]:
    program = CONNECT.format(how=HOWS[how])
    return subprocess.run(
        [sys.executable, "-c", program, host, str(port)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("how", HOWS)
def test_no_library_reaches_an_address_of_this_network(listener: socket.socket, how: str) -> None:
    port = listener.getsockname()[1]
    ended = run(how, "127.0.0.1" if how == "datagram" else "localhost", port)
    assert "connected" not in ended.stdout
    assert "is not let through" in ended.stderr
    listener.settimeout(0.1)
    with pytest.raises(TimeoutError):
        listener.accept()


@pytest.mark.parametrize("name", ["HF_ENDPOINT", "HTTPS_PROXY", "http_proxy"])
def test_what_the_environment_names_is_reached(listener: socket.socket, name: str) -> None:
    port = listener.getsockname()[1]
    ended = run("socket", "127.0.0.1", port, **{name: f"http://127.0.0.1:{port}"})
    assert "connected" in ended.stdout, ended.stderr


def test_the_open_internet_is_let_through() -> None:
    for host in ("1.1.1.1", "2606:4700::1111"):
        network_guard._check((host, 443), frozenset())
    network_guard._check("/run/a-local-socket", frozenset())


@pytest.mark.parametrize("port", [80, 22, 8443])
def test_only_https_is_let_through(port: int) -> None:
    with pytest.raises(PermissionError, match=f"port {port} is not let through"):
        network_guard._check(("1.1.1.1", port), frozenset())
    network_guard._check(("1.1.1.1", port), frozenset({"1.1.1.1"}))  # a proxy that the environment names


@pytest.mark.parametrize(("name", "guarded"), [("hf:owner/name", True), ("digits", False)])
def test_fetching_what_a_stranger_names_is_guarded(name: str, guarded: bool, tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; from prune_engine import child, network_guard; "
        "network_guard.install = lambda: sys.exit(7); "
        "sys.exit(child.fetch(sys.argv[1], None, pathlib.Path(sys.argv[2])))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, name, str(tmp_path)], capture_output=True, timeout=60
    )
    assert ended.returncode == (7 if guarded else 0)
