"""A small trained convolutional net as onnxruntime's quantiser leaves it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import nn

from tests.trained import export

FORMATS: dict[str, dict[str, Any]] = {
    "by tensor": {"quant_format": QuantFormat.QDQ},
    "by channel": {"quant_format": QuantFormat.QDQ, "per_channel": True},
    "unsigned": {
        "quant_format": QuantFormat.QDQ,
        "weight_type": QuantType.QUInt8,
        "activation_type": QuantType.QUInt8,
    },
    "integer operators": {"quant_format": QuantFormat.QOperator, "per_channel": True},
    "trained for it": {"quant_format": QuantFormat.QDQ, "extra_options": {"AddQDQPairToWeight": True}},
}
"""What is asked of the quantiser; "trained for it" keeps float weights in front of a QuantizeLinear."""


class _Calibration(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, x: np.ndarray) -> None:
        self._rows: Iterator[np.ndarray] = iter(np.split(x, 5))

    def get_next(self) -> dict[str, np.ndarray] | None:
        rows = next(self._rows, None)
        return None if rows is None else {"x": rows}


def images(arrays: dict[str, np.ndarray], part: str = "train") -> np.ndarray:
    """Digits as [rows, 1, 8, 8] from 0 to 1."""
    return arrays[f"x_{part}"].astype(np.float32).reshape(-1, 1, 8, 8) / 16


def float_net(arrays: dict[str, np.ndarray], folder: Path) -> Path:
    """A net of two convolutions and a linear layer, trained on digits, as ONNX."""
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 10)),
    )
    x, y = torch.from_numpy(images(arrays)), torch.from_numpy(arrays["y_train"]).long()
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(10):
        for rows in torch.randperm(len(x)).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
            optimiser.step()
    export(net, x[:1], folder / "float.onnx")
    return folder / "float.onnx"


def quantise(path: Path, arrays: dict[str, np.ndarray], form: str) -> onnx.ModelProto:
    """The net of `path` in one of `FORMATS`."""
    target = path.parent / f"{form}.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quantize_static(
            str(path),
            str(target),
            _Calibration(images(arrays)[:500]),
            **{"weight_type": QuantType.QInt8, **FORMATS[form]},
        )
    return onnx.load(target)
