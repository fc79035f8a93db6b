"""The outbox: the messages of webhooks, for those who deliver them and for those who ask after them.

A message is claimed by putting off when it is due: until then nobody else takes it, and whoever dies with it
in his hands has only delayed it. All times are the server's, so clocks of machines may differ.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jobs.connection import availability, connect, connect_async
from jobs.errors import DeliveryBusyError, DeliveryNotFoundError
from jobs.layout import Call, Layout
from jobs.record import Job, Webhook, now
from jobs.settings import Settings
from jobs.webhooks.message import Message, State

_SWAP: Final = (Path(__file__).parent / "swap.lua").read_text()
_CONNECTIONS: Final = 4
_OTHER_FIELDS: Final = frozenset(("secret", "gone"))


@dataclass(frozen=True)
class Claimed:
    """A message in the hands of one who delivers it. `gone`: its receiver wants nothing more of this job."""

    job_id: str
    webhook: Webhook
    message: Message
    secret: str
    gone: bool


def _layout(settings: Settings) -> Layout:
    return Layout(settings.redis_prefix, settings.events_per_job)


def _swap(
    layout: Layout,
    job_id: str,
    was: str,
    message: Message,
    due: float | None,
    *,
    counter: str = "",
    gone: bool | None = None,
    claim: bool = False,
) -> Call:
    keys = (layout.webhook(job_id), layout.webhooks, layout.counters)
    said = "" if gone is None else "yes" if gone else "no"
    member = f"{job_id}/{message.id}"
    when = "" if due is None else repr(due)
    changed = (message.id, was, message.model_dump_json(), member, when)
    return Call(_SWAP, keys, (*changed, counter, said, "claim" if claim else ""))


class Outbox:
    """The outbox of a worker. Thread-safe. Every method raises StoreUnavailableError."""

    def __init__(self, settings: Settings) -> None:
        self._redis = connect(settings.require_redis_url())
        self._layout = _layout(settings)

    def claim(self, most: int, seconds: float) -> list[Claimed]:
        """Messages that are due, at most so many; nobody else takes them for `seconds`."""
        with availability():
            whole, parts = self._redis.time()
            due = self._redis.zrangebyscore(
                self._layout.webhooks, "-inf", whole + parts / 1_000_000, start=0, num=most
            )
            claimed = [self._claim(member, seconds) for member in due]
        return [one for one in claimed if one is not None]

    def _claim(self, member: str, seconds: float) -> Claimed | None:
        job_id, _, message_id = member.partition("/")
        pipe = self._redis.pipeline(transaction=False)
        pipe.get(self._layout.record(job_id))
        pipe.hmget(self._layout.webhook(job_id), message_id, "secret", "gone")
        record, (was, secret, gone) = pipe.execute()
        webhook = Job.model_validate_json(record).webhook if record is not None else None
        if webhook is None or was is None:
            self._redis.zrem(self._layout.webhooks, member)  # the job was deleted
            return None
        message = Message.model_validate_json(was).model_copy(update={"claim": secrets.token_hex(8)})
        if not self._redis.eval(*_swap(self._layout, job_id, was, message, seconds, claim=True)):
            return None
        return Claimed(job_id, webhook, message, secret or "", gone is not None)

    def put_off(self, claimed: Claimed, seconds: float) -> bool:
        """Give a claimed message back: it is due in so many seconds, and this counts as no attempt."""
        message = claimed.message.model_copy(update={"claim": None})
        was = claimed.message.model_dump_json()
        with availability():
            call = _swap(self._layout, claimed.job_id, was, message, seconds)
            return bool(self._redis.eval(*call))

    def settle(self, claimed: Claimed, message: Message, due: float | None, outcome: str) -> bool:
        """Write down what became of a claimed message; False: the claim had run out and another has it.

        Args:
            claimed: as it was claimed.
            message: as it is now.
            due: seconds until it is to be sent again; None: never.
            outcome: what is counted.
        """
        was = claimed.message.model_dump_json()
        gone = True if message.state is State.DROPPED else None
        call = _swap(self._layout, claimed.job_id, was, message, due, counter=f"webhook:{outcome}", gone=gone)
        with availability():
            return bool(self._redis.eval(*call))

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()


class AsyncOutbox:
    """The outbox of the API. Every method raises StoreUnavailableError."""

    def __init__(self, settings: Settings) -> None:
        self._redis = connect_async(settings.require_redis_url(), _CONNECTIONS)
        self._layout = _layout(settings)

    async def secret(self, job_id: str) -> str | None:
        """The secret of a job's webhook; None where it has none."""
        with availability():
            found: str | None = await self._redis.hget(self._layout.webhook(job_id), "secret")
            return found

    async def messages(self, job_id: str) -> list[Message]:
        """All messages of a job, oldest first."""
        with availability():
            return _read(await self._redis.hgetall(self._layout.webhook(job_id)))

    async def send_again(self, job_id: str, message_id: str) -> Message:
        """Have a message sent now, as if for the first time, whatever became of it.

        Raises:
            DeliveryNotFoundError: there is no such message.
            DeliveryBusyError: it is being sent at this moment.
        """
        while True:
            with availability():
                pipe = self._redis.pipeline(transaction=False)
                pipe.hget(self._layout.webhook(job_id), message_id)
                pipe.zscore(self._layout.webhooks, f"{job_id}/{message_id}")
                pipe.time()
                was, due, (whole, _) = await pipe.execute()
            if was is None or message_id in _OTHER_FIELDS:
                raise DeliveryNotFoundError(
                    f"{job_id} has no delivery '{message_id[:64]}'; "
                    f"GET /jobs/{job_id}/webhook/deliveries lists those there are",
                    param="delivery_id",
                )
            message = Message.model_validate_json(was)
            if message.claim is not None and due is not None and due > whole:
                raise DeliveryBusyError(f"{message_id} is being sent just now; look again in a few seconds")
            again = {"state": State.PENDING, "tries": 0, "next_attempt_at": now(), "claim": None}
            message = message.model_copy(update=again)
            with availability():
                if await self._redis.eval(*_swap(self._layout, job_id, was, message, 0.0, gone=False)):
                    return message

    async def waiting(self) -> int:
        """How many messages are yet to be sent, of all jobs."""
        with availability():
            return int(await self._redis.zcard(self._layout.webhooks))

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()


def _read(fields: Mapping[str, Any]) -> list[Message]:
    found = [Message.model_validate_json(raw) for name, raw in fields.items() if name not in _OTHER_FIELDS]
    return sorted(found, key=lambda message: (message.created_at, message.id))
