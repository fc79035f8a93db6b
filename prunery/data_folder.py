"""The data folder: one `prunery up` at a time, and a way to its private store for other commands."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from jobs.errors import ConfigurationError
from jobs.settings import Settings
from prunery.valkey import running_server, start_server

_PATIENCE = 15.0
_LOADING_WITHIN = 600.0


class TakenError(ConfigurationError):
    """Another process has the data folder."""


@contextlib.contextmanager
def only_one(data_dir: Path) -> Iterator[None]:
    """Hold the data folder's lock.

    Raises:
        TakenError: another holds it.
        ConfigurationError: the folder cannot be written.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = (data_dir / "prunery.lock").open("a+")
    except OSError as error:
        raise ConfigurationError(
            f"the data folder {data_dir} cannot be used ({error.strerror}); choose another with --data-dir",
            param="data_dir",
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise TakenError(
                f"another `prunery up` (process {lock.read().strip() or '?'}) uses the data folder "
                f"{data_dir}; stop it, or choose another folder with --data-dir",
                param="data_dir",
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


@contextlib.contextmanager
def with_store(settings: Settings) -> Iterator[Settings]:
    """The settings with a store that answers: `REDIS_URL`, a running `prunery up`'s, or one for this block.

    Raises:
        ConfigurationError: there is none to be had.
    """
    if settings.redis_url is not None:
        yield settings
        return
    folder = settings.data_dir / "valkey"
    with contextlib.ExitStack() as ending:
        until = time.monotonic() + _PATIENCE
        while True:
            try:
                ending.enter_context(only_one(settings.data_dir))
            except TakenError as taken:
                if (url := running_server(folder)) is not None:
                    break
                if time.monotonic() > until:
                    raise ConfigurationError(
                        f"{taken.message.partition(';')[0]}, and no private store answers there; "
                        "set REDIS_URL to the store that it uses",
                        param="redis_url",
                    ) from None
                time.sleep(0.1)
            else:
                server = start_server(folder)
                ending.callback(server.stop)
                server.wait(_LOADING_WITHIN)
                url = server.url
                break
        yield settings.model_copy(update={"redis_url": url})
