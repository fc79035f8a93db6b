"""The outbox: a message is in one pair of hands at a time, and in none for good."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import pytest

from jobs.errors import DeliveryBusyError, DeliveryNotFoundError
from jobs.record import now
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.webhooks.message import Attempt, Message, State
from jobs.webhooks.outbox import AsyncOutbox, Claimed, Outbox
from tests.jobs.webhooks.hooked import SECRET, ended

T = TypeVar("T")


@pytest.fixture
def outbox(settings: Settings) -> Iterator[Outbox]:
    opened = Outbox(settings)
    yield opened
    opened.close()


def asked(settings: Settings, ask: Callable[[AsyncOutbox], Awaitable[T]]) -> T:
    async def run() -> T:
        opened = AsyncOutbox(settings)
        try:
            return await ask(opened)
        finally:
            await opened.close()

    return asyncio.run(run())


def messages(settings: Settings, job_id: str) -> list[Message]:
    return asked(settings, lambda outbox: outbox.messages(job_id))


def failed(claimed: Claimed, state: State = State.PENDING) -> Message:
    return claimed.message.tried(Attempt(at=now(), seconds=0.1, status=500, error="500"), state, None)


def test_a_message_is_claimed_with_all_that_sending_it_needs(store: JobStore, outbox: Outbox) -> None:
    job = ended(store)
    (claimed,) = outbox.claim(10, 60)
    assert (claimed.job_id, claimed.secret, claimed.gone) == (job.id, SECRET, False)
    assert claimed.webhook == job.webhook
    assert claimed.message.type == "job.succeeded"


def test_a_claimed_message_is_nobody_else_s_until_the_claim_runs_out(store: JobStore, outbox: Outbox) -> None:
    ended(store)
    assert len(outbox.claim(10, 0.3)) == 1
    assert outbox.claim(10, 60) == []
    time.sleep(0.4)
    assert len(outbox.claim(10, 60)) == 1


def test_many_who_claim_at_once_get_every_message_once(store: JobStore, settings: Settings) -> None:
    jobs = {ended(store).id for _ in range(20)}
    taken: list[str] = []
    boxes = [Outbox(settings) for _ in range(4)]

    def take(outbox: Outbox) -> None:
        for _ in range(40):
            taken.extend(claimed.job_id for claimed in outbox.claim(2, 60))

    threads = [threading.Thread(target=take, args=(outbox,)) for outbox in boxes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for outbox in boxes:
        outbox.close()
    assert sorted(taken) == sorted(jobs)


def test_what_failed_is_due_again_when_its_time_has_come(
    store: JobStore, outbox: Outbox, settings: Settings
) -> None:
    job = ended(store)
    (claimed,) = outbox.claim(1, 60)
    assert outbox.settle(claimed, failed(claimed), 0.3, "failed")
    assert outbox.claim(1, 60) == []
    time.sleep(0.4)
    (again,) = outbox.claim(1, 60)
    assert (again.message.id, again.message.payload) == (claimed.message.id, claimed.message.payload)
    assert [attempt.status for attempt in messages(settings, job.id)[0].attempts] == [500]


def test_what_is_delivered_is_never_due_again(store: JobStore, outbox: Outbox, settings: Settings) -> None:
    job = ended(store)
    (claimed,) = outbox.claim(1, 0.05)
    done = claimed.message.tried(
        Attempt(at=now(), seconds=0.1, status=204, error=None), State.DELIVERED, None
    )
    assert outbox.settle(claimed, done, None, "delivered")
    assert outbox.settle(claimed, done, None, "delivered")  # its first answer was lost on the way
    time.sleep(0.1)
    assert outbox.claim(1, 60) == []
    assert messages(settings, job.id)[0].state is State.DELIVERED
    assert asked(settings, lambda outbox: outbox.waiting()) == 0
    assert store._redis.hgetall(store._layout.counters) == {"webhook:delivered": "1"}


def test_whoever_lost_the_claim_writes_nothing_down(
    store: JobStore, outbox: Outbox, settings: Settings
) -> None:
    job = ended(store)
    (slow,) = outbox.claim(1, 0.05)
    time.sleep(0.1)
    (quick,) = outbox.claim(1, 60)
    assert not outbox.settle(slow, failed(slow), 0.0, "failed")
    assert outbox.settle(quick, failed(quick, State.FAILED), None, "failed")
    assert len(messages(settings, job.id)[0].attempts) == 1


def test_a_deleted_job_is_not_told_of_any_more(store: JobStore, outbox: Outbox, settings: Settings) -> None:
    job = ended(store)
    store.delete(job.id)
    assert outbox.claim(1, 60) == []
    assert asked(settings, lambda outbox: outbox.waiting()) == 0


def test_a_receiver_that_wants_no_more_is_remembered_until_somebody_asks(
    store: JobStore, outbox: Outbox, settings: Settings
) -> None:
    job = ended(store, events=("job.started", "job.succeeded"))
    first, second = outbox.claim(2, 0.05)
    assert outbox.settle(first, failed(first, State.DROPPED), None, "dropped")
    time.sleep(0.1)
    (second,) = outbox.claim(2, 60)
    assert second.gone
    outbox.settle(second, failed(second, State.DROPPED), None, "dropped")
    again = asked(settings, lambda outbox: outbox.send_again(job.id, second.message.id))
    assert (again.state, again.tries) == (State.PENDING, 0)
    (claimed,) = outbox.claim(2, 60)
    assert (claimed.message.id, claimed.gone) == (second.message.id, False)


def test_what_is_being_sent_is_not_sent_again(store: JobStore, outbox: Outbox, settings: Settings) -> None:
    job = ended(store)
    (claimed,) = outbox.claim(1, 60)
    with pytest.raises(DeliveryBusyError):
        asked(settings, lambda outbox: outbox.send_again(job.id, claimed.message.id))


@pytest.mark.parametrize("name", ["msg_0", "secret", "gone", ""])
def test_only_messages_can_be_sent_again(store: JobStore, settings: Settings, name: str) -> None:
    job = ended(store)
    with pytest.raises(DeliveryNotFoundError):
        asked(settings, lambda outbox: outbox.send_again(job.id, name))


def test_the_secret_is_given_to_those_who_may_see_it(store: JobStore, settings: Settings) -> None:
    job = ended(store)
    assert asked(settings, lambda outbox: outbox.secret(job.id)) == SECRET
    assert asked(settings, lambda outbox: outbox.secret("job_none")) is None
