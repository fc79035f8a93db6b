"""A job as its user lives it: one curl in, watch it, one pruned ONNX and a report out."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import onnx
import onnxruntime
import pytest

from prune_engine.report import Report
from tests.end_to_end.conftest import Service
from tests.end_to_end.pruned import nonzero


@pytest.fixture(scope="module")
def finished(service: Service, digits_onnx: Path) -> dict:
    """A job sent by the very command that the README shows."""
    command = ["curl", "-s", "-F", f"model=@{digits_onnx}", "-F", "density=0.1", "-F", "dataset=digits"]
    command += ["-F", "epochs=30", "-F", "seed=7", f"{service.url}/jobs"]
    job = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert job["status"] in ("queued", "running")
    assert job["spec"]["epochs"] == 30
    assert job["spec"]["method"] == "gumbel"
    return service.wait(job["id"])


def test_it_succeeds_with_exactly_the_density_asked_for(service: Service, finished: dict) -> None:
    assert finished["status"] == "succeeded", finished["error"]
    kept, total = nonzero(service.model(finished))
    assert total == 64 * 64 + 64 * 32 + 32 * 10
    assert kept == round(0.1 * total)
    assert finished["result"]["density"] == kept / total


def test_the_pruned_net_still_works(finished: dict) -> None:
    metrics = finished["result"]["metrics"]
    assert metrics["before"]["accuracy"] > 93
    assert metrics["after"]["accuracy"] > 88


def test_the_downloaded_model_runs_in_onnxruntime(service: Service, finished: dict) -> None:
    session = onnxruntime.InferenceSession(service.model(finished), providers=["CPUExecutionProvider"])
    assert [(item.name, item.shape) for item in session.get_inputs()] == [("x", ["batch", 1, 8, 8])]


def test_the_report_is_the_published_schema_and_the_page_is_html(service: Service, finished: dict) -> None:
    report = Report.model_validate(service.report(finished))
    assert report.job_id == finished["id"]
    assert all(check.passed for check in report.checks)
    assert report.environment.seed == 7
    page = service.client.get(f"/jobs/{finished['id']}/report", headers={"Accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html")
    assert "<svg" in page.text


def test_its_events_tell_the_whole_way(service: Service, finished: dict) -> None:
    events = service.client.get(f"/jobs/{finished['id']}/events", params={"limit": 1000}).json()["data"]
    stages = dict.fromkeys(event["stage"] for event in events if event["type"] == "stage")
    assert list(stages) == ["preparing", "baseline", "pruning", "finetuning", "exporting", "verifying"]
    assert [event["status"] for event in events if event["type"] == "status"] == [
        "queued",
        "running",
        "succeeded",
    ]


def test_every_artifact_listed_can_be_had(service: Service, finished: dict) -> None:
    artifacts = {item["name"]: item for item in finished["result"]["artifacts"]}
    assert {"model.onnx", "report.json", "report.html", "masks.npz"} <= set(artifacts)
    for item in artifacts.values():
        content = service.client.get(item["url"])
        assert content.status_code == 200
        assert len(content.content) == item["bytes"]


def test_the_same_seed_gives_the_same_weights(service: Service, finished: dict, digits_onnx: Path) -> None:
    again = service.run(digits_onnx, "digits", density=0.1, epochs=30, seed=7)
    first, second = (onnx.load_model_from_string(service.model(job)) for job in (finished, again))
    assert {item.key: item.value for item in first.metadata_props}["prunery.job"] == finished["id"]
    assert {item.key: item.value for item in second.metadata_props}["prunery.job"] == again["id"]
    del first.metadata_props[:]
    del second.metadata_props[:]
    assert first == second


def test_deleting_it_leaves_no_file(service: Service, digits_onnx: Path) -> None:
    job = service.run(digits_onnx, "digits", density=0.5, epochs=1)
    assert service.client.delete(f"/jobs/{job['id']}").status_code == 204
    assert service.client.get(f"/jobs/{job['id']}").status_code == 404
    assert not [path for path in service.data_dir.rglob("*") if job["id"] in str(path)]
