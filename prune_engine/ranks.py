"""The processes of a job on several GPUs: the child itself is the first, it starts the others.

They are told who they are as torchrun tells it, so `torchrun --nproc-per-node 2 -m prune_engine run DIR` is
the same. All are in one process group: whoever kills the child's group kills them all.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from prune_engine.errors import DeviceError

GRACE = 10.0
"""Seconds that the others get to end after the first one has."""


def rank() -> int:
    """Which of the processes this one is, from 0; alone it is 0."""
    return int(os.environ.get("RANK", "0"))


def joined() -> bool:
    """Whether somebody has already started the processes."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def processes_here() -> int:
    """How many of the processes that train together run on this machine; alone it is 1."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("WORLD_SIZE") or "1")


def require_gpus(wanted: int) -> None:
    """Refuse more GPUs than there are.

    Raises:
        DeviceError: says how many there are.
    """
    import torch

    there = torch.cuda.device_count()
    if wanted > there:
        found = "has none" if there == 0 else f"has {there}"
        raise DeviceError(
            f"gpus: {wanted} were asked for and this worker {found}; ask for fewer", param="gpus"
        )


@contextmanager
def others(count: int, folder: Path) -> Iterator[None]:
    """Start the ranks 1 to `count` - 1 for the job in `folder` and be rank 0; nobody is left at the end.

    A rank that fails ends this process, which would wait for it for ever; what it said is on stderr.
    """
    told = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    os.environ.update(told, RANK="0", LOCAL_RANK="0")
    started = [_start(number, folder, told) for number in range(1, count)]
    over = threading.Event()
    watch = threading.Thread(target=_watch, args=(started, over), daemon=True)
    watch.start()
    try:
        yield
        for process in started:
            process.wait(GRACE)
    finally:
        over.set()
        for process in started:
            process.kill()
            process.wait()
        for name in (*told, "RANK", "LOCAL_RANK"):
            os.environ.pop(name, None)


def _start(number: int, folder: Path, told: Mapping[str, str]) -> subprocess.Popen[bytes]:
    environment = {**os.environ, **told, "RANK": str(number), "LOCAL_RANK": str(number)}
    command = [sys.executable, "-P", "-m", "prune_engine", "run", str(folder)]
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def _watch(started: list[subprocess.Popen[bytes]], over: threading.Event) -> None:
    while not over.wait(0.5):
        for number, process in enumerate(started, 1):
            if process.poll():
                print(f"rank {number} ended with status {process.returncode}", file=sys.stderr, flush=True)  # noqa: T201
                for other in started:
                    other.kill()
                os._exit(1)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
