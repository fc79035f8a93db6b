"""Keys for the API: what is known of them, and how many of their requests are let in. Awaited.

Requests that come while one call to the store is under way share the next, so that hundreds of clients cost
hardly more than one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from jobs.connection import availability, connect_async
from jobs.layout import Layout
from jobs.settings import Settings

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")
_CONNECTIONS = 8
_GIVEN_UP = 60


@dataclass(frozen=True)
class Asked:
    """A request of a key, for a job or for none; `limit`: requests a minute, 0 for any number."""

    key_id: str
    limit: int
    job_id: str | None = None


@dataclass(frozen=True)
class Admitted:
    """What became of it. `record`: the key's, as it is now; None: there is no such key.

    `left`: further requests in this minute, None for any number; `wait`: seconds until one more is let in;
    `owns`: whether the job is the key's.
    """

    record: str | None
    let_in: bool
    left: int | None
    wait: float
    owns: bool


class AsyncKeys:
    """The keys of one event loop.

    Every method raises StoreUnavailableError when the server does not answer.
    """

    def __init__(self, settings: Settings) -> None:
        self._redis = connect_async(settings.require_redis_url(), _CONNECTIONS)
        self._layout = Layout(settings.redis_prefix, settings.events_per_job)
        self.record = Together(self._records)
        self.admit = Together(self._admit)

    async def any(self) -> bool:
        """Whether a key was ever made."""
        with availability():
            return bool(await self._redis.hlen(self._layout.keys))

    async def reserve(self, key_id: str, upload: str, size: int, limit: int) -> int:
        """Keep room for `size` bytes of an upload (0: it has ended) among the `limit` of a key.

        What is not kept again within a minute counts as given up.

        Returns:
            The bytes that there is room for; when they are fewer than `size`, nothing was kept.
        """
        with availability():
            return int(await self._redis.eval(*self._layout.reserve(key_id, upload, size, limit, _GIVEN_UP)))

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def _records(self, key_ids: list[str]) -> list[str | None]:
        with availability():
            return list(await self._redis.hmget(self._layout.keys, key_ids))

    async def _admit(self, asked: list[Asked]) -> list[Admitted]:
        by_key: dict[str, list[int]] = {}
        for number, one in enumerate(asked):
            by_key.setdefault(one.key_id, []).append(number)
        with availability():
            pipe = self._redis.pipeline(transaction=False)
            for key_id, numbers in by_key.items():
                limit = asked[numbers[-1]].limit
                jobs = [job_id for number in numbers if (job_id := asked[number].job_id) is not None]
                pipe.eval(*self._layout.admit(key_id, len(numbers), limit, jobs))
            replies = await pipe.execute()
        answers: dict[int, Admitted] = {}
        for numbers, reply in zip(by_key.values(), replies, strict=True):
            answers |= zip(numbers, _admitted([asked[number] for number in numbers], reply), strict=True)
        return [answers[number] for number in range(len(asked))]


def _admitted(asked: list[Asked], reply: list[Any]) -> list[Admitted]:
    """The answers to the requests of one key; who came first is let in first."""
    record, let_in, left, wait, *owns = reply
    owned = iter(owns)
    return [
        Admitted(
            record=record or None,
            let_in=place < let_in,
            left=None if left < 0 else left,
            wait=wait / 1000,
            owns=bool(next(owned, 0)) if one.job_id is not None else False,
        )
        for place, one in enumerate(asked)
    ]


class Together(Generic[Ask, Answer]):
    """A call for many callers at once: what comes while one is under way shares the next."""

    def __init__(self, call: Callable[[list[Ask]], Awaitable[list[Answer]]]) -> None:
        self._call = call
        self._waiting: list[tuple[Ask, asyncio.Future[Answer]]] = []
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, ask: Ask) -> Answer:
        """The answer to `ask`; raises what the call raises."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((ask, answer))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work(), name="prunery-together")
        return await answer

    async def _work(self) -> None:
        """Call until nobody waits."""
        while self._waiting:
            waiting, self._waiting = self._waiting, []
            try:
                answers = await self._call([ask for ask, _ in waiting])
            except Exception as error:  # noqa: BLE001 - it belongs to those who asked
                for _, future in waiting:
                    if not future.done():
                        future.set_exception(error)
            else:
                for (_, future), answer in zip(waiting, answers, strict=True):
                    if not future.done():  # its caller may have hung up
                        future.set_result(answer)
