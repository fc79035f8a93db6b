"""Jobs with a webhook that have something to tell."""

from __future__ import annotations

from jobs.record import Job, JobResult, Webhook
from jobs.store import JobStore
from jobs.webhooks.signing import new_secret
from tests.stores import a_job

SECRET = new_secret()
RESULT = JobResult(density=0.1, metrics={"after": {"accuracy": 99.0}}, artifacts=[])


def ended(store: JobStore, url: str = "https://hooks.example.com/x", **fields: object) -> Job:
    """A job that has succeeded, whose webhook has not been told yet."""
    job = a_job(webhook=Webhook.model_validate({"url": url} | fields))
    store.create(job, secret=SECRET)
    store.start(job.id, "worker-1")
    return store.succeed(job.id, RESULT)
