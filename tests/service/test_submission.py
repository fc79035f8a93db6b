"""POST /jobs: what is accepted, and what it becomes."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobs.record import Status
from jobs.settings import Settings
from jobs.store import JobStore
from tests.service.conftest import Api, running
from tests.service.samples import assert_problem, npz, small_onnx, zipped


def test_a_submission_is_answered_with_the_recorded_job(api: Api, store: JobStore) -> None:
    response = api.submit()
    assert response.status_code == 202
    job = response.json()
    assert response.headers["location"] == f"/jobs/{job['id']}" == job["links"]["self"]
    assert int(response.headers["retry-after"]) > 0
    assert job["object"] == "job"
    assert job["status"] == "queued"
    assert job["queue_position"] == 0
    assert job["spec"]["density"] == 0.5
    assert job["spec"]["epochs"] == "auto"
    assert job["model"] == {
        "filename": "net.onnx",
        "format": "onnx",
        "bytes": len(small_onnx()),
        "sha256": hashlib.sha256(small_onnx()).hexdigest(),
    }
    assert job["dataset"]["source"] == "named"
    assert store.get(job["id"]).status is Status.QUEUED
    assert (api.artifacts / job["id"] / "input" / "model").read_bytes() == small_onnx()


def test_every_field_of_the_spec_may_be_a_form_field(api: Api) -> None:
    preprocess = {"scale": 0.5, "mean": [0.1, 0.2], "std": [1.0], "layout": "nchw"}
    sent = {"epochs": "3", "seed": "7", "effort": "quick", "preprocess": json.dumps(preprocess)}
    spec = api.submit(**sent).json()["spec"]
    assert (spec["epochs"], spec["seed"], spec["effort"]) == (3, 7, "quick")
    assert spec["preprocess"] == preprocess


def test_the_spec_may_come_as_json_beside_fields_and_empty_fields_count_as_not_sent(api: Api) -> None:
    spec = api.submit(spec=json.dumps({"epochs": 2, "max_minutes": None}), seed="").json()["spec"]
    assert (spec["density"], spec["epochs"], spec["seed"]) == (0.5, 2, 0)


def test_parts_may_come_in_any_order_and_data_may_be_files(api: Api) -> None:
    data = npz(x=[[1.0, 2.0]], y=[0])
    files = [
        ("tokenizer", ("tokenizer.json", b'{"version": "1.0"}')),
        ("dataset", ("mine.npz", data)),
        ("density", (None, b"0.25")),
        ("model", ("net.onnx", small_onnx())),
    ]
    response = api.client.post("/jobs", files=files)
    assert response.status_code == 202, response.text
    job = response.json()
    assert job["dataset"] == {
        "source": "supplied",
        "name": "mine.npz",
        "format": "npz",
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    assert job["tokenizer"]["filename"] == "tokenizer.json"
    folder = api.artifacts / job["id"] / "input"
    assert sorted(path.name for path in folder.iterdir()) == ["data", "model", "tokenizer"]


@pytest.mark.parametrize(
    ("name", "format"),
    [("resnet20.onnx", "onnx"), ("resnet20.torchscript.pt", "torchscript")],
)
def test_real_models_are_accepted(api: Api, shared_models: Path, name: str, format: str) -> None:
    model = (shared_models / "cifar10_resnet" / name).read_bytes()
    response = api.submit(model, name)
    assert response.status_code == 202, response.text
    assert response.json()["model"]["format"] == format


def test_the_same_request_twice_at_once_makes_two_whole_jobs(api: Api, store: JobStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: api.submit(), range(8)))
    assert {answer.status_code for answer in answers} == {202}
    ids = {answer.json()["id"] for answer in answers}
    assert len(ids) == 8
    assert {job.id for job in store.page(100)[0]} == ids
    for job_id in ids:
        assert (api.artifacts / job_id / "input" / "model").read_bytes() == small_onnx()


def test_json_is_refused_with_what_to_send_instead(api: Api) -> None:
    response = api.client.post("/jobs", json={"density": 0.1})
    assert "multipart/form-data" in assert_problem(response, 415, "multipart_required")


def test_a_missing_field_is_named(api: Api) -> None:
    nothing = api.client.post("/jobs", files={"density": (None, b"0.5")})
    assert_problem(nothing, 422, "field_missing", "model")
    no_data = api.client.post("/jobs", files={"model": ("m.onnx", small_onnx())}, data={"density": "0.5"})
    assert "GET /datasets" in assert_problem(no_data, 422, "field_missing", "dataset")
    no_density = api.submit(density="")
    assert_problem(no_density, 422, "field_missing", "density")
    assert api.stored() == []


def test_an_unknown_field_is_refused_with_the_list_of_known_ones(api: Api) -> None:
    detail = assert_problem(api.submit(densty="0.5"), 422, "field_unknown", "densty")
    assert "density" in detail
    assert "max_minutes" in detail


def test_a_field_given_twice_is_refused_whatever_its_values(api: Api) -> None:
    conflict = api.submit(spec='{"density": 0.5}')
    assert_problem(conflict, 422, "field_conflict", "density")
    files = [("model", ("m.onnx", small_onnx())), ("density", (None, b"0.5")), ("density", (None, b"0.5"))]
    assert_problem(api.client.post("/jobs", files=files), 422, "field_repeated", "density")
    both = [
        ("model", ("m.onnx", small_onnx())),
        ("dataset", (None, b"digits")),
        ("dataset", ("d.npz", npz(x=[1]))),
    ]
    assert_problem(api.client.post("/jobs", files=both), 422, "field_repeated", "dataset")
    assert api.stored() == []


def test_text_where_a_file_belongs_and_the_other_way_round(api: Api) -> None:
    text = api.client.post("/jobs", files={"model": (None, small_onnx())})
    assert "model=@" in assert_problem(text, 422, "field_invalid", "model")
    file = api.client.post("/jobs", files={"density": ("d.txt", b"0.5")})
    assert_problem(file, 422, "field_invalid", "density")


def test_fields_and_parts_are_bounded(api: Api) -> None:
    assert_problem(api.submit(spec=" " * 70_000), 413, "field_too_large", "spec")
    many = [("seed", (None, b"1"))] * 100
    assert api.client.post("/jobs", files=many).status_code in (400, 422)
    assert api.stored() == []


@pytest.mark.parametrize(
    ("spec", "param"),
    [("[1]", "spec"), ("{", "spec"), ('{"model": "x"}', "model"), ('{"colour": 1}', "colour")],
)
def test_a_spec_that_is_no_object_of_known_fields_is_refused(api: Api, spec: str, param: str) -> None:
    assert_problem(api.submit(spec=spec), 422, "spec_invalid", param)


def test_files_over_the_limit_are_refused_while_they_come_and_leave_nothing(settings: Settings) -> None:
    small = settings.model_copy(update={"max_model_bytes": 1000, "max_data_bytes": 2000})
    with running(small) as api:
        model = small_onnx()[:2] + b"\x32\xff\xff\x7f" + b"0" * 5000
        assert_problem(api.submit(model), 413, "file_too_large", "model")
        files = {"model": ("m.onnx", small_onnx()), "dataset": ("d.csv", b"a,b\n" * 1000)}
        response = api.client.post("/jobs", files=files, data={"density": "0.1"})
        assert_problem(response, 413, "file_too_large", "dataset")
        assert api.stored() == []


def test_a_zip_of_image_folders_is_accepted(api: Api) -> None:
    files = {"model": ("m.onnx", small_onnx()), "dataset": ("d.zip", zipped("cat/1.png", "dog/1.png"))}
    response = api.client.post("/jobs", files=files, data={"density": "0.1"})
    assert response.status_code == 202
    assert response.json()["dataset"]["format"] == "zip"
