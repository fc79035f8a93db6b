"""A message of a webhook: what is told, and what became of telling it.

The payload is made once, with the move that it tells of, and sent byte for byte the same at every attempt, so
that a receiver may know a message again by its id.
"""

from __future__ import annotations

import json
import secrets
import time
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from jobs.record import Job, Status, now

# What a job's webhook may be told, by the state that the job has come to.
_TYPES: Final = {
    Status.RUNNING: "job.started",
    Status.PAUSED: "job.paused",
    Status.SUCCEEDED: "job.succeeded",
    Status.FAILED: "job.failed",
    Status.CANCELLED: "job.cancelled",
}
# Of the job as `GET /jobs/{id}` shows it: what it came to, without what was sent.
_TOLD: Final = frozenset(
    ("id", "status", "attempt", "created_at", "started_at", "finished_at", "error", "result")
)
_ATTEMPTS_KEPT: Final = 50


class State(StrEnum):
    """What has become of a message."""

    PENDING = "pending"  # it is sent at `next_attempt_at`
    DELIVERED = "delivered"  # the receiver has answered 2xx
    FAILED = "failed"  # every attempt failed; it can be sent again by hand
    DROPPED = "dropped"  # the receiver said 410: it wants nothing of this job any more


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Attempt(_Part):
    """One request to the receiver."""

    at: datetime
    seconds: float = Field(description="How long it took.")
    status: int | None = Field(description="HTTP status of the answer; null where there was none.")
    error: str | None = Field(description="Why it does not count as delivered; null where it does.")


class Message(_Part):
    """A message in the outbox. Frozen: the outbox evolves it into a new one."""

    id: str
    type: str
    created_at: datetime
    payload: str
    state: State = State.PENDING
    next_attempt_at: datetime | None = None
    tries: int = 0  # since it was written, or since somebody asked to send it again
    attempts: tuple[Attempt, ...] = ()
    claim: str | None = None  # whoever is sending it; nobody else may before `next_attempt_at`

    def tried(self, attempt: Attempt, state: State, next_attempt_at: datetime | None) -> Message:
        """The message after an attempt."""
        return self.model_copy(
            update={
                "attempts": (*self.attempts, attempt)[-_ATTEMPTS_KEPT:],
                "tries": self.tries + 1,
                "state": state,
                "next_attempt_at": next_attempt_at,
                "claim": None,
            }
        )


def messages_of(job: Job) -> tuple[Message, ...]:
    """What there is to tell of a job that has just come to its state: a message, or none."""
    kind = _TYPES.get(job.status)
    if job.webhook is None or kind not in job.webhook.events:
        return ()
    at = now()
    payload = {"type": kind, "timestamp": at.isoformat().replace("+00:00", "Z"), "data": _data_of(job)}
    return (
        Message(
            id=f"msg_{int(time.time() * 1000):012x}{secrets.token_hex(8)}",
            type=kind,
            created_at=at,
            payload=json.dumps(payload, separators=(",", ":")),
            next_attempt_at=at,
        ),
    )


def _data_of(job: Job) -> dict[str, Any]:
    told = job.model_dump(mode="json", include=set(_TOLD))
    for file in (told["result"] or {}).get("artifacts", ()):
        del file["key"]  # where we keep it is our own affair
    return {"object": "job", **told}
