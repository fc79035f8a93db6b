"""The one task, and what lives as long as the worker that answers it."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from dataclasses import dataclass, field
from typing import Any

from celery.exceptions import WorkerShutdown
from celery.signals import worker_ready, worker_shutdown, worker_shutting_down

from jobs import tracing
from jobs.artifacts import ArtifactStore
from jobs.doorbell import TASK, Doorbell
from jobs.outgoing import Outgoing
from jobs.sandbox.choice import sandbox_of
from jobs.scratch import Scratch
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.sweeper import Sweeper
from jobs.webhooks.outbox import Outbox
from prune_engine.errors import PruneError
from worker.app import app, settings
from worker.cleaner import Cleaner
from worker.heartbeat import Heartbeat
from worker.postman import Postman
from worker.room import Room
from worker.supervisor import Supervisor

_LOOKED_AT = 20  # jobs at the head of a queue, for one that there is room for


@dataclass
class _Worker:
    """What a worker process holds from its start to its end."""

    settings: Settings
    stop: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        worker_id = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        log.info("models run in this sandbox: %s", sandbox_of(self.settings).description)
        self.store = JobStore(self.settings)
        self.doorbell = Doorbell(self.settings)
        self.scratch = Scratch(self.settings.scratch, worker_id)
        artifacts = ArtifactStore(self.settings)
        self.supervisor = Supervisor(self.settings, self.store, artifacts, self.scratch, worker_id, self.stop)
        self.cleaner = Cleaner(self.settings, artifacts, worker_id)
        self.room = Room(self.settings, self.store, worker_id)
        self.outbox = Outbox(self.settings)
        self.postman = Postman(self.settings, self.outbox, Outgoing(self.settings))
        self.heartbeat = Heartbeat(
            self.settings,
            self.store,
            Sweeper(self.settings, self.store, self.doorbell),
            worker_id,
            lambda: self.supervisor.busy,
        )

    def answer(self, queue: str) -> None:
        """Do the job that is next in a queue, whatever job the message was sent for; ring for the one after.

        So a message stands for one turn and not for one job: urgent jobs overtake, and when messages are
        lost no job waits longer than those that came after it.
        """
        tried: set[str] = set()
        while (job_id := self._next(queue)) is not None and not self.stop.is_set():
            if self.supervisor.run(job_id) or job_id in tried:
                break
            tried.add(job_id)
        if (after := self._next(queue)) is not None:
            self.doorbell.ring(after, gpu=queue == self.doorbell.queue(gpu=True))
        self.supervisor.rest()

    def _next(self, queue: str) -> str | None:
        """The first in a queue that this machine has room for; the others stay there."""
        for gpu in (True, False):
            if self.doorbell.queue(gpu) == queue:
                for job_id in self.store.waiting(gpu, _LOOKED_AT):
                    if not self.room.lacks(job_id):
                        return job_id
        return None

    def close(self) -> None:
        """Say goodbye and leave nothing behind."""
        self.heartbeat.stop()
        self.postman.stop()
        self.cleaner.stop()
        self.outbox.close()
        self.scratch.close()
        self.doorbell.close()
        self.store.close()


log = logging.getLogger(__name__)
_here: list[_Worker] = []


def run_job(task: Any, job_id: str) -> None:
    """A message came: somebody waits in the queue that it came from."""
    queue = task.request.delivery_info["routing_key"]
    log.debug("a message for %s in %s", job_id, queue)
    _here[0].answer(queue)


app.task(name=TASK, ignore_result=True, bind=True)(run_job)


def _begin(**_: Any) -> None:
    if _here:
        return  # ready again, after a lost connection
    try:
        tracing.start(settings, "prunery-worker")
        worker = _Worker(settings)
        worker.heartbeat.start()
        worker.cleaner.start()
        if settings.webhooks:
            worker.postman.start()
    except (PruneError, OSError) as error:
        log.exception("the worker cannot work")
        raise WorkerShutdown(str(error)) from error
    _here.append(worker)


def _stop(**_: Any) -> None:
    for worker in _here:
        worker.stop.set()
        worker.postman.halt()
        worker.cleaner.halt()


def _end(**_: Any) -> None:
    while _here:
        _here.pop().close()
    tracing.close()


worker_ready.connect(_begin)
worker_shutting_down.connect(_stop)
worker_shutdown.connect(_end)
