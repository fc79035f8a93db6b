"""Structured logs of every process: one JSON object a line on stderr, or columns for people on a terminal.

A line that is about a job has its `job_id`, its `attempt` and the `request_id` of the request that sent it:
whoever works on a job binds them, for its own thread.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Any, Literal

import structlog

from jobs.record import Job

Format = Literal["auto", "json", "text"]


@contextlib.contextmanager
def about(job: Job) -> Iterator[None]:
    """Every line that this thread logs until the block ends says which job it is about."""
    bound = {"job_id": job.id, "attempt": job.attempt}
    if job.request_id is not None:
        bound["request_id"] = job.request_id
    with structlog.contextvars.bound_contextvars(**bound):
        yield


def configure(level: int = logging.INFO, form: Format = "auto") -> None:
    """Send structlog's and the standard library's records the same way; call once per process.

    Args:
        level: the least level that is logged.
        form: "json", "text", or "auto": text on a terminal, JSON elsewhere.
    """
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    terminal = sys.stderr.isatty()
    text = terminal if form == "auto" else form == "text"
    renderer = structlog.dev.ConsoleRenderer(colors=terminal) if text else structlog.processors.JSONRenderer()
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
    # python-multipart warns of every malformed body; the answer says so already.
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
