"""What lies where in Redis, and how scripts are called; shared by the two stores.

Under the prefix: `job:<id>` the record as JSON; `jobs` every id and `status:<status>` the ids in that state
(sorted sets with equal scores: ids sort by time, so order and paging are lexical); `waiting:any` and
`waiting:gpu` the queued ones in the order in which they are taken (score: priority); `events:<id>` the job's
stream; `owners` job -> attempt and worker that runs it, `leases` job -> when that ends unless it is renewed;
`workers` the living workers; `totals` counters for metrics.
`keys` the API keys; `key:<id>:jobs`, `key:<id>:status:<status>` and `key:<id>:active` the jobs of one;
`stored` the bytes that each has stored; `claim:<name>` requests with an Idempotency-Key. `webhook:<id>` the
secret of the job's webhook and its messages as JSON; `webhooks` the messages that are yet to be sent, as
`<job>/<message>`, by the time when they are due.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.conditions import ANY, CLAIM_SECONDS, Claim, Conditions
from jobs.errors import EventIdError
from jobs.figures import figures_of
from jobs.moves import Change, Event
from jobs.record import ENDED, HELD, PRIORITIES, Job, Status

_FOLDER = Path(__file__).parent
_OWNED = (_FOLDER / "owned.lua").read_text()
COMMIT = _OWNED + (_FOLDER / "commit.lua").read_text()
DELETE = _OWNED + (_FOLDER / "delete.lua").read_text()
_CLAIM = (_FOLDER / "claim.lua").read_text()
_RESERVE = (_FOLDER / "reserve.lua").read_text()
_ADMIT = (_FOLDER / "admit.lua").read_text()
WORKERS = (_FOLDER / "workers.lua").read_text()
RENEW = (_FOLDER / "renew.lua").read_text()
LAPSED = (_FOLDER / "lapsed.lua").read_text()
_EVENT_ID = re.compile(r"[0-9]{1,20}(-[0-9]{1,20})?")


@dataclass(frozen=True)
class StoredEvent:
    """An event of a job with its place in the job's stream, which is also its id in Server-Sent Events."""

    id: str
    event: Event

    @property
    def is_end(self) -> bool:
        """Whether the job ended with this event; a failed or cancelled one may have been tried again."""
        return self.event.get("type") == "status" and self.event.get("status") in ENDED


@dataclass(frozen=True)
class Call:
    """A script with what it is given."""

    script: str
    keys: tuple[str, ...]
    args: tuple[str, ...]

    def __iter__(self) -> Any:
        """In the order of `EVAL`."""
        return iter((self.script, len(self.keys), *self.keys, *self.args))


