"""Messages go to a real TLS server and are verified there with the library that receivers use."""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks

from jobs.outgoing import Outgoing
from jobs.record import Job, Status, Webhook
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.webhooks.message import Message, State
from jobs.webhooks.outbox import Outbox
from tests.jobs.webhooks.hooked import SECRET, ended
from tests.receivers import LOOPBACK, Receiver
from tests.worker.test_process import Farm, farm  # noqa: F401
from worker.postman import Postman

Eventually = Callable[..., None]
TOKEN = "very-secret-path"


class Office:
    """A postman with a receiver, one pace at a time."""

    def __init__(self, settings: Settings, ca_file: Path, receiver: Receiver, store: JobStore) -> None:
        self.settings = settings.model_copy(
            update={
                "outgoing_networks": (LOOPBACK,),
                "outgoing_ca_file": ca_file,
                "outgoing_seconds": 5.0,
                "webhook_retry_seconds": (0.0, 0.1, 0.1),
                "webhooks": True,
            }
        )
        self.receiver = receiver
        self.url = f"https://127.0.0.1:{receiver.port}/{TOKEN}"
        self.store = store
        self.outbox = Outbox(self.settings)

    def postman(self, **settings: Any) -> Postman:
        chosen = self.settings.model_copy(update=settings)
        return Postman(chosen, self.outbox, Outgoing(chosen))

    def send(self, **settings: Any) -> int:
        """Deliver all that is due, once."""
        claimed = self.outbox.claim(100, 60)
        for one in claimed:
            self.postman(**settings).deliver(one)
        return len(claimed)

    def message(self, job: Job) -> Message:
        fields = self.store._redis.hgetall(self.store._layout.webhook(job.id))
        (raw,) = [raw for name, raw in fields.items() if name.startswith("msg_")]
        return Message.model_validate_json(raw)


@pytest.fixture
def office(settings: Settings, ca_file: Path, receiver: Receiver, store: JobStore) -> Iterator[Office]:
    opened = Office(settings, ca_file, receiver, store)
    yield opened
    opened.outbox.close()


def verified(receiver: Receiver) -> list[dict[str, Any]]:
    return [
        standardwebhooks.Webhook(SECRET).verify(request.body, request.headers)
        for request in receiver.requests
    ]


def test_a_message_is_delivered_signed(office: Office) -> None:
    job = ended(office.store, office.url)
    assert office.send() == 1
    (told,) = verified(office.receiver)
    assert told["type"] == "job.succeeded"
    assert told["data"]["id"] == job.id
    message = office.message(job)
    (request,) = office.receiver.requests
    assert request.line == f"POST /{TOKEN} HTTP/1.1"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-id"] == message.id
    assert message.state is State.DELIVERED
    assert [(attempt.status, attempt.error) for attempt in message.attempts] == [(204, None)]
    assert office.send() == 0


@pytest.mark.parametrize("status", [200, 202, 299])
def test_any_2xx_is_delivered(office: Office, status: int) -> None:
    office.receiver.answers(status)
    job = ended(office.store, office.url)
    office.send()
    assert office.message(job).state is State.DELIVERED


@pytest.mark.parametrize("status", [301, 302, 400, 404, 429, 500, 503])
def test_any_other_answer_is_tried_again(office: Office, status: int) -> None:
    office.receiver.answers(status, headers="Location: https://127.0.0.1/elsewhere\r\n")
    job = ended(office.store, office.url)
    office.send()
    message = office.message(job)
    assert message.state is State.PENDING
    assert message.next_attempt_at is not None
    assert str(status) in str(message.attempts[0].error)
    assert len(office.receiver.requests) == 1


def test_every_attempt_has_the_same_id_and_body_and_a_signature_of_its_own_time(
    office: Office, eventually: Eventually
) -> None:
    office.receiver.answers(500, 503, 204)
    job = ended(office.store, office.url)
    eventually(lambda: office.send() and office.message(job).state is State.DELIVERED)
    assert [attempt.status for attempt in office.message(job).attempts] == [500, 503, 204]
    requests = office.receiver.requests
    assert (
        len({request.body for request in requests}) == len({r.headers["webhook-id"] for r in requests}) == 1
    )
    assert len(verified(office.receiver)) == 3


