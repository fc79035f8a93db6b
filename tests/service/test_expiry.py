"""Clients are told when a job that has ended is going to be deleted."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from jobs.record import JobError, JobResult
from jobs.settings import Settings
from jobs.store import JobStore
from tests.service.conftest import running


@pytest.mark.parametrize(
    ("keep", "days"), [({}, None), ({"keep_days": 30.0, "keep_failed_days": 2.0}, (30, 2))]
)
def test_every_answer_says_when_an_ended_job_expires(
    settings: Settings, store: JobStore, keep: dict[str, float], days: tuple[int, int] | None
) -> None:
    with running(settings.model_copy(update=keep)) as api:
        ids = [api.submit().json()["id"] for _ in range(3)]
        for job_id in ids[:2]:
            store.start(job_id, "worker-1")
        store.succeed(ids[0], JobResult(density=0.5, metrics={}, artifacts=[]))
        store.fail(ids[1], JobError(code="engine_failed", message="it failed"))
        listed = {job["id"]: job for job in api.client.get("/jobs").json()["data"]}
        for place, job_id in enumerate(ids):
            for answer in (api.client.get(f"/jobs/{job_id}").json(), listed[job_id]):
                if days is None or place == 2:
                    assert answer["expires_at"] is None
                else:
                    kept = timedelta(days=days[place])
                    ended = datetime.fromisoformat(answer["finished_at"])
                    assert datetime.fromisoformat(answer["expires_at"]) == ended + kept
