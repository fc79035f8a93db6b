from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from prune_engine.formats import import_onnx
from prune_engine.formats.module import OnnxModule
from prune_engine.formats.renormalised import SMALLEST, folded
from tests.prune_engine.formats.graphs import model, values


def residual(**changed: np.ndarray) -> onnx.ModelProto:
    """Three convolutions with biases, the second in groups, a sum around the last one, and a linear layer."""
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Conv", ["r", "w2", "b2"], ["c"], name="conv2", pads=[1, 1, 1, 1], group=2),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Conv", ["d", "w3", "b3"], ["e"], name="conv3", kernel_shape=[1, 1]),
        helper.make_node("Add", ["e", "r"], ["f"]),
        helper.make_node("Relu", ["f"], ["g"]),
        helper.make_node("GlobalAveragePool", ["g"], ["h"]),
        helper.make_node("Flatten", ["h"], ["i"]),
        helper.make_node("Gemm", ["i", "w4", "b4"], ["y"], name="linear", transB=1),
    ]
    weights = {
        "w1": values(8, 2, 3, 3),
        "b1": values(8, seed=1),
        "w2": values(8, 4, 3, 3, seed=2) * np.float32(30.0),
        "b2": values(8, seed=3),
        "w3": values(8, 8, 1, 1, seed=4),
        "b3": values(8, seed=5),
        "w4": values(3, 8, seed=6),
        "b4": values(3, seed=7),
    }
    return model(nodes, {**weights, **changed}, shape=("n", 2, 6, 6), output=("n", 3))


def batches(count: int = 4, seed: int = 9) -> list[tuple[torch.Tensor, ...]]:
    return [(torch.from_numpy(values(16, 2, 6, 6, seed=seed + number)),) for number in range(count)]


def renormalised() -> OnnxModule:
    module = import_onnx(residual())
    module.renormalise(batches())
    return module.eval()


def trained(module: OnnxModule, steps: int = 5) -> None:
    """A few steps that move weights, gains and running statistics; every third weight is held at zero."""
    optimiser = torch.optim.Adam(module.parameters(), 1e-2)
    module.train()
    for inputs in batches(steps, seed=20):
        optimiser.zero_grad()
        module(*inputs)[0].square().mean().backward()
        optimiser.step()
        with torch.no_grad():
            for weight in module.prunable:
                module.weights[weight.name].view(-1)[::3] = 0.0
    module.eval()


def outputs(module: OnnxModule) -> torch.Tensor:
    with torch.no_grad():
        return module(*batches(1, seed=50)[0])[0]


def test_the_function_is_the_same_at_the_start() -> None:
    before = import_onnx(residual()).eval()
    after = renormalised()
    assert after.renormalisable() == []  # nothing is given a second one
    torch.testing.assert_close(outputs(after), outputs(before), rtol=1e-5, atol=1e-4)
    assert {"w1/gain", "w2/gain", "w3/gain"} == set(after.weights) - set(before.weights)
    for name, value in before.state_values().items():
        np.testing.assert_allclose(after.state_values()[name], value, rtol=1e-5, atol=2e-4)  # means of 100


def test_in_training_channels_have_the_mean_and_deviation_that_gain_and_shift_say() -> None:
    module = renormalised().train()
    with torch.no_grad():
        module.weights["w2"].mul_(100.0)
        loud = module(*batches(1)[0])[0]
        module.weights["w2"].div_(100.0)
        torch.testing.assert_close(loud, module(*batches(1)[0])[0], rtol=1e-3, atol=1e-3)


def test_folded_it_computes_the_same_without_batch_norm_and_zeros_stay_zeros() -> None:
    module = renormalised()
    trained(module)
    wanted, said = outputs(module), module.state_values()
    module.fold()
    assert set(module.weights) == {"w1", "b1", "w2", "b2", "w3", "b3", "w4", "b4"}
    assert not list(module.buffers())
    torch.testing.assert_close(outputs(module), wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max()))
    for name, value in module.state_values().items():
        np.testing.assert_array_equal(value, said[name])
    for weight in module.prunable:
        zeros = (module.weights[weight.name] == 0.0).reshape(-1)
        assert zeros[::3].all()
        assert not zeros[1::3].any()
        assert not zeros[2::3].any()


def test_folding_what_was_never_renormalised_changes_nothing() -> None:
    module = import_onnx(residual())
    before = module.state_values()
    module.fold()
    assert all(np.array_equal(value, before[name]) for name, value in module.state_values().items())


def test_it_can_be_put_in_again_after_folding() -> None:
    module = renormalised()
    trained(module)
    module.fold()
    wanted = outputs(module)
    module.renormalise(batches())
    torch.testing.assert_close(
        outputs(module.eval()), wanted, rtol=1e-5, atol=1e-5 * float(wanted.abs().max())
    )


def test_a_kept_weight_whose_channel_has_no_gain_is_not_folded_to_zero() -> None:
    weight = torch.tensor([[1.0, 0.0, -2.0]])
    found, bias = folded(weight, torch.tensor([3.0]), torch.zeros(1), torch.ones(1), torch.ones(1))
    assert found.tolist() == [[pytest.approx(SMALLEST), 0.0, pytest.approx(-SMALLEST)]]
    assert bias.tolist() == [3.0]


def norm_before(**_: object) -> onnx.ModelProto:
    proto = residual()
    scale = {"s": values(2), "t": values(2), "m": values(2), "v": np.ones(2, np.float32)}
    norm = helper.make_node("BatchNormalization", ["x", "s", "t", "m", "v"], ["x2"], name="norm")
    proto.graph.node[0].input[0] = "x2"
    proto.graph.node.insert(0, norm)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(v, k) for k, v in scale.items())
    return proto


def shared_weight() -> onnx.ModelProto:
    proto = residual(w3=values(8, 4, 3, 3))
    last = proto.graph.node[4]
    last.input[1] = "w2"
    del last.attribute[:]
    last.attribute.extend(proto.graph.node[2].attribute)
    return proto


def without_bias() -> onnx.ModelProto:
    proto = residual()
    for place in (0, 2, 4):
        del proto.graph.node[place].input[2]
    return proto


def result_of_the_graph() -> onnx.ModelProto:
    nodes = [helper.make_node("Conv", ["x", "w1", "b1"], ["y"], name="conv1")]
    return model(nodes, {"w1": values(8, 2, 3, 3), "b1": values(8)}, shape=("n", 2, 6, 6))


@pytest.mark.parametrize(
    ("proto", "wanted"),
    [
        (residual(), ["w1", "w2", "w3"]),
        (norm_before(), []),
        (shared_weight(), ["w1"]),
        (without_bias(), []),
        (result_of_the_graph(), []),
    ],
    ids=["plain", "normalised already", "shared weight", "no bias", "result of the graph"],
)
def test_which_convolutions_get_one(proto: onnx.ModelProto, wanted: list[str]) -> None:
    assert import_onnx(proto).renormalisable() == wanted
