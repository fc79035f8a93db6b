"""The state machine, driven at random against the real store and compared with the table of moves."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from jobs.errors import InvalidTransitionError, JobNotFoundError
from jobs.record import ENDED, HELD, TRANSITIONS, Artifact, Job, JobError, JobResult, Status
from jobs.settings import Settings
from jobs.store import JobStore
from prune_engine.events import Progress
from tests.stores import a_job

LEFT = [Artifact(name="model.onnx", bytes=100, sha256="00" * 32)]
RESULT = JobResult(density=0.1, metrics={}, artifacts=LEFT)
ERROR = JobError(code="engine_failed", message="no")
OWNERS = ("ann", "bob")
PICK = st.integers(0, 10)
ATTEMPT = st.sampled_from([None, 0, 1, 2])


class Jobs(RuleBasedStateMachine):
    """Applies every verb to every job in every state; `known` is what must have come of it."""

    base: Settings  # set by the test

    def __init__(self) -> None:
        super().__init__()
        self.store = JobStore(Jobs.base.model_copy(update={"redis_prefix": f"t-{secrets.token_hex(6)}:"}))
        self.known: dict[str, list[Status]] = {}  # every state that the job was in
        self.attempts: dict[str, int] = {}
        self.failures: dict[str, int] = {}

    def teardown(self) -> None:
        self.store.close()

    def pick(self, number: int) -> str:
        ids = sorted(self.known)
        return ids[number % len(ids)]

    def attempt(
        self,
        verb: Callable[[], Job],
        job_id: str,
        to: Status,
        attempt: int | None,
        *,
        only_from: frozenset[Status] = frozenset(Status),
    ) -> None:
        """Call a verb; it must be done or refused just as the table says."""
        now = self.known[job_id][-1]
        allowed = to in TRANSITIONS[now] and now in only_from
        if attempt is not None and attempt != self.attempts[job_id]:
            allowed = False
        if not allowed:
            before = self.store.get(job_id)
            with pytest.raises(InvalidTransitionError):
                verb()
            assert self.store.get(job_id) == before
            return
        assert verb().status is to
        self.known[job_id].append(to)

    @precondition(lambda self: len(self.known) < 3)
    @rule()
    def create(self) -> None:
        job = a_job(owner=OWNERS[len(self.known) % 2])
        self.store.create(job)
        self.known[job.id] = [Status.QUEUED]
        self.attempts[job.id] = 0
        self.failures[job.id] = 0

    @precondition(lambda self: self.known)
    @rule(number=PICK)
    def start(self, number: int) -> None:
        job_id = self.pick(number)
        before = len(self.known[job_id])
        self.attempt(lambda: self.store.start(job_id, "worker-1"), job_id, Status.RUNNING, None)
        self.attempts[job_id] += len(self.known[job_id]) - before

    @precondition(lambda self: self.known)
    @rule(number=PICK, attempt=ATTEMPT)
    def succeed(self, number: int, attempt: int | None) -> None:
        job_id = self.pick(number)
        self.attempt(
            lambda: self.store.succeed(job_id, RESULT, attempt=attempt), job_id, Status.SUCCEEDED, attempt
        )

    @precondition(lambda self: self.known)
    @rule(number=PICK, attempt=ATTEMPT)
    def fail(self, number: int, attempt: int | None) -> None:
        job_id = self.pick(number)
        held = frozenset(Status) if attempt is None else HELD
        self.attempt(
            lambda: self.store.fail(job_id, ERROR, attempt=attempt),
            job_id,
            Status.FAILED,
            attempt,
            only_from=held,
        )

    @precondition(lambda self: self.known)
    @rule(number=PICK, attempt=ATTEMPT)
    def cancelled(self, number: int, attempt: int | None) -> None:
        job_id = self.pick(number)
        self.attempt(
            lambda: self.store.cancelled(job_id, attempt=attempt),
            job_id,
            Status.CANCELLED,
            attempt,
            only_from=frozenset({Status.CANCELLING}),
        )

    @precondition(lambda self: self.known)
    @rule(number=PICK, attempt=ATTEMPT, counts=st.booleans(), most=st.integers(1, 3))
    def give_back(self, number: int, attempt: int | None, counts: bool, most: int) -> None:
        job_id = self.pick(number)
        now = self.known[job_id][-1]
        failures = self.failures[job_id] + counts
        to = {Status.CANCELLING: Status.CANCELLED, Status.PAUSING: Status.PAUSED}.get(now, Status.QUEUED)
        if counts and failures >= most and now is not Status.CANCELLING:
            to = Status.FAILED
        before = len(self.known[job_id])
        self.attempt(
            lambda: self.store.give_back(
                job_id, ERROR, most_failures=most if counts else None, attempt=attempt
            ),
            job_id,
            to,
            attempt,
            only_from=HELD,
        )
        if len(self.known[job_id]) > before and to is not Status.CANCELLED:
            self.failures[job_id] = failures

    def ask(
        self, job_id: str, verb: Callable[[str], Job], table: dict[Status, Status], same: set[Status]
    ) -> None:
        """A client's request: done as the table says, no change where it is so already, else refused."""
        now = self.known[job_id][-1]
        if now in same:
            assert verb(job_id).status is now
        else:
            to = table.get(now, Status.RUNNING)
            self.attempt(lambda: verb(job_id), job_id, to, None, only_from=frozenset(table))

    @precondition(lambda self: self.known)
    @rule(number=PICK)
    def request_cancel(self, number: int) -> None:
        at_once = dict.fromkeys((Status.QUEUED, Status.PAUSED), Status.CANCELLED)
        later = dict.fromkeys((Status.RUNNING, Status.PAUSING), Status.CANCELLING)
        same = {Status.CANCELLING, Status.CANCELLED}
        self.ask(self.pick(number), self.store.request_cancel, at_once | later, same)

    @precondition(lambda self: self.known)
    @rule(number=PICK)
    def request_pause(self, number: int) -> None:
        table = {Status.QUEUED: Status.PAUSED, Status.RUNNING: Status.PAUSING}
        self.ask(self.pick(number), self.store.request_pause, table, {Status.PAUSING, Status.PAUSED})

    @precondition(lambda self: self.known)
    @rule(number=PICK)
    def resume(self, number: int) -> None:
        table = {Status.PAUSED: Status.QUEUED}
        self.ask(self.pick(number), self.store.resume, table, {Status.QUEUED, Status.RUNNING})

    @precondition(lambda self: self.known)
    @rule(number=PICK)
    def retry(self, number: int) -> None:
        job_id = self.pick(number)
        before = len(self.known[job_id])
        table = dict.fromkeys((Status.FAILED, Status.CANCELLED), Status.QUEUED)
        self.ask(job_id, self.store.retry, table, {Status.QUEUED, Status.RUNNING})
        if len(self.known[job_id]) > before:
            self.failures[job_id] = 0

    @precondition(lambda self: self.known)
    @rule(number=PICK, attempt=ATTEMPT, fraction=st.floats(0, 1))
    def update(self, number: int, attempt: int | None, fraction: float) -> None:
        job_id = self.pick(number)
        running = self.known[job_id][-1] in HELD
        if running and attempt in (None, self.attempts[job_id]):
            progress = Progress(fraction=fraction)
            self.store.update(job_id, "pruning", progress, attempt=attempt)
            assert self.store.get(job_id).progress == progress
        else:
            with pytest.raises(InvalidTransitionError):
                self.store.update(job_id, "pruning", Progress(fraction=fraction), attempt=attempt)

    @precondition(lambda self: self.known)
    @rule(number=PICK)
    def delete(self, number: int) -> None:
        job_id = self.pick(number)
        if self.known[job_id][-1] in ENDED:
            assert self.store.delete(job_id)
            del self.known[job_id]
            with pytest.raises(JobNotFoundError):
                self.store.get(job_id)
        else:
            with pytest.raises(InvalidTransitionError):
                self.store.delete(job_id)

    @invariant()
    def every_index_agrees_with_the_records(self) -> None:
        jobs, more = self.store.page(100)
        assert not more
        assert [job.id for job in jobs] == sorted(self.known, reverse=True)
        assert {job.id: job.status for job in jobs} == {i: s[-1] for i, s in self.known.items()}
        for status in Status:
            assert self.store.ids(status) == sorted(i for i, s in self.known.items() if s[-1] is status)
        queued = self.store.ids(Status.QUEUED)
        assert self.store.waiting(False, 100) == queued
        assert [self.store.queue_position(i) for i in queued] == list(range(len(queued)))

    @invariant()
    def every_owner_s_indexes_have_its_jobs_and_no_other(self) -> None:
        redis, layout = self.store._redis, self.store._layout
        jobs = self.store.page(100)[0]
        for owner in OWNERS:
            own = [job for job in jobs if job.owner == owner]
            assert self.store.page(100, owner=owner) == (own, False)
            for status in Status:
                in_it = [job for job in own if job.status is status]
                assert self.store.page(100, status=status, owner=owner) == (in_it, False)
            active = {job.id for job in own if job.status not in ENDED}
            assert set(redis.zrange(layout.key_active(owner), 0, -1)) == active
            stored = sum(job.stored_bytes for job in own)
            assert int(redis.hget(layout.stored, owner) or 0) == stored

    @invariant()
    def the_stream_tells_every_move(self) -> None:
        for job_id, states in self.known.items():
            told = [s.event["status"] for s in self.store.events(job_id) if s.event["type"] == "status"]
            assert told == [state.value for state in states]

    @invariant()
    def what_is_held_has_a_lease_and_nothing_else_has(self) -> None:
        held = {i for i, s in self.known.items() if s[-1] in HELD}
        assert set(self.store.held()) == held
        assert set(self.store._redis.zrange(self.store._layout.leases, 0, -1)) == held
        assert set(self.store._redis.hkeys(self.store._layout.owners)) == held
        jobs = self.store.page(100)[0]
        assert {job.id for job in jobs if job.lease is not None} == held
        assert {job.id: job.failures for job in jobs} == {i: self.failures[i] for i in self.known}


def test_no_sequence_of_calls_leaves_the_table_of_moves(settings_of_valkey: Settings) -> None:
    Jobs.base = settings_of_valkey
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Jobs,
        settings=settings(
            max_examples=50,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture
def settings_of_valkey(valkey_url: str) -> Settings:
    return Settings(_env_file=None, redis_url=valkey_url)
