"""What the cleaner needs of the store: whose turn it is, what has expired, and what was left behind."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from jobs import moves
from jobs.connection import availability, connect
from jobs.layout import Call, Layout
from jobs.record import ENDED, Job, Status, sent_at
from jobs.retention import Retention
from jobs.settings import Settings

_FORGET: Final = (Path(__file__).parent / "forget.lua").read_text()
_PAGE: Final = 500


class Housekeeping:
    """The store, for the cleaner of one worker. Every method raises StoreUnavailableError."""

    def __init__(self, settings: Settings) -> None:
        self._redis = connect(settings.require_redis_url())
        self._layout = Layout(settings.redis_prefix, settings.events_per_job)
        self._prefix = settings.redis_prefix

    def take_turn(self, worker_id: str, seconds: float) -> bool:
        """Whether it is this worker's turn to clean; nobody else's for so many seconds."""
        with availability():
            turn = self._redis.set(f"{self._prefix}cleaner", worker_id, nx=True, px=int(seconds * 1000))
            return bool(turn)

    def identity(self) -> str:
        """What this store calls itself; the same for as long as it keeps its data."""
        with availability():
            self._redis.set(f"{self._prefix}identity", secrets.token_hex(16), nx=True)
            return str(self._redis.get(f"{self._prefix}identity"))

    def records(self, job_ids: Iterable[str]) -> dict[str, Job]:
        """The jobs of these ids that there are."""
        ids = list(job_ids)
        if not ids:
            return {}
        with availability():
            raws = self._redis.mget([self._layout.record(job_id) for job_id in ids])
        return {i: Job.model_validate_json(raw) for i, raw in zip(ids, raws, strict=True) if raw}

    def expired(self, retention: Retention, at: datetime) -> Iterator[Job]:
        """The jobs that have expired, oldest first; those that came later are not looked at."""
        if retention.shortest is None:
            return
        latest = at.timestamp() - retention.shortest.total_seconds()
        for status in sorted(ENDED):
            for page in self._pages(self._layout.status(status)):
                if sent_at(page[0]) > latest:
                    break
                found = self.records(page)
                yield from (job for job in found.values() if retention.is_expired(job, at))

    def expire(self, job_id: str, retention: Retention, at: datetime) -> bool:
        """Forget a job if it has expired; False when it has not, or no longer: it may be tried once more."""
        with availability():
            while (raw := self._redis.get(self._layout.record(job_id))) is not None:
                job = Job.model_validate_json(raw)
                if not retention.is_expired(job, at):
                    return False
                moves.check_deletable(job)
                if self._redis.eval(*self._layout.delete(raw, job)):
                    return True
        return False

    def forget_strays(self) -> int:
        """Remove keys and entries of jobs that have no record; how many there were."""
        with availability():
            found = {*self._named_by_keys(), *self._named_by_sets()}
            return sum(int(self._redis.eval(*self._forget(job_id))) for job_id in self._unknown(found))

    def count(self, **counts: int) -> None:
        """Count what was cleaned, for the metrics."""
        with availability():
            for name, number in counts.items():
                if number:
                    self._redis.hincrby(self._layout.counters, f"cleaned:{name}", number)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    def _pages(self, index: str) -> Iterator[list[str]]:
        """The ids of an index, oldest first, of which some may go while it is read."""
        after = "-"
        while True:
            with availability():
                page = list(self._redis.zrangebylex(index, after, "+", 0, _PAGE))
            if not page:
                return
            yield page
            after = f"({page[-1]}"

    def _unknown(self, job_ids: Iterable[str]) -> set[str]:
        """Those of the ids that have no record."""
        ids = list(job_ids)
        unknown: set[str] = set()
        for start in range(0, len(ids), _PAGE):
            page = ids[start : start + _PAGE]
            pipe = self._redis.pipeline(transaction=False)
            for job_id in page:
                pipe.exists(self._layout.record(job_id))
            unknown |= {i for i, there in zip(page, pipe.execute(), strict=True) if not there}
        return unknown

    def _named_by_keys(self) -> Iterator[str]:
        for start in (self._layout.events(""), self._layout.webhook("")):
            for key in self._redis.scan_iter(match=f"{_literally(start)}*", count=1000):
                yield key.removeprefix(start)

    def _named_by_sets(self) -> Iterator[str]:
        for index in self._indexes():
            for page in self._pages(index):
                yield from page
        yield from self._redis.hkeys(self._layout.owners)

    def _indexes(self) -> list[str]:
        return [self._layout.jobs, *(self._layout.status(status) for status in Status)]

    def _forget(self, job_id: str) -> Call:
        keys = (
            self._layout.record(job_id),
            self._layout.events(job_id),
            self._layout.webhook(job_id),
            self._layout.owners,
            *self._indexes(),
            self._layout.leases,
            *(self._layout.waiting(gpu) for gpu in (False, True)),
        )
        return Call(_FORGET, keys, (job_id,))


def _literally(text: str) -> str:
    """A prefix as a pattern of SCAN that means itself."""
    return "".join(f"\\{c}" if c in "*?[]\\^-" else c for c in text)
