"""Every process logs the same way, and says which job a line is about."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from jobs import logs
from tests.stores import a_job

log = logging.getLogger("worker.supervisor")


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)


def test_a_line_about_a_job_has_its_id_and_its_request(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(logging.INFO, "json")
    job = a_job(request_id="req_1", attempt=2)
    with logs.about(job):
        log.info("%s: %s", job.id, "attempt begins")
    log.info("idle")
    first, second = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (first["job_id"], first["request_id"], first["attempt"]) == (job.id, "req_1", 2)
    assert first["logger"] == "worker.supervisor"
    assert first["event"].endswith("attempt begins")
    assert "job_id" not in second


def test_text_is_for_people_and_auto_asks_whether_there_is_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.configure(logging.INFO, "text")
    log.info("hello")
    assert not capsys.readouterr().err.startswith("{")
    logs.configure(logging.INFO)
    log.info("hello")
    assert json.loads(capsys.readouterr().err)["event"] == "hello"
