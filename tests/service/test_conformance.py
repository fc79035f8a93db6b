"""schemathesis against the OpenAPI document: whatever is sent, no 5xx, and every answer is as documented."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from jobs.record import JobError, JobResult
from jobs.settings import Settings
from jobs.store import JobStore
from service.app import create_app
from tests.service.conftest import Api, running

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def populated(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Api, list[str]]]:
    """An API with a job in every state; their ids."""
    chosen = Settings(
        _env_file=None,
        redis_url=valkey_url,
        redis_prefix=f"test-{secrets.token_hex(6)}:",
        data_dir=tmp_path_factory.mktemp("conformance"),
    )
    store = JobStore(chosen)
    store.beat("worker-1", 600)
    with running(chosen) as api:
        ids = [api.submit().json()["id"] for _ in range(6)]
        for job_id in ids[1:5]:
            store.start(job_id)
        store.request_cancel(ids[2])
        store.fail(ids[3], JobError(code="x", message="y"))
        store.succeed(ids[4], JobResult(density=0.5, metrics={}, artifacts=[]))
        store.request_cancel(ids[5])
        yield api, ids
    store.close()


schema = schemathesis.openapi.from_dict(create_app(Settings(_env_file=None)).openapi())


@schema.parametrize()
@settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_operation_answers_as_documented(
    case: schemathesis.Case, populated: tuple[Api, list[str]]
) -> None:
    api, ids = populated
    checks = [*CHECKS]
    if "job_id" in case.path_parameters and case.operation.definition.raw["operationId"] != "deleteJob":
        # Half of the cases meet a job that is there.
        chosen = sum(map(ord, str(case.path_parameters["job_id"])))
        if chosen % 2:
            case.path_parameters["job_id"] = ids[chosen % len(ids)]
    if case.operation.method == "get" and case.query:
        checks.append(negative_data_rejection)
    if "wait" in case.query:
        case.query["wait"] = _shorter(case.query["wait"])
    case.call_and_validate(base_url=api.url, checks=checks, timeout=20)


def _shorter(wait: Any) -> Any:
    try:
        return wait if not 0 <= float(wait) <= 60 else 0.01
    except (TypeError, ValueError):
        return wait


def test_the_api_still_serves_after_all_that(populated: tuple[Api, list[str]]) -> None:
    api, ids = populated
    assert httpx.get(f"{api.url}/readyz").status_code == 200
    assert {job["id"] for job in api.client.get("/jobs?limit=100").json()["data"]} >= set(ids)
