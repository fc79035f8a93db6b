"""API keys: who may ask for what, and how much of it.

A key reads `prn_<id>_<secret>`. Only the SHA-256 of the secret is kept: it has 256 random bits, so that there
is nothing to guess and a slow hash would protect nothing. Revoked and expired keys stay in the store, so that
the end of the last key closes a service instead of opening it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from redis.exceptions import ResponseError

from jobs.connection import availability, connect
from jobs.errors import ConfigurationError, KeyNotFoundError
from jobs.layout import Layout
from jobs.record import now
from jobs.replies import WAITAOF
from jobs.settings import Settings

_KEY = re.compile(r"prn_([a-z0-9]{4,32})_([A-Za-z0-9_-]{40,200})")


class Scope(StrEnum):
    """What a key may do; `jobs:write` includes `jobs:read`, and `admin` everything."""

    JOBS_READ = "jobs:read"  # list, watch and download its own jobs; list the data sets
    JOBS_WRITE = "jobs:write"  # submit, inspect, cancel, delete: whatever changes something or costs time
    METRICS = "metrics"  # GET /metrics
    ADMIN = "admin"  # everything, of everybody's jobs


_INCLUDED = {
    Scope.JOBS_READ: frozenset({Scope.JOBS_READ}),
    Scope.JOBS_WRITE: frozenset({Scope.JOBS_WRITE, Scope.JOBS_READ}),
    Scope.METRICS: frozenset({Scope.METRICS}),
    Scope.ADMIN: frozenset(Scope),
}


class Limits(BaseModel):
    """A key's own limits; None: as the settings say; 0: none."""

    model_config = ConfigDict(frozen=True)

    requests_per_minute: int | None = Field(None, ge=0)
    active_jobs: int | None = Field(None, ge=0)
    stored_bytes: int | None = Field(None, ge=0)


class ApiKey(BaseModel):
    """A key as it is kept. Frozen; only its end is ever written again."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    scopes: tuple[Scope, ...]
    secret_sha256: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    limits: Limits = Limits()

    def fits(self, secret: str) -> bool:
        """Whether this is the key's secret; takes the same time whatever is wrong with it."""
        return hmac.compare_digest(hashed(secret), self.secret_sha256)

    def allows(self, scope: Scope) -> bool:
        """Whether the key may do what `scope` stands for."""
        return any(scope in _INCLUDED[held] for held in self.scopes)

    def expired(self) -> bool:
        """Whether its time is over."""
        return self.expires_at is not None and self.expires_at <= now()

    def state(self) -> str:
        """`active`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expired() else "active"


@dataclass(frozen=True)
class Token:
    """A key as its holder sends it."""

    id: str
    secret: str

    def __str__(self) -> str:
        return f"prn_{self.id}_{self.secret}"


def parse_token(text: str) -> Token | None:
    """The key that `text` is; None where it cannot be one."""
    found = _KEY.fullmatch(text)
    return Token(found[1], found[2]) if found else None


def new_token() -> Token:
    """A fresh key."""
    return Token(secrets.token_hex(6), secrets.token_urlsafe(32))


def hashed(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


class KeyStore:
    """The keys for the command line and for the start of a service, synchronous.

    Every method raises StoreUnavailableError when the server does not answer.
    """

    def __init__(self, settings: Settings) -> None:
        self._redis: Any = connect(settings.require_redis_url())
        self._layout = Layout(settings.redis_prefix, settings.events_per_job)

    def create(
        self,
        name: str,
        scopes: Iterable[Scope],
        *,
        expires_at: datetime | None = None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
        token: Token | None = None,
    ) -> tuple[ApiKey, Token]:
        """Add a key, by default a fresh one; it is on the server's disk when this returns.

        A key whose id is there already is left as it is, so that a revoked one does not come back.
        """
        token = token or new_token()
        key = ApiKey(
            id=token.id,
            name=name,
            scopes=tuple(dict.fromkeys(scopes)),
            secret_sha256=hashed(token.secret),
            created_at=now(),
            expires_at=expires_at,
            limits=limits,
        )
        with availability():
            self._redis.hsetnx(self._layout.keys, key.id, key.model_dump_json())
        self._wait_for_disk()
        return key, token

    def adopt(self, path: Path) -> None:
        """Add the key in a file, allowed everything: the first key of a service that nobody logs in to.

        Raises:
            ConfigurationError: there is no key in it.
        """
        try:
            token = parse_token(path.read_text(encoding="utf-8").strip())
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f"the key file {path} cannot be read ({error})", param="bootstrap_key_file"
            ) from None
        if token is None:
            raise ConfigurationError(
                f"the key file {path} holds no key: one line prn_<id>_<secret>, an id of 4 to 32 small "
                "letters and digits, a secret of 40 random characters or more: "
                'echo "prn_first_$(openssl rand -hex 32)"',
                param="bootstrap_key_file",
            )
        self.create("bootstrap", (Scope.ADMIN,), token=token)

    def all(self) -> list[tuple[ApiKey, datetime | None]]:
        """Every key, oldest first, and when it was last used (to the minute)."""
        with availability():
            records = self._redis.hgetall(self._layout.keys)
            used = self._redis.hgetall(self._layout.keys_used)
        when = {key_id: datetime.fromtimestamp(float(at), UTC) for key_id, at in used.items()}
        keys = sorted(map(ApiKey.model_validate_json, records.values()), key=lambda key: key.created_at)
        return [(key, when.get(key.id)) for key in keys]

    def any(self) -> bool:
        """Whether a key was ever made."""
        with availability():
            return bool(self._redis.hlen(self._layout.keys))

    def revoke(self, key_id: str) -> ApiKey:
        """End a key; every process refuses it from its next request on. Twice is once.

        Raises:
            KeyNotFoundError: there is none of this id.
        """
        with availability():
            raw = self._redis.hget(self._layout.keys, key_id)
            if raw is None:
                raise KeyNotFoundError(f"there is no key '{key_id[:64]}'; `prunery keys list` shows the ids")
            key = ApiKey.model_validate_json(raw)
            if key.revoked_at is None:
                key = key.model_copy(update={"revoked_at": now()})
                self._redis.hset(self._layout.keys, key_id, key.model_dump_json())
        self._wait_for_disk()
        return key

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _wait_for_disk(self) -> None:
        """Return when what was written is on disk; a server without an append-only file decides itself."""
        with availability():
            try:
                self._redis.execute_command(*WAITAOF)
            except ResponseError:
                return
