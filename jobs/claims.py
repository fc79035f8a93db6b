"""Claims: a request with an Idempotency-Key makes its job once, however often it is sent.

A claim is first held by a running request, under a lease that it renews; a request that is gone loses it
within `LEASE_SECONDS`. The script that makes the job turns it into its outcome, in the same breath, if it is
still held: so a request that lost it makes nothing. The outcome stays for a day.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from jobs.conditions import Claim
from jobs.connection import availability, connect_async
from jobs.errors import IdempotencyKeyInUseError, StoreUnavailableError
from jobs.layout import Layout
from jobs.settings import Settings

LEASE_SECONDS: Final = 30.0
_CONNECTIONS: Final = 4


@dataclass(frozen=True)
class Outcome:
    """What an earlier request with the key came to. `answer`: None when it crashed before it had answered."""

    fingerprint: str
    job_id: str
    answer: str | None = None


class Claims:
    """The claims of one event loop.

    Every method raises StoreUnavailableError when the server does not answer.
    """

    def __init__(self, settings: Settings) -> None:
        self._redis = connect_async(settings.require_redis_url(), _CONNECTIONS)
        self._layout = Layout(settings.redis_prefix, settings.events_per_job)

    async def take(self, owner: str | None, key: str) -> Claim | Outcome:
        """Claim an owner's key, or learn what came of it.

        Raises:
            IdempotencyKeyInUseError: another request holds it.
        """
        name = f"{owner or '-'}:{hashlib.sha256(key.encode()).hexdigest()}"
        claim = Claim(name, secrets.token_hex(8))
        with availability():
            while True:
                lease = int(LEASE_SECONDS * 1000)
                if await self._redis.set(self._layout.claim(name), claim.running, nx=True, px=lease):
                    return claim
                if (found := await self._redis.get(self._layout.claim(name))) is not None:
                    break
        if found == claim.running:
            return claim  # our own: the answer to the first attempt was lost on the way
        if found.startswith("running:"):
            raise IdempotencyKeyInUseError(
                "the first request with this Idempotency-Key is under way; send this one again in a while"
            )
        return Outcome(**json.loads(found))

    @contextlib.asynccontextmanager
    async def held(self, claim: Claim) -> AsyncIterator[None]:
        """Hold the claim during the block; give it up where the block raises, unless its job was made."""
        renewing = asyncio.create_task(self._renew(claim), name="prunery-claim")
        try:
            yield
        except BaseException:
            with contextlib.suppress(StoreUnavailableError):  # then its lease ends it
                await asyncio.shield(self._keep(claim, 0.0))
            raise
        finally:
            renewing.cancel()

    async def answered(self, claim: Claim, answer: str) -> None:
        """Note the answer of the request that made the job of this claim."""
        name = self._layout.claim(claim.name)
        with availability():
            outcome = await self._redis.get(name)
            if outcome is not None and outcome != claim.running:
                noted = json.dumps({**json.loads(outcome), "answer": answer})
                await self._redis.set(name, noted, xx=True, keepttl=True)

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _renew(self, claim: Claim) -> None:
        while True:
            await asyncio.sleep(LEASE_SECONDS / 4)
            with contextlib.suppress(StoreUnavailableError):
                await self._keep(claim, LEASE_SECONDS)

    async def _keep(self, claim: Claim, seconds: float) -> None:
        with availability():
            await self._redis.eval(*self._layout.keep_claim(claim, seconds))
