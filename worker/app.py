"""The Celery application: `celery -A worker.app:app worker`, or `python -m worker`.

The pool is `solo`: the task runs in the worker's main thread and only watches over a child process, so
there is nothing to gain from a pool. A signal to stop reaches the task at once, the kernel ends the child
with the worker (the thread that started it lives as long as the worker), and no message waits in a busy
worker's hands. What solo cannot do, revoking and terminating tasks, is not used: a cancel goes through the
job's record. While a job runs, the worker does not answer Celery's remote control; `worker.heartbeat` says
that it lives.
"""

from __future__ import annotations

import logging
from typing import Any

from celery import Celery
from celery.signals import setup_logging
from kombu.entity import Exchange, Queue

from jobs import logs
from jobs.doorbell import celery_options
from jobs.reading_settings import read_settings

settings = read_settings()
app = Celery("prunery", include=["worker.tasks"])
app.conf.update(
    celery_options(settings),
    # Each with its own exchange and key: on the default ones every queue would get every message.
    task_queues=[Queue(name, Exchange(name), routing_key=name) for name in settings.queues],  # type: ignore[no-untyped-call]
    worker_pool="solo",
    worker_concurrency=1,
    broker_connection_max_retries=None,
)


@setup_logging.connect  # type: ignore[untyped-decorator]
def _configure_logs(**_: Any) -> None:
    """Ours instead of Celery's."""
    logs.configure(logging.INFO, settings.log_format)
