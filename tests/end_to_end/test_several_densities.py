"""frontier and target over HTTP: a model at each density and the curve; or a density that is found."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest

from tests.end_to_end.conftest import Service
from tests.end_to_end.pruned import nonzero

STOPS = [0.5, 0.2, 0.1, 0.05]


@pytest.fixture(scope="module")
def frontier(service: Service, digits_onnx: Path) -> dict[str, Any]:
    command = ["curl", "-s", "-F", f"model=@{digits_onnx}", "-F", "frontier=0.05,0.5,0.2,0.1,0.2"]
    command += ["-F", "dataset=digits", "-F", "effort=quick", f"{service.url}/jobs"]
    job = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert job["spec"]["frontier"] == STOPS
    ended = service.wait(job["id"])
    assert ended["status"] == "succeeded", ended["error"]
    return ended


def test_every_density_has_its_model(service: Service, frontier: dict[str, Any]) -> None:
    names = {artifact["name"] for artifact in frontier["result"]["artifacts"]}
    for density in STOPS:
        assert f"models/density-{density:g}.onnx" in names
        answer = service.client.get(f"/jobs/{frontier['id']}/model", params={"density": density})
        assert answer.status_code == 200
        assert f"density-{density:g}.onnx" in answer.headers["content-disposition"]
        model = onnx.load_from_string(answer.content)
        assert nonzero(answer.content) == (round(density * 6464), 6464)
        assert {entry.key: entry.value for entry in model.metadata_props}["prunery.density"] == str(density)
        onnxruntime.InferenceSession(answer.content)
    assert service.model(frontier) == answer.content


def test_the_report_has_a_row_for_each(service: Service, frontier: dict[str, Any]) -> None:
    report = service.report(frontier)
    rows = report["frontier"]
    assert [row["density"] for row in rows] == STOPS
    assert [row["kept"] for row in rows] == [round(density * 6464) for density in STOPS]
    assert report["density"]["requested"] == STOPS[-1]
    assert report["quality"]["pruned"]["value"] == rows[-1]["value"]
    assert all(row["value"] > 85.0 for row in rows)
    assert [row["multiply_adds"] for row in rows] == sorted(
        (row["multiply_adds"] for row in rows), reverse=True
    )
    listed = frontier["result"]["metrics"]["frontier"]
    assert [(row["density"], row["accuracy"], row["model"]) for row in listed] == [
        (row["density"], row["value"], row["model"]) for row in rows
    ]


def test_events_say_which_density_it_is(service: Service, frontier: dict[str, Any]) -> None:
    events = service.client.get(f"/jobs/{frontier['id']}/events", params={"limit": 1000}).json()["data"]
    progress = [event["progress"] for event in events if event["type"] == "progress"]
    assert {(one["stop"], one["stops"]) for one in progress} <= {(number, 4) for number in (1, 2, 3, 4)}
    assert progress[-1]["stop"] == 4
    assert progress[-1]["target_density"] == 0.05
    shares = [one["fraction"] for one in progress]
    assert shares == sorted(shares)


def test_a_density_that_is_not_there_is_told(service: Service, frontier: dict[str, Any]) -> None:
    answer = service.client.get(f"/jobs/{frontier['id']}/model", params={"density": 0.3})
    assert answer.status_code == 422
    assert answer.json()["code"] == "parameter_invalid"
    assert "0.5, 0.2, 0.1, 0.05" in answer.json()["detail"]


@pytest.fixture(scope="module")
def found(service: Service, digits_onnx: Path) -> dict[str, Any]:
    job = service.run(digits_onnx, "digits", target='{"max_accuracy_drop": 0.03}', effort="quick")
    assert job["status"] == "succeeded", job["error"]
    return job


def test_the_smallest_density_within_the_target_is_found(service: Service, found: dict[str, Any]) -> None:
    report = service.report(found)
    target = report["target"]
    assert target["met"]
    assert target["value"] >= target["limit"] == pytest.approx(target["dense"] - 3.0)
    assert target["density"] < 0.3
    assert target["density"] == report["density"]["requested"]
    assert len(target["tried"]) >= 4
    assert any(not one["within"] for one in target["tried"])
    kept = round(target["density"] * 6464)
    assert nonzero(service.model(found))[0] == kept == report["density"]["kept"]
    assert found["result"]["metrics"]["target"] == {
        key: target[key] for key in ("met", "density", "rows", "dense", "limit", "value")
    }


def test_a_target_that_cannot_be_met_succeeds_and_says_so(service: Service, digits_onnx: Path) -> None:
    fields = {"target": '{"max_accuracy_drop": 0}', "init": "random", "epochs": 1}
    job = service.run(digits_onnx, "digits", **fields)
    assert job["status"] == "succeeded", job["error"]
    report = service.report(job)
    assert report["target"]["met"] is False
    assert report["target"]["density"] == 0.9
    assert report["target"]["value"] < report["target"]["limit"]
    assert any(warning.startswith("target: not met") for warning in report["warnings"])
    assert job["result"]["metrics"]["target"]["met"] is False


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({}, "density", "frontier"),
        ({"density": 0.1, "frontier": "0.5"}, "frontier", "does not go with density"),
        ({"target": '{"max_accuracy_drop": 1.5}'}, "target", "less than 1"),
        ({"target": '{"max_accuracy_drop": -0.1}'}, "target", "greater than or equal to 0"),
        ({"target": "{}"}, "target", "max_accuracy_drop"),
        ({"target": "0.01"}, "target", "max_accuracy_drop"),
        ({"frontier": "0.5,1.5"}, "frontier", "less than or equal to 1"),
        ({"frontier": "a lot"}, "frontier", "0.5,0.2,0.1"),
        ({"frontier": "[]"}, "frontier", "0.5,0.2,0.1"),
        ({"frontier": ",".join(str(n / 50) for n in range(1, 40))}, "frontier", "too many"),
        ({"frontier": "0.5", "granularity": "2:4"}, "frontier", "leave frontier out"),
    ],
)
def test_a_goal_that_makes_no_sense_is_refused(
    service: Service, digits_onnx: Path, fields: dict[str, str], param: str, said: str
) -> None:
    answer = service.submit(digits_onnx, "digits", **fields)
    assert answer.status_code == 422
    assert answer.json()["param"] == param
    assert said in answer.json()["detail"]


def test_a_target_for_another_kind_of_task_fails_with_the_reason(service: Service, digits_onnx: Path) -> None:
    job = service.run(digits_onnx, "digits", target='{"max_error_increase": 0.1}', effort="quick")
    assert job["status"] == "failed"
    assert job["error"]["param"] == "target"
    assert "max_accuracy_drop" in job["error"]["message"]


def test_a_frontier_that_keeps_nothing_fails_before_it_trains(service: Service, digits_onnx: Path) -> None:
    job = service.run(digits_onnx, "digits", frontier="0.5,0.0001")
    assert job["status"] == "failed"
    assert "smallest density" in job["error"]["message"]
    assert job["progress"]["step"] == 0
