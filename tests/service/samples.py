"""Files to send: small, real, and broken in ways that people's files are broken."""

from __future__ import annotations

import io
import zipfile
from functools import cache
from typing import Any

import httpx
import numpy as np
from onnx import TensorProto, helper


@cache
def small_onnx() -> bytes:
    """A 4-2 linear layer."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4, 2], [0.1] * 8)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"author": "somebody"})
    data: bytes = model.SerializeToString()
    return data


def npz(**arrays: Any) -> bytes:
    """An .npz of these arrays."""
    held = io.BytesIO()
    np.savez(held, **{name: np.asarray(value) for name, value in arrays.items()})
    return held.getvalue()


def zipped(*names: str) -> bytes:
    """A .zip with these members."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, b"0" * 5000)
    return held.getvalue()


def assert_problem(response: httpx.Response, status: int, code: str, param: str | None = None) -> str:
    """Check that the answer is this problem, whole and without insides; its detail."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["code"] == code, problem
    assert problem["param"] == param, problem
    assert problem["type"] == f"urn:prunery:problem:{code}"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["request_id"] == response.headers["x-request-id"]
    assert "Traceback" not in response.text
    detail: str = problem["detail"]
    assert len(detail) > 20
    return detail
