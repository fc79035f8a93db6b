"""Every refusal is a problem as RFC 9457 has it, with nothing of the inside in it."""

from __future__ import annotations

import pytest

from jobs.errors import StoreUnavailableError
from jobs.settings import Settings
from prune_engine.errors import ModelFormatError, PruneError, UnsupportedOperatorError, VerificationError
from service.problems import problem_of, status_of
from tests.service.conftest import Api, running
from tests.service.samples import assert_problem


def test_what_is_not_there_is_a_problem(api: Api) -> None:
    assert_problem(api.client.get("/nothing/here"), 404, "route_not_found")
    assert_problem(api.client.get("/jobs/"), 404, "route_not_found")
    assert_problem(api.client.get("/jobs/job_0"), 404, "job_not_found", "job_id")
    assert_problem(api.client.get("/jobs/..%2f..%2fetc"), 404, "route_not_found")
    assert_problem(api.client.get("/jobs/a%20b"), 404, "job_not_found", "job_id")


def test_a_wrong_method_says_which_are_right(api: Api) -> None:
    response = api.client.put("/jobs")
    assert_problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "GET, POST"


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=many", "limit"),
        ("status=lost", "status"),
        ("after=" + "a" * 65, "after"),
    ],
)
def test_a_wrong_query_names_the_parameter(api: Api, query: str, param: str) -> None:
    assert param in assert_problem(api.client.get(f"/jobs?{query}"), 422, "parameter_invalid", param)


@pytest.mark.parametrize("wait", ["61", "-1", "nan", "inf", "soon"])
def test_a_wrong_wait_is_refused(api: Api, wait: str) -> None:
    job_id = api.submit().json()["id"]
    assert_problem(api.client.get(f"/jobs/{job_id}?wait={wait}"), 422, "parameter_invalid", "wait")


def test_a_request_id_is_kept_where_it_is_well_formed(api: Api) -> None:
    given = api.client.get("/healthz", headers={"X-Request-ID": "abc-123"})
    assert given.headers["x-request-id"] == "abc-123"
    for bad in ("a b", "x" * 200, "ä"):
        made = api.client.get("/healthz", headers={"X-Request-ID": bad.encode()})
        assert made.headers["x-request-id"].startswith("req_")
    first, second = api.client.get("/healthz"), api.client.get("/healthz")
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


def test_a_store_that_does_not_answer_is_503_with_retry_after(settings: Settings) -> None:
    away = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    with running(away) as api:
        response = api.client.get("/jobs")
        assert_problem(response, 503, "store_unavailable")
        assert int(response.headers["retry-after"]) > 0


def test_an_unexpected_failure_is_500_without_a_trace(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one thing that cannot be made to fail on demand is a mistake of ours."""
    app = api.server.config.app

    async def broken(*_: object) -> None:
        raise ZeroDivisionError("secret inside")

    monkeypatch.setattr(app.state.rooms.store, "page", broken)
    response = api.client.get("/jobs")
    assert_problem(response, 500, "internal_error")
    assert "secret" not in response.text
    assert api.client.get("/healthz").status_code == 200


def test_the_errors_of_other_rooms_have_a_status() -> None:
    assert status_of(UnsupportedOperatorError("x")) == 422
    assert status_of(ModelFormatError("x")) == 422
    assert status_of(VerificationError("x")) == 500
    assert status_of(StoreUnavailableError("x")) == 503
    assert status_of(PruneError("x")) == 500
    assert problem_of(ModelFormatError("what"), "r").param == "model"
