"""What must hold for a change of a job beside its own state: its owner's limits, and a claim on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# How long the answer to a request with an Idempotency-Key is kept.
CLAIM_SECONDS: Final = 24 * 3600


@dataclass(frozen=True)
class Claim:
    """An Idempotency-Key that a running request holds (see `jobs.claims`).

    `name`: the owner and the hash of the key; `token`: this request's; `fingerprint`: of what it asks for.
    """

    name: str
    token: str
    fingerprint: str = ""

    @property
    def running(self) -> str:
        """What is kept while the request runs."""
        return f"running:{self.token}"


@dataclass(frozen=True)
class Conditions:
    """`active_jobs`: the owner's most jobs that have not ended, 0 for any number; `claim`: is still held."""

    active_jobs: int = 0
    claim: Claim | None = None


ANY: Final = Conditions()
