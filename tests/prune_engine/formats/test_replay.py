"""Recorded passes: when one is recorded and replayed, and on a GPU that nothing else comes of it."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from prune_engine.formats import OnnxModule, Replays, import_onnx
from prune_engine.formats.replay import RECORDED, Outputs, Pass, require_own_memory
from tests.prune_engine.formats.flattened import flat

ROWS, WIDTH = 6, 5
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")


def network(*middle: onnx.NodeProto) -> OnnxModule:
    """A convolution with BatchNorm of odd widths, then `middle` from "b" to "c", then a linear layer."""
    random = np.random.default_rng(0)

    def value(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(random.standard_normal(shape).astype(np.float32) / 4, name)

    ones = numpy_helper.from_array(np.ones(WIDTH, np.float32), "var")
    nodes = [
        helper.make_node("Conv", ["x", "w", "wb"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", "scale", "shift", "mean", "var"], ["b"]),
        *(middle or (helper.make_node("Relu", ["b"], ["c"]),)),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("Gemm", ["d", "v", "vb"], ["y"], transB=1),
    ]
    constants = [
        *(value("w", WIDTH, 1, 3, 3), value("wb", WIDTH), value("scale", WIDTH), value("shift", WIDTH)),
        *(value("mean", WIDTH), ones, value("v", 3, WIDTH * 16), value("vb", 3)),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1, 4, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph(nodes, "g", [x], [y], constants)
    return import_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9))


class Recorder:
    """Records nothing, and counts."""

    def __init__(self, error: str = "") -> None:
        self.recorded = self.replayed = 0
        self._error = error

    def __call__(self, compute: Pass, example: tuple[Tensor, ...]) -> Pass:
        compute(*example)  # as a warm-up does
        if self._error:
            raise RuntimeError(self._error)
        self.recorded += 1

        def replay(*tensors: Tensor) -> Outputs:
            self.replayed += 1
            return compute(*tensors)

        return replay


def ready(record: Recorder) -> OnnxModule:
    module = network()
    module.replays = Replays(record, seen=2)
    module.train()
    return module


def step(module: OnnxModule, rows: int = ROWS, seed: int = 0) -> list[Tensor]:
    x = torch.rand(rows, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    outputs = module(x.to(next(module.parameters()).device))
    outputs[0].square().sum().backward()
    gradients = []
    for parameter in module.parameters():
        assert parameter.grad is not None
        gradients.append(parameter.grad.clone())
        parameter.grad = None
    return [outputs[0].detach().clone(), *gradients]


def test_what_comes_again_and_again_is_recorded_once_and_then_replayed() -> None:
    record = Recorder()
    module = ready(record)
    assert module.replays is not None
    assert module.replays.said.startswith("not recorded")
    for _ in range(6):
        step(module)
    assert (record.recorded, record.replayed) == (1, 3)
    assert module.replays.said == RECORDED


def test_nothing_else_comes_of_it() -> None:
    plain, module = network().train(), ready(Recorder())
    for number in range(5):
        for one, other in zip(step(plain, seed=number), step(module, seed=number), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    for name, value in plain.state_values().items():  # what a warm-up did to running statistics is undone
        np.testing.assert_allclose(module.state_values()[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_every_shape_is_recorded_for_itself() -> None:
    record = Recorder()
    module = ready(record)
    for _ in range(4):
        step(module)
        step(module, rows=ROWS + 1)
    assert (record.recorded, record.replayed) == (2, 2)


def test_inference_is_left_alone() -> None:
    record = Recorder()
    module = ready(record)
    with torch.no_grad():
        for _ in range(4):
            module(torch.rand(ROWS, 1, 4, 4))
    assert record.recorded == 0


def test_a_training_that_leaves_statistics_alone_is_recorded_for_itself() -> None:
    record = Recorder()
    plain, module = network().eval(), ready(record)
    for _ in range(4):
        step(module)
    module.eval()
    module.set_values(plain.state_values())
    for number in range(4):
        for one, other in zip(step(plain, seed=number), step(module, seed=number), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
    assert (record.recorded, record.replayed) == (2, 2)


def test_what_is_against_it_is_said() -> None:
    record = Recorder()
    module = ready(record)
    module.replays = Replays(record, seen=2, against="the model has several outputs")
    for _ in range(4):
        step(module)
    assert record.recorded == 0
    assert module.replays.said == "not recorded: the model has several outputs"


def test_gradients_that_are_added_up_do_not_come_from_recorded_passes() -> None:
    record = Recorder()
    module = ready(record)
    for _ in range(3):
        step(module)
    for _ in range(2):
        module(torch.rand(ROWS, 1, 4, 4))[0].sum().backward()
    assert (record.recorded, record.replayed) == (1, 1)


def test_parameters_that_have_moved_are_recorded_anew() -> None:
    record = Recorder()
    module = ready(record)
    for _ in range(4):
        step(module)
    for parameter in module.parameters():
        parameter.data = parameter.data.clone()
    for _ in range(4):
        step(module)
    assert (record.recorded, record.replayed) == (2, 2)


def test_what_cannot_be_recorded_is_computed_and_not_tried_again() -> None:
    record = Recorder(error="operation not permitted\nmore lines")
    plain, module = network().train(), ready(record)
    for number in range(5):
        for one, other in zip(step(plain, seed=number), step(module, seed=number), strict=True):
            assert torch.equal(one, other)
    assert module.replays is not None
    assert module.replays.said == "not recorded: operation not permitted"


def test_a_copy_records_for_itself_and_says_so_in_the_original() -> None:
    record = Recorder()
    module = ready(record)
    other = copy.deepcopy(module)
    for _ in range(4):
        step(other)
    assert record.recorded == 1
    assert module.replays is not None
    assert module.replays.said == RECORDED


def test_only_one_of_several_copies_holds_recorded_passes() -> None:
    record = Recorder()
    module = ready(record)
    other = copy.deepcopy(module)
    for one in (module, other):
        for _ in range(4):
            step(one)
    assert (record.recorded, record.replayed) == (2, 2)
    step(module)  # has none any more, and records it again
    step(module)
    assert (record.recorded, record.replayed) == (3, 3)


def test_gradients_that_share_their_memory_are_refused() -> None:
    one, other = torch.zeros(3), torch.zeros(3)
    require_own_memory([one, other])
    with pytest.raises(RuntimeError, match="share"):
        require_own_memory([one, other, one.detach()])


@cuda
@pytest.mark.parametrize("bfloat16", [False, True])
def test_cuda_replays_what_it_would_compute(bfloat16: bool) -> None:
    device = torch.device("cuda")
    plain, module = (flat(network(), device).train() for _ in range(2))
    module.replays = Replays(seen=3)
    with torch.autocast("cuda", torch.bfloat16, enabled=bfloat16):
        for number in range(8):
            compared = zip(step(plain, seed=number), step(module, seed=number), strict=True)
            tolerance = 2e-2 if bfloat16 else 1e-3
            for one, other in compared:
                torch.testing.assert_close(one.float(), other.float(), rtol=tolerance, atol=tolerance)
    assert module.replays.said == RECORDED
    for name, value in plain.state_values().items():
        np.testing.assert_allclose(module.state_values()[name], value, rtol=1e-2, atol=1e-2, err_msg=name)


@cuda
def test_cuda_goes_on_where_a_pass_cannot_be_recorded() -> None:
    middle: Sequence[onnx.NodeProto] = [
        helper.make_node("NonZero", ["b"], ["places"]),
        helper.make_node("Size", ["places"], ["count"]),
        helper.make_node("Cast", ["count"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["b", "number"], ["c"]),
    ]
    device = torch.device("cuda")
    plain, module = (flat(network(*middle), device).train() for _ in range(2))
    module.replays = Replays(seen=1)
    for number in range(4):
        for one, other in zip(step(plain, seed=number), step(module, seed=number), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    assert module.replays.said.startswith("not recorded: ")
