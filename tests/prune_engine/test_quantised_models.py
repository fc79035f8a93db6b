"""A quantised model is pruned as it is: integers stay integers, scales and nodes stay what they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from prune_engine import PruneResult, PruneSpec, prune
from prune_engine.data.built_in import digits
from prune_engine.formats import read_values
from tests.quantised import FORMATS, float_net, images, quantise

WEIGHTS = 5_008
DENSITY = 0.2
MULTIPLY_ADDS = 159_232


@pytest.fixture(scope="module")
def data() -> dict[str, np.ndarray]:
    return digits()


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, data: dict[str, np.ndarray]) -> Path:
    return float_net(data, tmp_path_factory.mktemp("quantised"))


def accuracy(proto: onnx.ModelProto, data: dict[str, np.ndarray]) -> float:
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    (output,) = session.run(None, {"x": images(data, "test")})
    return 100 * float((output.argmax(1) == data["y_test"]).mean())


def constants(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}


def agreement(result: PruneResult) -> str:
    return next(check.detail for check in result.report.checks if "agrees" in check.name)


@pytest.mark.parametrize("form", FORMATS)
def test_a_fifth_of_the_weights_is_nearly_as_good(form: str, path: Path, data: dict[str, np.ndarray]) -> None:
    sent = quantise(path, data, form)
    result = prune(sent, data, PruneSpec(density=DENSITY, epochs=5))
    before, after = constants(sent), constants(result.model)
    assert sum(mask.size for mask in result.masks.values()) == WEIGHTS
    kept = sum(int(np.count_nonzero(value)) for value in read_values(result.model, result.masks).values())
    assert kept == round(DENSITY * WEIGHTS) == result.report.density.kept
    assert accuracy(sent, data) > 94
    assert accuracy(result.model, data) > accuracy(sent, data) - 5
    assert result.report.quality.pruned.value == pytest.approx(accuracy(result.model, data))
    assert result.model.graph.node == sent.graph.node
    assert [value.dtype for value in after.values()] == [value.dtype for value in before.values()]
    changed = {name for name in before if before[name].tobytes() != after[name].tobytes()}
    assert set(result.masks) <= changed
    assert not any(name.endswith(("_scale", "_zero_point")) for name in changed)
    assert all("bias" in name for name in changed - set(result.masks))
    assert "quantisation" in agreement(result)
    operations = result.report.operations
    assert operations.before == MULTIPLY_ADDS
    assert operations.effective is not None
    assert operations.effective < 0.5 * MULTIPLY_ADDS


def test_pruned_integers_are_the_zero_point(path: Path, data: dict[str, np.ndarray]) -> None:
    """Of unsigned weights that is not 0."""
    sent = quantise(path, data, "unsigned")
    result = prune(sent, data, PruneSpec(density=DENSITY, epochs=1))
    after = constants(result.model)
    for name, mask in result.masks.items():
        zero = after[name.replace("_quantized", "_zero_point")]
        assert zero > 0
        np.testing.assert_array_equal(after[name] != zero, mask)


def test_at_full_density_nothing_is_lost(path: Path, data: dict[str, np.ndarray]) -> None:
    sent = quantise(path, data, "by channel")
    result = prune(sent, data, PruneSpec(density=1.0, epochs=1))
    assert result.report.density.reached == 1.0
    assert accuracy(result.model, data) > accuracy(sent, data) - 2
