"""`prunery up`: the API, its workers and, unless REDIS_URL is set, a private server, in one process tree.

Ctrl-C or SIGTERM ends all of it; so does the end of any part, with status 1. When this process is killed, the
kernel ends the rest (`jobs.process`).
"""

from __future__ import annotations

import contextlib
import http.client
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from jobs.errors import ConfigurationError
from jobs.settings import Settings
from prune_engine.processors import processors
from prunery.data_folder import only_one
from prunery.parts import Part, start_part
from prunery.valkey import start_server
from service import binding

_API_PATIENCE = 12.0
_WORKER_PATIENCE = 10.0  # beside the time that a child has for its last checkpoint
_READY_WITHIN = 120.0
_LOADING_WITHIN = 600.0  # a large append-only file takes its time
Say = Callable[[str], None]


def up(settings: Settings, say: Say) -> int:
    """Run everything until told to stop; the exit status.

    Raises:
        ConfigurationError: the port or the data folder is taken, or a part cannot start.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # What nohup has us ignore stays ignored.
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: stop.set())
    with only_one(settings.data_dir), contextlib.ExitStack() as ending:
        listener = _listen(settings.host, settings.port)
        ending.callback(listener.close)
        tree = _Tree(settings)
        ending.callback(tree.stop)
        tree.start(listener)
        if not tree.wait_until_ready(stop, listener.getsockname()):
            return _report(tree, stop, say)
        say(f"Prunery is ready at {_address(listener, settings)} (Ctrl-C stops it; logs are in {tree.logs})")
        while not stop.wait(0.1) and tree.dead() is None:
            pass
        return _report(tree, stop, say)


def _report(tree: _Tree, stop: threading.Event, say: Say) -> int:
    """Say why it ends."""
    if (dead := tree.dead()) is not None and not stop.is_set():
        say(f"error: {dead.obituary()}")
        return 1
    if stop.is_set():
        say("Prunery stops")
        return 0
    say(f"error: not ready within {_READY_WITHIN:.0f} s; the logs are in {tree.logs}")
    return 1


class _Tree:
    """The processes. Those that use the store end before it does."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._users: list[Part] = []
        self._stores: list[Part] = []
        self.logs = settings.data_dir / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)

    def start(self, listener: socket.socket) -> None:
        """Start all parts; they come up side by side."""
        server = None
        if self._settings.redis_url is None:
            server = start_server(self._settings.data_dir / "valkey", self.logs / "valkey.log")
            self._stores.append(server.part)
            self._settings = self._settings.model_copy(update={"redis_url": server.url})
        binds_openly = not binding.is_loopback(self._settings.host)
        if server is not None and (binds_openly or self._settings.bootstrap_key_file is not None):
            server.wait(_LOADING_WITHIN)
        binding.prepare(self._settings)
        self._users.append(self._start_api(listener))
        if server is not None:
            server.wait(_LOADING_WITHIN)
            _forget_the_dead(self._settings)
        for number in range(1, self._settings.workers + 1):
            self._users.append(self._start_worker(number))

    def wait_until_ready(self, stop: threading.Event, address: tuple[Any, ...]) -> bool:
        """Return whether the API answers and the workers live, before something ends or takes too long."""
        from jobs.store import JobStore

        store = JobStore(self._settings)
        until = time.monotonic() + _READY_WITHIN
        try:
            while not stop.is_set() and self.dead() is None and time.monotonic() < until:
                if (
                    _answers(address, self._settings)
                    and len(store.living_workers()) >= self._settings.workers
                ):
                    return True
                stop.wait(0.03)
            return False
        finally:
            store.close()

    def dead(self) -> Part | None:
        """A part that has ended."""
        return next((part for part in (*self._stores, *self._users) if part.process.poll() is not None), None)

    def stop(self) -> None:
        """End the API and the workers, then the store that they use."""
        for group in (self._users, self._stores):
            for part in group:
                part.ask_to_stop()
            for part in group:
                part.stop()

    def _start_api(self, listener: socket.socket) -> Part:
        fd = listener.fileno()
        command = [sys.executable, "-m", "prunery.api", str(fd)]
        environment = self._settings.environment()
        return start_part("the API", command, environment, self.logs / "api.log", _API_PATIENCE, (fd,))

    def _start_worker(self, number: int) -> Part:
        return start_part(
            f"worker {number}",
            [sys.executable, "-m", "worker"],
            share_processors(self._settings).environment(),
            self.logs / f"worker-{number}.log",
            _WORKER_PATIENCE + self._settings.stop_grace_seconds,
        )


def share_processors(settings: Settings) -> Settings:
    """Several workers share the processors; each with a thread for every one of them would slow all down."""
    if settings.child_threads is not None or settings.workers == 1:
        return settings
    threads = max(1, processors() // settings.workers)
    return settings.model_copy(update={"child_threads": threads})


def _forget_the_dead(settings: Settings) -> None:
    """The private server has only just started: no worker lives, and what was running waits for the next."""
    from jobs.doorbell import Doorbell
    from jobs.store import JobStore
    from jobs.sweeper import Sweeper

    store = JobStore(settings)
    doorbell = Doorbell(settings)
    sweeper = Sweeper(settings, store, doorbell)
    store.forget_workers()
    for job_id in store.held():
        sweeper.take_away(job_id, at_once=True)
    doorbell.close()
    store.close()


def _listen(host: str, port: int) -> socket.socket:
    """The API's socket, opened here so that a taken port is known before anything starts.

    Raises:
        ConfigurationError: the address cannot be used.
    """
    listener: socket.socket | None = None
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, proto)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        if listener is not None:
            listener.close()
        raise ConfigurationError(
            f"cannot listen on {host}:{port} ({error.strerror}); choose another with --port or --host",
            param="port",
        ) from error
    return listener


def _address(listener: socket.socket, settings: Settings) -> str:
    host, port = listener.getsockname()[:2]
    scheme = "http" if settings.tls_cert is None else "https"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def _answers(address: tuple[Any, ...], settings: Settings) -> bool:
    """Whether the API answers. The socket takes connections before the API does, hence the time limit."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address[0], address[0])  # noqa: S104 - read, not bound
    connection = http.client.HTTPConnection(host, address[1], timeout=0.5)
    if settings.tls_cert is not None:
        # It is our own process that is asked, by an address that its certificate need not name.
        context = ssl._create_unverified_context()  # noqa: S323 - to ourselves
        connection = http.client.HTTPSConnection(host, address[1], timeout=0.5, context=context)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
