"""An inspection as OpenAPI shows it."""

from __future__ import annotations

from typing import Any, Final

from prune_engine.inspection import (
    DensityOutlook,
    Inspection,
    KeptInfo,
    MemoryEstimate,
    OperatorSupport,
    ParameterCount,
    StepInfo,
    TimeEstimate,
    WeightInfo,
)
from prune_engine.report import TensorInfo

EXAMPLE: Final = Inspection(
    created_at="2026-11-20T14:50:00+00:00",
    seconds=0.21,
    prunable=True,
    problems=[],
    warnings=[],
    filename="net.onnx",
    format="onnx",
    route="as sent",
    sha256="5b1f0f6e1f0d1f1fd6d2a5c8b53d1e6fbb0c1b5d6a1e0f3f9a7c2e4d8b6a0c1e",
    bytes=31_812,
    opsets={"ai.onnx": 17},
    ir_version=8,
    producer="pytorch 2.13.0",
    inputs=[TensorInfo(name="x", dtype="float32", shape=("batch", 64))],
    outputs=[TensorInfo(name="y", dtype="float32", shape=("batch", 100))],
    operators=[OperatorSupport(name="Gemm", domain="ai.onnx", opset=17, count=1, supported=True)],
    weights=[
        WeightInfo(
            name="layer.weight",
            kind="Gemm",
            shape=(100, 64),
            dtype="float32",
            count=6400,
            share=1.0,
            outputs=100,
            nodes=("/layer/Gemm",),
            zeros=0,
        )
    ],
    not_prunable=[
        KeptInfo(
            name="layer.bias",
            shape=(100,),
            dtype="float32",
            count=100,
            reason="bias",
        )
    ],
    parameters=ParameterCount(total=6500, prunable=6400),
    density=DensityOutlook(smallest=1 / 6400, step=1 / 6400, requested=0.1, kept=640, reached=0.1),
    measured_with={"x": (1, 64)},
    multiply_adds=6400,
    step=StepInfo(rows=16, seconds=0.0002, seconds_per_row=1e-05, activation_bytes_per_row=1024, threads=1),
    memory=MemoryEstimate(
        bytes=480_813_544,
        libraries=480_000_000,
        weights=338_000,
        gates=153_600,
        activations=131_072,
        graph=190_872,
        data=None,
        batch_size=128,
        how="counted from the parameters; activations were measured in one small step and taken times the "
        "batch size",
    ),
    time=TimeEstimate(
        seconds=5.2,
        steps=5008,
        seconds_per_step=0.00104,
        epochs=313,
        batch_size=128,
        how="one forward and backward pass of 16 rows was measured on 1 thread of this machine and taken "
        "times the batch size and the steps (standard: about 5000 steps); without data, 2,048 rows or more "
        "were assumed; rough",
    ),
    data=None,
)

INSPECTED: Final[dict[str, Any]] = {
    "description": "What a job would find: JSON, or a page.",
    "content": {
        "application/json": {
            "schema": {"$ref": "#/components/schemas/Inspection"},
            "example": EXAMPLE.model_dump(mode="json"),
        },
        "text/html": {"schema": {"type": "string"}, "example": "<!doctype html><title>Inspection</title>"},
    },
}
