"""Fourier transforms, windows and the mel scale."""

from __future__ import annotations

import numpy as np
import pytest

from tests.prune_engine.formats.operators.one_node import agree, by_reference, gradient_agrees, holds, model

RANDOM = np.random.default_rng(4)


def normal(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("length", [None, 6, 13])
@pytest.mark.parametrize("axis", [1, 2, -2])
@pytest.mark.parametrize(("parts", "inverse", "onesided"), [(1, 0, 0), (1, 0, 1), (2, 0, 0), (2, 1, 0)])
def test_transforms(parts: int, inverse: int, onesided: int, axis: int, length: int | None) -> None:
    inputs = {
        "x": normal(2, 8, 9, parts),
        "length": None if length is None else np.array(length),
        "axis": np.array(axis),
    }
    constants = [name for name in ("length", "axis") if inputs[name] is not None]
    proto = model("DFT", inputs, opset=20, inverse=inverse, onesided=onesided, constants=constants)
    agree(proto, inputs, by_reference(proto, inputs), tolerance=1e-4)


def test_a_transform_as_onnxruntime_has_it() -> None:
    holds("DFT", {"x": normal(2, 8, 1)}, opset=17, axis=1, onesided=1)


def test_transform_and_back_is_the_same_signal() -> None:
    x = normal(2, 8, 1)
    inputs = {
        "x": np.stack([np.fft.rfft(x[..., 0]).real, np.fft.rfft(x[..., 0]).imag], -1).astype(np.float32)
    }
    proto = model("DFT", inputs, opset=20, inverse=1, onesided=1)
    agree(proto, inputs, [x])


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize(("window", "length"), [(True, True), (True, False), (False, True)])
def test_short_time_transforms(onesided: int, window: bool, length: bool) -> None:
    inputs = {
        "signal": normal(2, 40, 1),
        "step": np.array(4),
        "window": np.hanning(8).astype(np.float32) if window else None,
        "length": np.array(8) if length else None,
    }
    constants = ["step", *(["length"] if length else [])]
    proto = model("STFT", inputs, opset=17, onesided=onesided, constants=constants)
    agree(proto, inputs, by_reference(proto, inputs))
    gradient_agrees(proto, inputs)


@pytest.mark.parametrize("periodic", [0, 1])
@pytest.mark.parametrize("operator", ["HannWindow", "HammingWindow", "BlackmanWindow"])
def test_windows(operator: str, periodic: int) -> None:
    holds(operator, {"size": np.array(10)}, gradient=False, opset=17, periodic=periodic)


@pytest.mark.parametrize("bins", [4, 10])
def test_the_mel_matrix(bins: int) -> None:
    inputs = {
        "bins": np.array(bins),
        "length": np.array(64),
        "rate": np.array(8000),
        "low": np.array(50.0, np.float32),
        "high": np.array(3800.0, np.float32),
    }
    holds("MelWeightMatrix", inputs, gradient=False, opset=17)
