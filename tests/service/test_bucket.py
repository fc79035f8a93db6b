"""The API with its files in a bucket: what is redirected, what is not, and a bucket that is away."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from jobs.artifacts import ArtifactStore, output_key
from jobs.filenames import saved_as
from jobs.keys import KeyStore, Scope
from jobs.record import Artifact, JobResult
from jobs.settings import Settings
from jobs.store import JobStore
from tests.object_stores import S3
from tests.service.conftest import Api, running
from tests.service.samples import assert_problem, small_onnx
from tests.service.test_files import FILES


@pytest.fixture
def api(s3_settings: Settings, s3: S3) -> Iterator[Api]:
    """An API whose clients are sent on to the bucket."""
    with running(s3_settings.model_copy(update={"presign_endpoint": s3.endpoint})) as started:
        yield started


@pytest.fixture
def job(api: Api, store: JobStore, tmp_path: Path) -> str:
    return finished(api, store, tmp_path)


def finished(api: Api, store: JobStore, tmp_path: Path) -> str:
    """A job that has succeeded with `FILES`."""
    job_id: str = api.submit(filename="net.onnx").json()["id"]
    artifacts = ArtifactStore(api.settings)
    listed = []
    for name, content in FILES.items():
        (tmp_path / "file").write_bytes(content)
        key = output_key(job_id, 1, name)
        stored = artifacts.put_file(key, tmp_path / "file", saved_as("net.onnx", name))
        listed.append(Artifact(name=name, bytes=stored.bytes, sha256=stored.sha256, key=key))
    store.start(job_id)
    store.succeed(job_id, JobResult(density=0.5, metrics={"metric": "accuracy"}, artifacts=listed))
    return job_id


def eventually(true: Callable[[], object]) -> None:
    until = time.monotonic() + 30
    while not true():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)


def test_a_model_is_fetched_from_the_bucket(api: Api, job: str, s3: S3) -> None:
    sent_on = api.client.get(f"/jobs/{job}/model")
    assert sent_on.status_code == 307
    assert sent_on.headers["location"].startswith(s3.endpoint)
    assert sent_on.headers["cache-control"] == "private, no-store"
    for path in ("model", "artifacts/model.onnx"):
        got = api.client.get(f"/jobs/{job}/{path}", follow_redirects=True)
        assert got.content == FILES["model.onnx"]
        assert got.headers["content-disposition"] == 'attachment; filename="net.pruned.onnx"'
        assert got.headers["content-type"] == "application/octet-stream"


def test_only_the_owner_is_sent_there(api: Api, store: JobStore, tmp_path: Path) -> None:
    keys = KeyStore(api.settings)
    owner, stranger = (
        {"Authorization": f"Bearer {keys.create(name, [Scope.JOBS_WRITE])[1]}"}
        for name in ("owner", "stranger")
    )
    api.client.headers.update(owner)
    job = finished(api, store, tmp_path)
    assert api.client.get(f"/jobs/{job}/model").status_code == 307
    for path in ("model", "artifacts/model.onnx"):
        asked = api.client.get(f"/jobs/{job}/{path}", headers=stranger)
        assert_problem(asked, 404, "job_not_found", "job_id")
        assert "location" not in asked.headers
        assert httpx.get(f"{api.url}/jobs/{job}/{path}").status_code == 401


def test_curl_resumes_and_names_it_through_the_redirect(api: Api, job: str, tmp_path: Path) -> None:
    subprocess.run(["curl", "-sSfOJL", f"{api.url}/jobs/{job}/model"], cwd=tmp_path, check=True)
    saved = tmp_path / "net.pruned.onnx"
    assert saved.read_bytes() == FILES["model.onnx"]
    part = httpx.get(f"{api.url}/jobs/{job}/model", headers={"Range": "bytes=10-19"}, follow_redirects=True)
    assert (part.status_code, part.content) == (206, FILES["model.onnx"][10:20])
    saved.write_bytes(FILES["model.onnx"][:1000])
    command = ["curl", "-sSfL", "-C", "-", "-o", saved, f"{api.url}/jobs/{job}/model"]
    subprocess.run(command, check=True)
    assert saved.read_bytes() == FILES["model.onnx"]


def test_what_a_browser_shows_comes_from_here_with_our_headers(api: Api, job: str) -> None:
    for name in ("report.json", "report.html", "figures/density by layer.svg"):
        got = api.client.get(f"/jobs/{job}/artifacts/{name}")
        assert (got.status_code, got.content) == (200, FILES[name])
        assert "sandbox" in got.headers["content-security-policy"]


def test_a_condition_and_a_head_are_answered_here(api: Api, job: str) -> None:
    head = api.client.head(f"/jobs/{job}/model")
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(FILES["model.onnx"])))
    same = api.client.get(f"/jobs/{job}/model", headers={"If-None-Match": head.headers["etag"]})
    assert same.status_code == 304


def test_a_file_that_the_bucket_has_lost_is_said_here(api: Api, job: str) -> None:
    import obstore
    from obstore.store import from_url

    store = from_url(str(api.settings.artifacts_url), client_options={"allow_http": True})
    obstore.delete(store, output_key(job, 1, "model.onnx"))
    assert_problem(api.client.get(f"/jobs/{job}/model"), 404, "artifact_not_found")


def test_the_files_go_with_the_job(api: Api, job: str, s3: S3) -> None:
    assert s3.keys()
    assert api.client.delete(f"/jobs/{job}").status_code == 204
    assert s3.keys() == []


def test_a_job_can_be_deleted_while_the_bucket_is_away(api: Api, job: str, s3: S3) -> None:
    with s3.switch.away():
        assert api.client.delete(f"/jobs/{job}").status_code == 204
    assert_problem(api.client.get(f"/jobs/{job}"), 404, "job_not_found", "job_id")


def test_an_upload_to_a_bucket_that_is_away_is_to_be_sent_again(api: Api, store: JobStore, s3: S3) -> None:
    with s3.switch.away():
        refused = api.submit()
        assert_problem(refused, 503, "artifacts_unavailable")
        assert refused.headers["retry-after"] == "5"
        assert api.client.get("/readyz").json()["parts"]["artifacts"]["ready"] is False
    assert store.page(10) == ([], False)
    assert api.submit().status_code == 202


def test_a_client_that_hangs_up_leaves_nothing_in_the_bucket(api: Api, store: JobStore, s3: S3) -> None:
    host, port = api.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(
            b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200000000\r\n"
            b"Content-Type: multipart/form-data; boundary=frontier\r\n\r\n"
            b'--frontier\r\nContent-Disposition: form-data; name="model"; filename="m.onnx"\r\n\r\n'
            + small_onnx()[:2]
            + b"\x3a\x80\x84\xaf\x5f"
            + bytes(20_000_000)
        )
        eventually(s3.server.uploads)
    eventually(lambda: (s3.keys(), s3.server.uploads()) == ([], []))
    assert store.page(10) == ([], False)