@dataclass(frozen=True)
class Layout:
    """Names of keys under a prefix."""

    prefix: str
    events_per_job: int

    @property
    def jobs(self) -> str:
        """Every job's id."""
        return f"{self.prefix}jobs"

    @property
    def owners(self) -> str:
        """Job -> attempt and worker."""
        return f"{self.prefix}owners"

    @property
    def leases(self) -> str:
        """Jobs that a worker has, by when their lease runs out."""
        return f"{self.prefix}leases"

    @property
    def workers(self) -> str:
        """Living workers."""
        return f"{self.prefix}workers"

    @property
    def totals(self) -> str:
        """Counters."""
        return f"{self.prefix}totals"

    @property
    def webhooks(self) -> str:
        """The messages that are yet to be sent."""
        return f"{self.prefix}webhooks"

    @property
    def counters(self) -> str:
        """What has been counted beside the outcomes of jobs: `webhook:delivered` and so on."""
        return f"{self.prefix}counters"

    @property
    def channel(self) -> str:
        """Where the id of every job that changed is called out."""
        return f"{self.prefix}changes"

    @property
    def keys(self) -> str:
        """Key -> its record."""
        return f"{self.prefix}keys"

    @property
    def keys_used(self) -> str:
        """Key -> when it was last used."""
        return f"{self.prefix}keys:used"

    def record(self, job_id: str) -> str:
        """A job's record."""
        return f"{self.prefix}job:{job_id}"

    def status(self, status: Status) -> str:
        """The ids in a state."""
        return f"{self.prefix}status:{status.value}"

    def index(self, status: Status | None, owner: str | None = None) -> str:
        """The ids in a state, or all; of an owner, or everybody's."""
        if owner is not None:
            return self.key_jobs(owner) if status is None else self.key_status(owner, status)
        return self.jobs if status is None else self.status(status)

    def key_jobs(self, key_id: str) -> str:
        """The ids of a key's jobs."""
        return f"{self.prefix}key:{key_id}:jobs"

    def key_status(self, key_id: str, status: Status) -> str:
        """The ids of a key's jobs in a state."""
        return f"{self.prefix}key:{key_id}:status:{status.value}"

    def key_active(self, key_id: str) -> str:
        """The ids of a key's jobs that have not ended."""
        return f"{self.prefix}key:{key_id}:active"

    @property
    def stored(self) -> str:
        """Key -> bytes of its jobs' files."""
        return f"{self.prefix}stored"

    def claim(self, name: str) -> str:
        """What became of a request with an Idempotency-Key."""
        return f"{self.prefix}claim:{name}"

    def events(self, job_id: str) -> str:
        """A job's stream."""
        return f"{self.prefix}events:{job_id}"

    def webhook(self, job_id: str) -> str:
        """A job's webhook."""
        return f"{self.prefix}webhook:{job_id}"

    def waiting(self, gpu: bool) -> str:
        """The queued jobs, first those that are taken first: that need a GPU, or that any worker may take."""
        return f"{self.prefix}waiting:{'gpu' if gpu else 'any'}"

    def commit(
        self,
        raw: str,
        old: Job | None,
        change: Change,
        conditions: Conditions = ANY,
        lease: float = 0.0,
    ) -> Call:
        """The call that puts `change` in place of the record `raw`, where `conditions` hold.

        A job that is taken is leased for `lease` seconds.
        """
        job = change.job
        keys = (
            self.record(job.id),
            self.jobs,
            self.status(old.status if old else job.status),
            self.status(job.status),
            self.events(job.id),
            self.totals,
            self.owners,
            self.webhook(job.id),
            self.webhooks,
            self.leases,
            self.waiting(job.needs_gpu),
        )
        args = [raw, signed(job), job.id, str(self.events_per_job)]
        args += [_lease(old, change, lease), self.channel, change.secret or ""]
        totals = (*change.totals, *figures_of(old, change))
        args += [str(len(totals)), *totals]
        args.append(str(len(change.messages)))
        for message in change.messages:
            args += [message.id, message.model_dump_json()]
        for event in change.events:
            args += [str(event["type"]), json.dumps(event, separators=(",", ":"))]
        more, own = self._owned(old, job, job.stored_bytes - (old.stored_bytes if old else 0), conditions)
        return Call(COMMIT, (*keys, *more), (*args, own))

    def delete(self, raw: str, job: Job) -> Call:
        """The call that forgets a job."""
        keys = (
            self.record(job.id),
            self.jobs,
            self.status(job.status),
            self.events(job.id),
            self.owners,
            self.webhook(job.id),
            self.leases,
            self.waiting(job.needs_gpu),
        )
        more, own = self._owned(job, job, -job.stored_bytes, ANY)
        return Call(DELETE, (*keys, *more), (raw, job.id, self.channel, own))

    def _owned(
        self, old: Job | None, job: Job, more_bytes: int, conditions: Conditions
    ) -> tuple[tuple[str, ...], str]:
        """The keys and the argument of `owned.lua`."""
        key_id, claim = job.owner or "", conditions.claim
        keys = (
            self.key_jobs(key_id),
            self.key_status(key_id, old.status if old else job.status),
            self.key_status(key_id, job.status),
            self.key_active(key_id),
            self.stored,
            self.claim(claim.name if claim else ""),
        )
        own: dict[str, Any] = {
            "owner": key_id,
            "id": job.id,
            "bytes": str(more_bytes),
            "ended": job.status in ENDED,
            "active": conditions.active_jobs,
        }
        if claim is not None:
            done = json.dumps({"fingerprint": claim.fingerprint, "job_id": job.id})
            own["claim"] = {"running": claim.running, "done": done, "seconds": CLAIM_SECONDS}
        return keys, json.dumps(own)

    def admit(self, key_id: str, requests: int, limit: int, job_ids: Iterable[str]) -> Call:
        """The call that lets requests of a key in."""
        keys = (self.keys, self.keys_used, f"{self.prefix}rate:{key_id}", self.key_jobs(key_id))
        return Call(_ADMIT, keys, (key_id, str(requests), str(limit), *job_ids))

    def keep_claim(self, claim: Claim, seconds: float) -> Call:
        """The call that keeps a claim for some time, or gives it up."""
        return Call(_CLAIM, (self.claim(claim.name),), (claim.running, str(int(seconds * 1000))))

    def reserve(self, key_id: str, upload: str, size: int, limit: int, seconds: int) -> Call:
        """The call that keeps room for an upload of a key."""
        keys = (self.stored, f"{self.prefix}key:{key_id}:uploads")
        return Call(_RESERVE, keys, (key_id, upload, str(size), str(limit), str(seconds)))

    def renew(self, job: Job, seconds: float) -> Call:
        """The call that renews a run's lease."""
        return Call(RENEW, (self.owners, self.leases), (job.id, fencing_token(job), repr(seconds)))

    def lapsed(self) -> Call:
        """The call that finds the leases that have run out."""
        return Call(LAPSED, (self.leases,), ())

    def sandbox(self, worker_id: str) -> str:
        """The key of what a worker's models run in."""
        return f"{self.prefix}sandbox:{worker_id}"

    def alive(self, worker_id: str = "", seconds: float = 0.0) -> Call:
        """The call that notes a living worker (or only asks)."""
        return Call(WORKERS, (self.workers,), (worker_id, repr(seconds)))


