"""n:m, blocks and bounds over HTTP, counted here in the file that comes back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from prune_engine.report import Report
from tests.end_to_end.conftest import Service
from tests.end_to_end.pruned import nonzero, weights


def test_two_of_four_without_a_density(service: Service, digits_onnx: Path) -> None:
    job = service.run(digits_onnx, "digits", granularity="2:4", epochs=10)
    assert job["status"] == "succeeded", job["error"]
    assert job["spec"]["density"] == job["result"]["density"] == 0.5
    for name, values in weights(service.model(job)).items():
        assert (np.count_nonzero(values.reshape(-1, 4), axis=1) == 2).all(), name
    assert job["result"]["metrics"]["after"]["accuracy"] > 88
    report = Report.model_validate(service.report(job))
    assert "every group is 2:4" in [check.name for check in report.checks]
    assert report.latency is not None
    assert "onnxruntime makes no use of 2:4" in report.latency.sentence


@pytest.mark.parametrize(
    ("granularity", "rows", "columns"), [("4x1", 4, 1), ("1x4", 1, 4), ("16x16", 16, 16)]
)
def test_whole_blocks(service: Service, digits_onnx: Path, granularity: str, rows: int, columns: int) -> None:
    job = service.run(digits_onnx, "digits", granularity=granularity, density=0.25, epochs=10)
    assert job["status"] == "succeeded", job["error"]
    report = Report.model_validate(service.report(job))
    left_out = {one.name: one.reason for one in report.left_out}
    arrays = weights(service.model(job))
    kept = total = 0
    for name, values in arrays.items():
        if name in left_out:
            assert np.count_nonzero(values) == values.size
            continue
        outputs, inputs = values.shape
        blocks = values.reshape(outputs // rows, rows, inputs // columns, columns)
        counts = np.count_nonzero(blocks, axis=(1, 3))
        assert np.isin(counts, (0, rows * columns)).all(), name
        kept, total = kept + int((counts > 0).sum()), total + counts.size
    assert kept == round(0.25 * total)
    assert len(left_out) == (0 if granularity == "1x4" else 1)
    assert all("its 10 outputs are not a multiple of" in reason for reason in left_out.values())


def test_bounds_on_layers(service: Service, digits_onnx: Path) -> None:
    names = list(weights(digits_onnx.read_bytes()))
    bounds = json.dumps({names[0]: [None, 0.05], names[2]: [0.6, None]})
    job = service.run(digits_onnx, "digits", density=0.1, layer_density=bounds, epochs=5)
    assert job["status"] == "succeeded", job["error"]
    arrays = weights(service.model(job))
    assert np.count_nonzero(arrays[names[0]]) <= round(0.05 * arrays[names[0]].size)
    assert np.count_nonzero(arrays[names[2]]) >= round(0.6 * arrays[names[2]].size)
    kept, total = nonzero(service.model(job))
    assert kept == round(0.1 * total)


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"granularity": "2:4", "density": 0.3}, "density", "2:4 is density 0.5"),
        ({"granularity": "4:2"}, "granularity", "4:2 is no pattern"),
        ({"density": 0.1, "layer_density": '{"a": [0.9, 0.1]}'}, "layer_density", "above the most"),
    ],
)
def test_what_contradicts_itself_is_refused_at_once(
    service: Service, digits_onnx: Path, fields: dict[str, object], param: str, said: str
) -> None:
    answer = service.submit(digits_onnx, "digits", **fields)
    assert answer.status_code == 422
    problem = answer.json()
    assert (problem["code"], problem["param"]) == ("spec_invalid", param)
    assert said in problem["detail"]


def test_what_the_model_cannot_have_fails_with_what_it_can(service: Service, digits_onnx: Path) -> None:
    names = list(weights(digits_onnx.read_bytes()))
    for fields, said in (
        ({"granularity": "7x7", "density": 0.1}, "64 outputs are not a multiple of 7"),
        ({"density": 0.1, "layer_density": json.dumps({names[0]: [0.9, None]})}, "the smallest density"),
        ({"density": 0.0005}, "the smallest density that this model can have is 0.00155"),
    ):
        job = service.run(digits_onnx, "digits", **fields)
        assert (job["status"], job["error"]["code"]) == ("failed", "spec_invalid")
        assert said in job["error"]["message"]
