"""`python -m worker.health`: whether a worker of this machine lives, as an exit status for health checks."""

from __future__ import annotations

import socket
import sys

from jobs.reading_settings import read_settings
from jobs.store import JobStore
from prune_engine.errors import PruneError


def lives_here(workers: list[str], hostname: str) -> bool:
    """Whether one of the ids `<host>-<pid>-<random>` is of this host."""
    return any(worker.rsplit("-", 2)[0] == hostname for worker in workers)


def main() -> int:
    """0: a worker of this machine has beaten lately. 1: none has, or the store does not answer."""
    try:
        store = JobStore(read_settings())
        try:
            workers = store.living_workers()
        finally:
            store.close()
    except PruneError as error:
        sys.stderr.write(f"error: {error.message} [{error.code}]\n")
        return 1
    if lives_here(workers, socket.gethostname()):
        return 0
    sys.stderr.write(f"no worker of {socket.gethostname()} lives; living: {', '.join(workers) or 'none'}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
