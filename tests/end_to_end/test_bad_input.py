"""Bad input that only a look inside can tell: the job fails with its code, and the next job is served."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from tests.end_to_end.conftest import Service
from tests.trained import export

Arrays = dict[str, np.ndarray]


def npz(**arrays: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.savez(content, **arrays)
    return content.getvalue()


def one_node_model(operator: str, domain: str, weight: np.ndarray) -> bytes:
    """x (N, 4) -> operator(x, weight) -> y."""
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "w"], ["y"], name="the_node", domain=domain)],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", None])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    opsets = [helper.make_opsetid("", 17), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def told_before(service: Service, job: dict[str, Any], model: Path | bytes, dataset: bytes) -> None:
    """`validate_only` answers with the very problem that the job failed with."""
    problem = service.submit(model, dataset, validate_only=True, density=0.5).json()
    error = job["error"]
    assert (problem["code"], problem["param"], problem["detail"]) == (
        error["code"],
        error["param"],
        error["message"],
    )


def external(tmp_path: Path) -> bytes:
    model = onnx.load_from_string(one_node_model("MatMul", "", np.ones((4, 512), np.float32)))
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path.read_bytes()


def custom(tmp_path: Path) -> bytes:
    return one_node_model("Sparkle", "com.stranger", np.ones((4, 2), np.float32))


def without_floats(tmp_path: Path) -> bytes:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "none",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


@pytest.mark.parametrize(
    ("make", "code", "mentions"),
    [
        (custom, "operator_unsupported", ["Sparkle", "com.stranger", "the_node"]),
        (without_floats, "no_prunable_weights", []),
        (external, "model_external_data", ["w"]),
    ],
)
def test_a_model_that_cannot_be_pruned_fails_with_its_code(
    service: Service, tmp_path: Path, make: Callable[[Path], bytes], code: str, mentions: list[str]
) -> None:
    rows = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    job = service.run(make(tmp_path), npz(x=rows), density=0.5)
    told_before(service, job, make(tmp_path), npz(x=rows))
    assert (job["status"], job["error"]["code"], job["error"]["param"]) == ("failed", code, "model")
    for mention in mentions:
        assert mention in job["error"]["message"]


def changed(digits: Arrays, **changes: Any) -> bytes:
    return npz(**{**digits, **changes})


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda d: npz(x=d["x_train"][:3], y=d["y_train"][:3]), "data_too_few_samples"),
        (lambda d: changed(d, y_train=d["y_train"] + 9), "labels_out_of_range"),
        (lambda d: changed(d, x_train=d["x_train"][:, :5], x_test=d["x_test"][:, :5]), "data_shape_mismatch"),
        (
            lambda d: npz(x=np.where(d["x_train"] > 15, np.nan, d["x_train"]), y=d["y_train"]),
            "data_not_finite",
        ),
        (lambda d: changed(d, y_train=d["y_train"][:-1]), "data_shape_mismatch"),
    ],
    ids=["3 samples", "labels beyond the classes", "wrong shape", "NaN", "rows and labels differ"],
)
def test_data_that_does_not_fit_fails_with_its_code(
    service: Service, digits_onnx: Path, digits: Arrays, change: Callable[[Arrays], bytes], code: str
) -> None:
    job = service.run(digits_onnx, change(digits), density=0.5)
    told_before(service, job, digits_onnx, change(digits))
    assert (job["status"], job["error"]["code"], job["error"]["param"]) == ("failed", code, "dataset")
    assert len(job["error"]["message"]) > 40


def test_an_untrained_net_is_told_so_and_welcome_with_explicit_preprocessing(
    service: Service, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    export(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), torch.zeros(1, 1, 8, 8), tmp_path / "fresh.onnx")
    job = service.run(tmp_path / "fresh.onnx", "digits", density=0.5)
    assert job["error"]["code"] == "preprocess_not_found"
    explicit = '{"scale": 0.0625, "layout": "nchw"}'
    job = service.run(tmp_path / "fresh.onnx", "digits", density=0.5, epochs=2, preprocess=explicit)
    assert job["status"] == "succeeded", job["error"]


def test_a_job_that_would_succeed_is_described_and_not_queued(service: Service, digits_onnx: Path) -> None:
    before = len(service.client.get("/jobs?limit=100").json()["data"])
    answer = service.submit(digits_onnx, "digits", validate_only=True, density=0.5)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["prunable"], found["density"]["kept"]) == (True, 3232)
    assert (found["data"]["name"], found["data"]["classes"]) == ("digits", 10)
    assert len(service.client.get("/jobs?limit=100").json()["data"]) == before


def test_after_all_that_a_good_job_is_served(service: Service, digits_onnx: Path) -> None:
    assert service.run(digits_onnx, "digits", density=0.5, epochs=1)["status"] == "succeeded"
    assert service.client.get("/readyz").status_code == 200
