"""The doorbell: a Celery message that carries a job's id and nothing else, sent without the worker's code.

The record is the truth, and says who is next: a message only says that somebody waits in its queue. One that
comes twice finds nothing to do, or the next job; one that gets lost is made good for by `jobs.sweeper`.
"""

from __future__ import annotations

import logging
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from jobs.errors import StoreUnavailableError
from jobs.settings import Settings

if TYPE_CHECKING:
    from celery import Celery

log = logging.getLogger(__name__)
TASK = "prunery.run_job"


def celery_options(settings: Settings) -> dict[str, Any]:
    """Celery's settings, the same for those who ring and those who answer; each was measured to be right.

    Early ack, because a late one runs a job of hours twice after a lost connection; no prefetching, because a
    message that waits in a busy worker's hands keeps the job from a free one.
    """
    url = settings.require_redis_url()
    return {
        # Redis clients say unix://, Celery says redis+socket://.
        "broker_url": url.replace("unix://", "redis+socket://", 1) if url.startswith("unix://") else url,
        "broker_connection_retry_on_startup": True,
        "broker_transport_options": {
            "global_keyprefix": settings.redis_prefix,
            "health_check_interval": 25,
            **({} if url.startswith("unix://") else {"socket_keepalive": True}),
        },
        "task_default_queue": settings.queue,
        "task_ignore_result": True,
        "task_acks_late": False,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_publish_retry_policy": {"max_retries": 3, "interval_step": 0.2, "interval_max": 1.0},
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        "worker_hijack_root_logger": False,
        "worker_enable_remote_control": False,
        # Celery would take any certificate where the URL says nothing of them.
        **({"broker_use_ssl": {"ssl_cert_reqs": ssl.CERT_REQUIRED}} if _tells_no_tls(url) else {}),
    }


def _tells_no_tls(url: str) -> bool:
    """Whether a URL asks for TLS and leaves its options at their defaults."""
    parts = urlsplit(url)
    return parts.scheme == "rediss" and not any(name.startswith("ssl_") for name in parse_qs(parts.query))


class Doorbell:
    """Rings for jobs. Thread-safe; keeps a small pool of connections."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._celery: Celery | None = None

    def ring(self, job_id: str, *, gpu: bool = False) -> None:
        """Tell the workers of a queued job; only those with a GPU where it needs one. Blocks for some ms.

        Raises:
            StoreUnavailableError: the broker does not answer.
        """
        queue = self.queue(gpu)
        app = self._app()
        from kombu.exceptions import OperationalError

        try:
            app.send_task(TASK, args=[job_id], queue=queue)
        except OperationalError as error:
            raise StoreUnavailableError(
                f"the queue does not answer ({error}); check REDIS_URL and the server"
            ) from error

    def queue(self, gpu: bool) -> str:
        """The queue of the jobs that need a GPU, or that any worker may take."""
        return self._settings.gpu_queue if gpu else self._settings.queue

    def close(self) -> None:
        """Close the connections."""
        if self._celery is not None:
            self._celery.close()
            self._celery = None

    def _app(self) -> Celery:
        if self._celery is None:
            from celery import Celery  # on first use: importing it takes longer than the rest of the API

            app = Celery("prunery", set_as_current=False)
            app.conf.update(celery_options(self._settings))
            self._celery = app
        return self._celery
