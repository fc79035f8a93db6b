"""The pruned model, the report and the other files of a job."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from jobs.artifacts import ArtifactStore, output_key
from jobs.record import Artifact, JobError, JobResult
from jobs.store import JobStore
from tests.service.conftest import Api
from tests.service.samples import assert_problem

FILES = {
    "model.onnx": bytes(range(256)) * 1000,
    "report.json": b'{"schema_version": "1"}',
    "report.html": b"<!DOCTYPE html><title>Report</title>",
    "figures/density by layer.svg": b"<svg/>",
}


def succeed(api: Api, store: JobStore, filename: str = "net.onnx", model: str = "model.onnx") -> str:
    """A job that has succeeded with `FILES`, the model under another name perhaps; its id."""
    job_id: str = api.submit(filename=filename).json()["id"]
    artifacts = ArtifactStore(api.settings)
    listed = []
    for place, content in FILES.items():
        name = model if place == "model.onnx" else place
        local = api.settings.data_dir / "local"
        local.write_bytes(content)
        key = output_key(job_id, 1, name)
        stored = artifacts.put_file(key, local)
        listed.append(Artifact(name=name, bytes=stored.bytes, sha256=stored.sha256, key=key))
    store.start(job_id)
    store.succeed(job_id, JobResult(density=0.5, metrics={"metric": "accuracy"}, artifacts=listed))
    return job_id


def test_every_file_of_a_job_is_found_by_its_url(api: Api, store: JobStore) -> None:
    job = api.client.get(f"/jobs/{succeed(api, store)}").json()
    assert job["result"]["density"] == 0.5
    for file in job["result"]["artifacts"]:
        response = api.client.get(file["url"])
        assert response.status_code == 200
        assert response.content == FILES[file["name"]]
        assert hashlib.sha256(response.content).hexdigest() == file["sha256"]
        assert response.headers["etag"] == f'"{file["sha256"]}"'
        assert "sandbox" in response.headers["content-security-policy"]
        head = api.client.head(file["url"])
        assert (head.status_code, head.content) == (200, b"")
        for name in ("content-length", "etag", "content-type", "accept-ranges"):
            assert head.headers[name] == response.headers[name]


@pytest.mark.parametrize(
    ("sent", "named"),
    [
        ("resnet20.onnx", "resnet20.pruned.onnx"),
        ("resnet20.torchscript.pt", "resnet20.pruned.onnx"),
        ("my model (2).ONNX", "my model (2).pruned.onnx"),
        ("größe.onnx", "gr__e.pruned.onnx"),
        (".onnx", "model.pruned.onnx"),
        ("net.pt2", "net.pruned.onnx"),
    ],
)
def test_curl_gives_the_pruned_model_a_good_name(
    api: Api, store: JobStore, tmp_path: Path, sent: str, named: str
) -> None:
    job_id = succeed(api, store, sent)
    folder = tmp_path / "downloads"
    folder.mkdir()
    subprocess.run(["curl", "-sfOJ", f"{api.url}/jobs/{job_id}/model"], cwd=folder, check=True)
    assert [path.name for path in folder.iterdir()] == [named]
    assert (folder / named).read_bytes() == FILES["model.onnx"]


@pytest.mark.parametrize(
    ("sent", "named"), [("llama.zip", "llama.pruned.zip"), ("model.onnx.zip", "model.pruned.zip")]
)
def test_a_model_with_data_files_is_handed_out_as_a_zip(
    api: Api, store: JobStore, sent: str, named: str
) -> None:
    response = api.client.get(f"/jobs/{succeed(api, store, sent, 'model.zip')}/model")
    assert response.status_code == 200
    assert response.content == FILES["model.onnx"]
    assert response.headers["content-type"] == "application/zip"
    assert named in response.headers["content-disposition"]


def test_the_report_is_json_or_a_page_by_accept_and_by_format(api: Api, store: JobStore) -> None:
    url = f"/jobs/{succeed(api, store)}/report"
    browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
    for query, accept, kind in [
        ("", "*/*", "application/json"),
        ("", browser, "text/html; charset=utf-8"),
        ("", "text/html;q=0.1, application/json", "application/json"),
        ("?format=html", "*/*", "text/html; charset=utf-8"),
        ("?format=json", browser, "application/json"),
    ]:
        response = api.client.get(url + query, headers={"Accept": accept})
        assert (response.status_code, response.headers["content-type"]) == (200, kind)
    assert_problem(api.client.get(url + "?format=pdf"), 422, "parameter_invalid", "format")


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-99", 0, 100),
        ("bytes=255990-", 255_990, 256_000),
        ("bytes=-10", 255_990, 256_000),
        ("bytes=5-9999999", 5, 256_000),
        ("bytes=-9999999", 0, 256_000),
    ],
)
def test_a_range_of_a_file(api: Api, store: JobStore, asked: str, start: int, end: int) -> None:
    url = f"/jobs/{succeed(api, store)}/artifacts/model.onnx"
    response = api.client.get(url, headers={"Range": asked})
    assert response.status_code == 206
    assert response.content == FILES["model.onnx"][start:end]
    assert response.headers["content-range"] == f"bytes {start}-{end - 1}/256000"
    assert response.headers["content-length"] == str(end - start)


@pytest.mark.parametrize("asked", ["bytes=256000-", "bytes=300000-400000", "bytes=-0"])
def test_a_range_outside_the_file_is_416(api: Api, store: JobStore, asked: str) -> None:
    url = f"/jobs/{succeed(api, store)}/artifacts/model.onnx"
    response = api.client.get(url, headers={"Range": asked})
    assert_problem(response, 416, "range_not_satisfiable")
    assert response.headers["content-range"] == "bytes */256000"


@pytest.mark.parametrize("asked", ["bytes=-", "bytes=9-5", "lines=1-2", "bytes=0-1,5-6", "bytes=a-b"])
def test_a_range_that_is_not_understood_gives_the_whole_file(api: Api, store: JobStore, asked: str) -> None:
    url = f"/jobs/{succeed(api, store)}/artifacts/model.onnx"
    assert api.client.get(url, headers={"Range": asked}).status_code == 200


def test_conditions(api: Api, store: JobStore) -> None:
    url = f"/jobs/{succeed(api, store)}/model"
    etag = api.client.get(url).headers["etag"]
    for condition in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        response = api.client.get(url, headers={"If-None-Match": condition})
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["etag"] == etag
    assert api.client.get(url, headers={"If-None-Match": '"other"'}).status_code == 200
    ranged = {"Range": "bytes=0-9", "If-Range": etag}
    assert api.client.get(url, headers=ranged).status_code == 206
    assert api.client.get(url, headers=ranged | {"If-Range": '"other"'}).status_code == 200


def test_a_job_without_a_result_says_why(api: Api, store: JobStore) -> None:
    job_id = api.submit().json()["id"]
    for path in ("model", "report", "artifacts/model.onnx"):
        assert "queued" in assert_problem(api.client.get(f"/jobs/{job_id}/{path}"), 409, "result_not_ready")
    store.start(job_id)
    store.fail(job_id, JobError(code="labels_out_of_range", message="label 12 is beyond"))
    assert "label 12" in assert_problem(api.client.get(f"/jobs/{job_id}/model"), 409, "result_not_ready")
    assert_problem(api.client.get("/jobs/job_0/model"), 404, "job_not_found", "job_id")


@pytest.mark.parametrize(
    "name", ["nothing", "../input/model", "%2e%2e/input/model", "..%2finput%2fmodel", "/etc/passwd"]
)
def test_only_the_files_of_the_result_can_be_had(api: Api, store: JobStore, name: str) -> None:
    response = api.client.get(f"/jobs/{succeed(api, store)}/artifacts/{name}")
    assert response.status_code == 404
    assert response.json()["code"] in ("artifact_not_found", "route_not_found")


def test_a_file_that_the_store_has_lost_is_noticed_before_the_answer_begins(
    api: Api, store: JobStore
) -> None:
    job_id = succeed(api, store)
    (api.artifacts / job_id / "output" / "1" / "model.onnx").unlink()
    assert_problem(api.client.get(f"/jobs/{job_id}/model"), 404, "artifact_not_found")
