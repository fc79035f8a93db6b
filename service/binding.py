"""Before the API listens: the first key, and no open door on a network."""

from __future__ import annotations

import ipaddress
import socket
import time
from pathlib import Path
from typing import Final

import click
import structlog

from jobs.errors import ConfigurationError, StoreUnavailableError
from jobs.keys import KeyStore
from jobs.settings import Settings

_STORE_WITHIN: Final = 60.0
_log = structlog.get_logger("service")


def prepare(settings: Settings, host: str | None = None) -> None:
    """Add the key of `bootstrap_key_file`; refuse to listen on a network while there is no key.

    Where the store is away nothing is known of keys; then the API starts, and refuses who has none.

    Args:
        settings: its `host` is what is listened on, unless `host` says otherwise.

    Raises:
        ConfigurationError: no key was made, or the file has none.
    """
    host = settings.host if host is None else host
    reachable = settings.auth != "off" and not is_loopback(host)
    if settings.auth == "off" and not is_loopback(host):
        _log.warning("open to everybody who reaches it", host=host, auth="off")
    if settings.bootstrap_key_file is None and not reachable:
        return
    keys = KeyStore(settings)
    try:
        if settings.bootstrap_key_file is not None:
            _adopt(keys, settings.bootstrap_key_file)
        if reachable and not keys.any():
            raise ConfigurationError(
                f"no API key was made yet, and on {host} everybody on the network could use the service; "
                "make one, with the same settings: prunery keys create --name me --scope jobs:write "
                "(docs/keys.md has other ways)",
                param="host",
            )
    except StoreUnavailableError as error:
        if settings.bootstrap_key_file is not None:
            raise ConfigurationError(error.message, param="redis_url") from error
        _log.warning("keys are not known yet", detail=error.message)
    finally:
        keys.close()


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens on `host`: an address, or a name of addresses."""
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM)}
        return bool(host) and all(
            ipaddress.ip_address(str(one).partition("%")[0]).is_loopback for one in found
        )
    except (OSError, ValueError):
        return False


def command_line_host() -> str | None:
    """`--host` of `uvicorn service.app:app`, where that is what runs; it knows nothing of our settings."""
    context = click.get_current_context(silent=True)
    if context is None or not (context.command.callback or prepare).__module__.startswith("uvicorn"):
        return None
    host: str | None = context.params.get("host")
    return host


def _adopt(keys: KeyStore, file: Path) -> None:
    """Add the key of the file, once the store is there."""
    until = time.monotonic() + _STORE_WITHIN
    while True:
        try:
            keys.adopt(file)
            return
        except StoreUnavailableError:
            if time.monotonic() > until:
                raise
