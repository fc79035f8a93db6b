"""What is pruned and from where it starts, over HTTP and on the command line; and how such asks go wrong."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from tests.end_to_end.conftest import Service
from tests.end_to_end.test_command_line import prunery
from tests.trained import export

FIRST, SECOND, LAST = 4096, 2048, 320


def values(model: bytes) -> dict[str, np.ndarray]:
    proto = onnx.load_from_string(model)
    return {item.name: numpy_helper.to_array(item) for item in proto.graph.initializer}


def masks(service: Service, job: dict[str, Any]) -> dict[str, np.ndarray]:
    content = service.client.get(f"/jobs/{job['id']}/artifacts/masks.npz").raise_for_status().content
    with np.load(io.BytesIO(content)) as arrays:
        return dict(arrays)


def test_patterns_leave_a_layer_dense_and_the_report_names_it(service: Service, digits_onnx: Path) -> None:
    fields = {"density": 0.1, "epochs": 2, "include": '["1.*", "/3/Gemm", "5.weight"]', "exclude": "*5*"}
    job = service.run(digits_onnx, "digits", **fields)
    assert job["status"] == "succeeded", job["error"]
    assert job["spec"]["include"] == ["1.*", "/3/Gemm", "5.weight"]
    assert job["spec"]["exclude"] == ["*5*"]
    report = service.report(job)
    assert [one["name"] for one in report["left_out"]] == ["5.weight"]
    assert "'*5*'" in report["left_out"][0]["reason"]
    assert report["density"]["prunable"] == FIRST + SECOND
    after = values(service.model(job))
    assert np.count_nonzero(after["5.weight"]) == LAST
    kept = sum(int(np.count_nonzero(after[name])) for name in ("1.weight", "3.weight"))
    assert kept == round(0.1 * (FIRST + SECOND)) == report["density"]["kept"]


@pytest.mark.parametrize(
    ("fields", "param", "mentions"),
    [
        ({"exclude": "fc3"}, "exclude", ["'fc3'", "'5.weight'", "/5/Gemm"]),
        ({"include": '["1.*", "nothing*"]'}, "include", ["'nothing*'", "'1.weight'"]),
        ({"include": "1.*", "exclude": "/1/*"}, "exclude", ["no weight is left", "1.weight"]),
        ({"density": 0.0001}, "density", ["smallest density"]),
    ],
)
def test_what_only_the_model_can_tell_ends_the_job_and_is_told_before(
    service: Service, digits_onnx: Path, fields: dict[str, Any], param: str, mentions: list[str]
) -> None:
    asked = {"density": 0.5, "epochs": 1, **fields}
    job = service.run(digits_onnx, "digits", **asked)
    error = job["error"]
    assert (job["status"], error["code"], error["param"]) == ("failed", "spec_invalid", param)
    assert [part for part in mentions if part not in error["message"]] == []
    problem = service.submit(digits_onnx, "digits", validate_only=True, **asked).json()
    assert (problem["code"], problem["param"], problem["detail"]) == (
        error["code"],
        error["param"],
        error["message"],
    )


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"train_weights": "perhaps"}, "train_weights"),
        ({"train_weights": "false", "learning_rate": "0.1"}, "learning_rate"),
        ({"train_weights": "false", "fix_mask_at": "0.5"}, "fix_mask_at"),
        ({"init": "zeros"}, "init"),
        ({"include": '[""]'}, "include"),
    ],
)
def test_what_contradicts_itself_is_refused_at_once(
    service: Service, digits_onnx: Path, fields: dict[str, Any], param: str
) -> None:
    answer = service.submit(digits_onnx, "digits", density=0.5, **fields)
    assert answer.status_code == 422
    assert (answer.json()["code"], answer.json()["param"]) == ("spec_invalid", param)


def test_a_mask_alone_changes_no_value(service: Service, digits_onnx: Path) -> None:
    job = service.run(digits_onnx, "digits", density=0.2, epochs=10, train_weights="false")
    assert job["status"] == "succeeded", job["error"]
    before, after, kept = values(digits_onnx.read_bytes()), values(service.model(job)), masks(service, job)
    for name, value in after.items():
        expected = np.where(kept[name], before[name], 0.0) if name in kept else before[name]
        assert np.array_equal(value, expected), name
    assert service.report(job)["quality"]["pruned"]["value"] > 85


def test_an_untrained_file_is_trained_from_fresh_weights(service: Service, tmp_path: Path) -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    export(net, torch.zeros(1, 1, 8, 8), tmp_path / "fresh.onnx")
    job = service.run(tmp_path / "fresh.onnx", "digits", density=0.2, epochs=20, init="random")
    assert job["status"] == "succeeded", job["error"]
    report = service.report(job)
    assert report["quality"]["pruned"]["value"] > 80 > 50 > report["quality"]["dense"]["value"]
    page = service.client.get(f"/jobs/{job['id']}/report", params={"format": "html"}).text
    assert "started from fresh weights" in page


def test_a_loss_that_turns_nan_is_taken_back_twice_and_then_ends_the_job(
    service: Service, digits_onnx: Path
) -> None:
    job = service.run(digits_onnx, "digits", density=0.5, epochs=5, learning_rate="1e30")
    error = job["error"]
    assert (job["status"], error["code"], error["param"]) == ("failed", "training_diverged", "learning_rate")
    assert "gone back 2 times" in error["message"]
    assert "2.5e+29" in error["message"]
    events = service.client.get(f"/jobs/{job['id']}/events", headers={"Accept": "application/json"}).text
    assert events.count("half the learning rate") == 2


def test_the_same_on_the_command_line(digits_onnx: Path, tmp_path: Path) -> None:
    out, asked = tmp_path / "out", ["--density", "0.1", "--data", "digits", "--epochs", "1"]
    done = prunery("prune", digits_onnx, *asked, "--exclude", "/5/*,3.weight", "--out", out)
    assert done.returncode == 0, done.stderr
    report = json.loads((out / "report.json").read_text())
    assert [one["name"] for one in report["left_out"]] == ["3.weight", "5.weight"]
    shown = prunery("inspect", digits_onnx, "--density", "0.1", "--include", "1.weight")
    assert shown.returncode == 0, shown.stderr
    assert "Left out" in shown.stdout
    assert "/1/Gemm" in shown.stdout
    refused = prunery("inspect", digits_onnx, "--exclude", "none*")
    assert refused.returncode == 2
    assert "'none*' matches no prunable weight" in refused.stderr
    assert "/5/Gemm" in refused.stderr