def test_after_the_last_attempt_it_has_failed(office: Office, eventually: Eventually) -> None:
    office.receiver.answers(500)
    job = ended(office.store, office.url)
    eventually(lambda: office.send() and office.message(job).state is State.FAILED)
    assert len(office.message(job).attempts) == len(office.receiver.requests) == 3
    assert office.message(job).next_attempt_at is None
    time.sleep(0.3)
    assert office.send() == 0


def test_410_ends_it_for_every_message_of_the_job(office: Office) -> None:
    office.receiver.answers(410)
    hook = Webhook(url=office.url, events=("job.started", "job.succeeded"))
    ended(office.store, hook.url, events=hook.events)
    claimed = office.outbox.claim(1, 60)
    office.postman().deliver(claimed[0])
    office.send()
    assert len(office.receiver.requests) == 1
    assert office.send() == 0


def test_an_address_that_is_refused_is_written_down_and_nothing_sent(office: Office) -> None:
    job = ended(office.store, office.url)
    office.send(outgoing_networks=())
    (attempt,) = office.message(job).attempts
    assert (attempt.status, office.receiver.requests) == (None, [])
    assert "open internet" in str(attempt.error)


def test_the_log_has_neither_the_secret_nor_the_address(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    office.receiver.answers(500, 204)
    for _ in range(2):
        ended(office.store, office.url)
    office.send()
    assert "delivered" in caplog.text
    for word in (SECRET, SECRET.removeprefix("whsec_"), TOKEN):
        assert word not in caplog.text


def test_several_postmen_tell_everything_once(office: Office, eventually: Eventually) -> None:
    jobs = [ended(office.store, office.url) for _ in range(12)]
    postmen = [office.postman() for _ in range(3)]
    for postman in postmen:
        postman.start()
    eventually(lambda: all(office.message(job).state is State.DELIVERED for job in jobs), 30)
    for postman in postmen:
        postman.stop()
    assert sorted(told["data"]["id"] for told in verified(office.receiver)) == sorted(job.id for job in jobs)


def test_a_receiver_that_hangs_does_not_keep_the_worker_from_ending(
    office: Office, eventually: Eventually
) -> None:
    def hang(connection: socket.socket, _: bytes) -> None:
        connection.recv(1)

    office.receiver.behave = hang
    ended(office.store, office.url)
    postman = office.postman(outgoing_seconds=60.0)
    postman.start()
    eventually(lambda: office.receiver.requests)
    began = time.monotonic()
    postman.stop()
    assert time.monotonic() - began < 12


def test_a_host_that_hangs_does_not_keep_the_messages_of_others_waiting(
    office: Office, plain_receiver: Receiver, eventually: Eventually
) -> None:
    def hang(connection: socket.socket, _: bytes) -> None:
        connection.recv(1)

    office.receiver.behave = hang
    for _ in range(30):
        ended(office.store, office.url)
    other = ended(office.store, f"http://localhost:{plain_receiver.port}/")
    postman = office.postman(
        outgoing_seconds=30.0, outgoing_plain_hosts=("localhost",), outgoing_networks=(LOOPBACK, "::1/128")
    )
    postman.start()
    eventually(lambda: office.message(other).state is State.DELIVERED, 20)
    assert 1 <= len(office.receiver.requests) <= 2
    postman.stop()


def test_a_killed_worker_loses_no_message(office: Office, farm: Farm, eventually: Eventually) -> None:  # noqa: F811
    """The job ends while the receiver is away; the worker is killed; another one delivers."""
    office.receiver.answers(500)
    fields = {name: getattr(office.settings, name) for name in ("outgoing_networks", "outgoing_ca_file")}
    fields |= {"webhooks": True, "webhook_retry_seconds": (0.0, *[1.0] * 40)}
    first = farm.worker("good", **fields)
    job = farm.bench.submit(webhook=Webhook(url=office.url), secret=SECRET)
    farm.doorbell.ring(job.id)
    farm.wait_for(job, Status.SUCCEEDED)
    eventually(lambda: office.receiver.requests, 20)
    first.kill()
    first.wait()
    office.receiver.answers(204)
    told = len(office.receiver.requests)
    farm.worker("good", **fields)
    eventually(lambda: office.message(job).state is State.DELIVERED, 60)
    assert len(office.receiver.requests) == told + 1
    assert {json.loads(request.body)["data"]["id"] for request in office.receiver.requests} == {job.id}
    assert all(SECRET not in path.read_text() for path in farm.bench.folder.glob("*.log"))
