"""Connections to Redis or Valkey, set up to outlive short outages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from jobs.errors import StoreUnavailableError

# 0.1 + 0.2 + 0.4 + 0.8 + 1 + 1 s: a restart of the server passes unnoticed. Repeating is safe: the scripts
# recognise a write that has been applied already.
_RETRIES = 6
_BACKOFF = ExponentialBackoff(cap=1.0, base=0.05)
_RETRIED: tuple[type[redis.exceptions.RedisError], ...] = (
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
    redis.exceptions.BusyLoadingError,
)


# What a server says that cannot keep what it is told: its disk is full, its replicas are gone, a failover.
_REFUSES_WRITES = ("MISCONF", "NOREPLICAS", "MASTERDOWN", "CLUSTERDOWN")


def _options(url: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        "decode_responses": True,
        "health_check_interval": 25,
        "socket_timeout": 10.0,
    }
    if not url.startswith("unix:"):
        options |= {"socket_keepalive": True, "socket_connect_timeout": 5.0}
    return options


def connect(url: str) -> Any:
    """A `redis.Redis`; nothing is sent yet. Any: its hints do not know of `decode_responses`."""
    return redis.Redis.from_url(url, retry=Retry(_BACKOFF, _RETRIES, _RETRIED), **_options(url))


def connect_async(url: str, connections: int) -> Any:
    """A `redis.asyncio.Redis` with at most `connections` connections; beyond that callers wait in turn."""
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=20,
        retry=AsyncRetry(_BACKOFF, _RETRIES, _RETRIED),
        **_options(url),
    )
    return redis.asyncio.Redis.from_pool(pool)


@contextmanager
def availability() -> Iterator[None]:
    """Turn the client's connection errors into the store's own.

    Raises:
        StoreUnavailableError: the server does not answer, or refuses writes.
    """
    try:
        yield
    except (
        redis.exceptions.ConnectionError,
        redis.exceptions.TimeoutError,
        redis.exceptions.OutOfMemoryError,
        redis.exceptions.ReadOnlyError,
        OSError,
    ) as error:
        raise StoreUnavailableError(
            f"the job store does not answer ({error}); check REDIS_URL and the server"
        ) from error
    except redis.exceptions.ResponseError as error:
        if not str(error).startswith(_REFUSES_WRITES):
            raise
        raise StoreUnavailableError(
            f"the job store takes no writes ({error}); check its disk and its replicas"
        ) from error
