"""The gate: looks at a request's key, counts it, and says who asks.

Where no key was ever made and the API is reached on this machine's own address, it is open; what is refused
even then is in `service.browsers`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Mapping
from typing import Any, Final, TypeVar

import structlog
from fastapi import Request

from jobs.admission import Asked, AsyncKeys
from jobs.errors import JobNotFoundError, StoreUnavailableError
from jobs.keys import ApiKey, Scope, Token, parse_token
from jobs.settings import Settings
from service import errors
from service.browsers import check_host, check_origin
from service.caller import ANYBODY, STRANGER, Caller
from service.routes.parameters import check_job_id

# Seconds for which a service without keys believes that it still has none.
_BELIEF: Final = 1.0
_KEPT: Final = 4096
# Seconds that the figures wait for the store here; Prometheus gives a scrape ten.
_SCRAPE: Final = 2.0
_HOW: Final = "send `Authorization: Bearer prn_...`; `prunery keys create` makes a key"

T = TypeVar("T")


class Gate:
    """The gate of one application."""

    def __init__(self, settings: Settings, keys: AsyncKeys) -> None:
        self._settings = settings
        self._keys = keys
        self._known: OrderedDict[str, tuple[str, ApiKey]] = (
            OrderedDict()
        )  # the record as it was read, and parsed
        self._closed = settings.auth == "required"
        self._looked = -math.inf

    async def admit(self, request: Request, scope: Scope | None, job_id: str | None) -> Caller:
        """Let a request in that needs `scope` (None: nothing) and is about `job_id` (None: about no job).

        Raises:
            AccessError, RequestsExceededError, JobNotFoundError.
        """
        if scope is None:
            return STRANGER
        if self._settings.allowed_hosts is not None:
            check_host(request, self._settings.allowed_hosts)
        token = None if self._settings.auth == "off" else _token(request.headers)
        if token is None:
            if not await self._opens(request.scope, scope):
                raise errors.KeyRequiredError(f"this needs an API key: {_HOW}")
            check_host(request, self._settings.allowed_hosts or ())
            check_origin(request)
            return ANYBODY
        key = await _soon(scope, self._key(token))
        if not key.allows(scope):
            raise errors.ScopeMissingError(
                f"this needs the scope {scope}; the key {key.id} has {', '.join(key.scopes)}"
            )
        if job_id is not None:
            check_job_id(job_id)
        try:
            return await _soon(scope, self._count(request, key, job_id))
        except StoreUnavailableError:
            if scope != "metrics":
                raise
            return Caller(key, known=True)  # to hear that the store is away

    async def lives(self, caller: Caller) -> bool:
        """Whether the caller would still be let in; for answers that go on for hours."""
        if caller.key is None:
            return True
        try:
            raw = await self._keys.record(caller.key.id)
        except StoreUnavailableError:
            return True
        return raw is not None and ApiKey.model_validate_json(raw).state() == "active"

    async def whoever(self, request: Request) -> Caller:
        """Who asks for what everybody may see, in a second at most; who is known may be told more."""
        try:
            async with asyncio.timeout(1.0):
                token = _token(request.headers)
                if token is not None and self._settings.auth != "off":
                    return Caller(await self._key(token), known=True)
                return ANYBODY if await self._open(request.scope) else STRANGER
        except errors.AccessError:
            return STRANGER
        except (StoreUnavailableError, TimeoutError):
            return ANYBODY if self._may_be_open(request.scope) else STRANGER

    async def _opens(self, request: Mapping[str, Any], scope: Scope) -> bool:
        """As `_open`; the figures can be had while the store is away, since they say that it is."""
        try:
            return await _soon(scope, self._open(request))
        except StoreUnavailableError:
            if scope != "metrics":
                raise
            return self._may_be_open(request)

    async def _open(self, scope: Mapping[str, Any]) -> bool:
        """Whether a request without a key is let in."""
        if self._settings.auth == "off":
            return True
        if not self._may_be_open(scope):
            return False
        if time.monotonic() - self._looked > _BELIEF:
            self._closed = await self._keys.any()
            self._looked = time.monotonic()
        return not self._closed

    def _may_be_open(self, scope: Mapping[str, Any]) -> bool:
        """As `_open`, by what is known without asking. What was closed once does not open again."""
        return not self._closed and _is_local(scope)

    async def _key(self, token: Token) -> ApiKey:
        """The key that was sent, as it was when it was last read.

        Raises:
            KeyUnknownError, KeyExpiredError, KeyRevokedError.
        """
        known = self._known.get(token.id)
        if known is None:
            raw = await self._keys.record(token.id)
            if raw is None:
                raise _unknown()
            known = self._remember(token.id, raw)
        key = known[1]
        if not key.fits(token.secret):
            raise _unknown()
        return _alive(key)

    async def _count(self, request: Request, key: ApiKey, job_id: str | None) -> Caller:
        """Count the request, and see that the key and the job are what they should be now."""
        limit = limit_of(key.limits.requests_per_minute, self._settings.key_requests_per_minute)
        found = await self._keys.admit(Asked(key.id, limit, job_id))
        if found.record is None:
            self._known.pop(key.id, None)
            raise _unknown()
        if found.record != self._known.get(key.id, ("",))[0]:
            key = _alive(self._remember(key.id, found.record)[1])
        headers = {}
        if limit:
            left = found.left or 0
            reset = f";t={math.ceil(found.wait)}" if found.wait else ""
            headers = {
                "RateLimit-Policy": f'"requests";q={limit};w=60',
                "RateLimit": f'"requests";r={left}{reset}',
            }
        if not found.let_in:
            raise errors.RequestsExceededError(
                f"the key {key.id} may make {limit} requests a minute; ask less often, with ?wait=30",
                headers={"Retry-After": str(math.ceil(found.wait)), **headers},
            )
        request.scope["state"]["headers"] = headers
        structlog.contextvars.bind_contextvars(key=key.id)
        caller = Caller(key, known=True)
        if job_id is not None and caller.sees is not None and not found.owns:
            raise JobNotFoundError(job_id)
        return caller

    def _remember(self, key_id: str, raw: str) -> tuple[str, ApiKey]:
        self._known[key_id] = raw, ApiKey.model_validate_json(raw)
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return self._known[key_id]


async def _soon(scope: Scope, asking: Awaitable[T]) -> T:
    """What the store says; whoever wants the figures is not kept longer than a scrape lasts.

    Raises:
        StoreUnavailableError: the store does not answer in that time.
    """
    if scope != "metrics":
        return await asking
    try:
        async with asyncio.timeout(_SCRAPE):
            return await asking
    except TimeoutError:
        raise StoreUnavailableError(f"the job store does not answer within {_SCRAPE:g} s") from None


def limit_of(own: int | None, default: int) -> int:
    """A key's limit: its own, or else the setting's."""
    return default if own is None else own


def _token(headers: Mapping[str, str]) -> Token | None:
    """The key that came with a request; None where none did.

    Raises:
        KeyUnknownError: what came cannot be a key.
    """
    scheme, _, given = headers.get("authorization", "").partition(" ")
    text = given.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "").strip()
    if not text:
        return None
    token = parse_token(text)
    if token is None:
        raise _unknown()
    return token


def _unknown() -> errors.KeyUnknownError:
    return errors.KeyUnknownError(f"no such API key was made here: {_HOW}")


def _alive(key: ApiKey) -> ApiKey:
    """The key, if it has not ended.

    Raises:
        KeyExpiredError, KeyRevokedError.
    """
    if key.revoked_at is not None:
        raise errors.KeyRevokedError(f"the key {key.id} was revoked; ask for another one")
    if key.expired():
        raise errors.KeyExpiredError(f"the key {key.id} ended at {key.expires_at}; ask for another one")
    return key


def _is_local(scope: Mapping[str, Any]) -> bool:
    """Whether the request came in on this machine's own address, from this machine; a Unix socket counts."""
    ends = (scope.get("server"), scope.get("client"))
    return all(end is None or end[1] is None or _is_loopback(end[0]) for end in ends)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
