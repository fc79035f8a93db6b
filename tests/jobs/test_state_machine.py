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
from jobs.record import ENDED, TRANSITIONS, Job, JobError, JobResult, Status
from jobs.settings import Settings
from jobs.store import JobStore
from prune_engine.events import Progress
from tests.stores import a_job

RESULT = JobResult(density=0.1, metrics={}, artifacts=[])
ERROR = JobError(code="engine_failed", message="no")
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
        only_from: Status | None = None,
    ) -> None:
        """Call a verb; it must be done or refused just as the table says."""
        now = self.known[job_id][-1]
        allowed = to in TRANSITIONS[now] and (only_from is None or now is only_from)
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
        job = a_job()
        self.store.create(job)
        self.known[job.id] = [Status.QUEUED]
        self.attempts[job.id] = 0

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
        self.attempt(lambda: self.store.fail(job_id, ERROR, attempt=attempt), job_id, Status.FAILED, attempt)

    @precondition(lambda self: self.known)
    @rule(number=PICK, attempt=ATTEMPT)
    def cancelled(self, number: int, attempt: int | None) -> None:
        job_id = self.pick(number)
        self.attempt(
            lambda: self.store.cancelled(job_id, attempt=attempt),
            job_id,
            Status.CANCELLED,
            attempt,
            only_from=Status.CANCELLING,
        )

    @precondition(lambda self: self.known)
    @rule(number=PICK)
    def request_cancel(self, number: int) -> None:
        job_id = self.pick(number)
        now = self.known[job_id][-1]
        if now in (Status.CANCELLING, Status.CANCELLED):
            assert self.store.request_cancel(job_id).status is now
            return
        to = Status.CANCELLED if now is Status.QUEUED else Status.CANCELLING
        self.attempt(lambda: self.store.request_cancel(job_id), job_id, to, None)

    @precondition(lambda self: self.known)
    @rule(number=PICK, attempt=ATTEMPT, fraction=st.floats(0, 1))
    def update(self, number: int, attempt: int | None, fraction: float) -> None:
        job_id = self.pick(number)
        running = self.known[job_id][-1] in (Status.RUNNING, Status.CANCELLING)
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
        assert [self.store.queue_position(i) for i in queued] == list(range(len(queued)))

    @invariant()
    def the_stream_tells_every_move(self) -> None:
        for job_id, states in self.known.items():
            told = [s.event["status"] for s in self.store.events(job_id) if s.event["type"] == "status"]
            assert told == [state.value for state in states]

    @invariant()
    def orphans_are_what_runs_without_a_worker(self) -> None:
        running = {i for i, s in self.known.items() if s[-1] in (Status.RUNNING, Status.CANCELLING)}
        assert {job.id for job in self.store.orphans()} == running


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
