from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from sklearn.metrics import accuracy_score, log_loss

from prune_engine.data.built_in import digits
from prune_engine.errors import ModelError, VerificationError
from prune_engine.measure import measure_quality, run_session, session
from tests.prune_engine.data.nets import digits_layers, mlp, prepared_for


def changed(model: onnx.ModelProto, name: str, change: object) -> onnx.ModelProto:
    other = onnx.ModelProto()
    other.CopyFrom(model)
    for tensor in other.graph.initializer:
        if tensor.name == name:
            assert callable(change)
            tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), name))
    return other


@pytest.mark.parametrize("end", [None, "Softmax"])
def test_accuracy_and_cross_entropy_are_scikit_learns(end: str | None) -> None:
    data, model = digits(), mlp(digits_layers(), end=end)
    prepared = prepared_for(model, data)
    quality = measure_quality(session(model, 1), prepared.holdout, prepared)
    (output,) = run_session(session(model, 1), prepared.holdout.feed(slice(None)))
    soft = output if end else np.exp(output) / np.exp(output).sum(axis=1, keepdims=True)
    soft = soft.astype(np.float64)
    assert quality.rows == 359
    assert quality.value == pytest.approx(100 * accuracy_score(data["y_test"], output.argmax(axis=1)))
    expected = log_loss(data["y_test"], soft / soft.sum(axis=1, keepdims=True), labels=range(10))
    assert quality.loss == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("loss", "expected"), [("mse", 25.0), ("mae", 5.0)])
def test_errors_are_in_the_labels_unit(loss: str, expected: float) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 3))
    layers = [(np.array([[10.0], [20.0], [30.0]]), np.zeros(1))]
    model = mlp(layers)
    prepared = prepared_for(model, {"x": x, "y": (x @ layers[0][0]).ravel()}, loss=loss)
    shifted = changed(model, "b0", lambda bias: bias + np.float32(5))
    quality = measure_quality(session(shifted, 1), prepared.holdout, prepared)
    assert quality.value == pytest.approx(expected, rel=1e-4)
    assert prepared.metric.name == loss


def test_agreement_with_the_dense_model() -> None:
    model = mlp(digits_layers(), end="Softmax")
    prepared = prepared_for(model, {"x": digits()["x_train"]})
    dense, other = session(model, 1), session(changed(model, "w1", lambda w: w[:, ::-1].copy()), 1)
    same = measure_quality(dense, prepared.holdout, prepared, dense)
    assert (same.value, round(same.loss, 6)) == (100, 0)
    assert prepared.metric.name == "agreement"
    assert measure_quality(other, prepared.holdout, prepared, dense).value < 50


def test_the_relative_error_is_the_root_of_error_over_variance() -> None:
    rng = np.random.default_rng(0)
    model = mlp([(rng.normal(size=(3, 2)), np.zeros(2))])
    prepared = prepared_for(model, {"x": rng.normal(size=(100, 3))})
    doubled = changed(model, "w0", lambda w: 2 * w)
    quality = measure_quality(session(doubled, 1), prepared.holdout, prepared, session(model, 1))
    (dense,) = run_session(session(model, 1), prepared.holdout.feed(slice(None)))
    assert quality.value == pytest.approx(float(np.sqrt((dense**2).mean() / dense.var())), rel=1e-4)


def test_distillation_cannot_be_measured_without_the_dense_model() -> None:
    model = mlp(digits_layers(), end="Softmax")
    prepared = prepared_for(model, {"x": digits()["x_train"]})
    with pytest.raises(TypeError, match="dense model"):
        measure_quality(session(model, 1), prepared.holdout, prepared)


def test_nan_outputs_are_a_failure_and_not_a_figure() -> None:
    model = mlp(digits_layers())
    prepared = prepared_for(model, digits())
    broken = changed(model, "b1", lambda bias: bias * np.float32(np.nan))
    with pytest.raises(VerificationError, match="NaN or infinity"):
        measure_quality(session(broken, 1), prepared.holdout, prepared)


def test_a_model_that_onnxruntime_refuses_is_a_model_error() -> None:
    with pytest.raises(ModelError, match="onnxruntime does not load"):
        session(b"nonsense")