def fencing_token(job: Job) -> str:
    """Whose the job is: the attempt, which never comes again, and the worker; "" when it is nobody's."""
    return f"{job.attempt} {job.lease.owner}" if job.lease is not None else ""


def _lease(old: Job | None, change: Change, seconds: float) -> str:
    """What becomes of the job's lease and of its place among the waiting, as `commit.lua` reads it."""
    job = change.job
    if job.status not in HELD:
        what = "lapsed" if change.if_lapsed else "drop"
    else:
        what = "take" if old is None or old.lease is None else "keep"
    place = PRIORITIES.index(job.priority) if job.status is Status.QUEUED else ""
    return json.dumps({"what": what, "owner": fencing_token(job), "seconds": seconds, "place": place})


def signed(job: Job) -> str:
    """The record as JSON, with a key `write` that no other write has.

    So a write that is repeated after a lost answer is known again, and two that say the same are still two.
    """
    return f'{{"write":"{secrets.token_hex(8)}",{job.model_dump_json()[1:]}'


def since(after: str | None) -> str:
    """The start of a range of events: all, or those after an id.

    Raises:
        EventIdError: `after` is no event id.
    """
    if after is None or after == "":
        return "-"
    if not _EVENT_ID.fullmatch(after) or any(int(part) >= 2**64 for part in after.split("-")):
        raise EventIdError(
            f"'{after[:40]}' is no event id; use the id of an event of this job", param="after"
        )
    return f"({after}"


def read_events(entries: list[tuple[str, dict[str, str]]]) -> list[StoredEvent]:
    """Entries of a stream as events."""
    return [StoredEvent(entry_id, json.loads(fields["json"])) for entry_id, fields in entries]
