"""Sizes that follow from the graph: weights behind slices whose bounds an exporter wrote as arithmetic."""

from __future__ import annotations

import io
import warnings

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import Tensor, nn

from prune_engine.formats import import_onnx
from prune_engine.formats.flow import Flow
from prune_engine.formats.reading import read_graph
from tests.prune_engine.formats.graphs import model, values
from tests.prune_engine.formats.running import distance, run


class Decoder(nn.Module):
    """Cross-attention: the exporter cuts the projection by the size of the query."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerDecoderLayer(16, 2, 32, batch_first=True)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        out: Tensor = self.layer(x, memory)
        return out


@pytest.mark.parametrize("folding", [True, False])
def test_the_projection_of_a_cross_attention_is_one_prunable_weight(folding: bool) -> None:
    net = Decoder().eval()
    given = torch.randn(2, 5, 16), torch.randn(2, 7, 16)
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net, given, stream, dynamo=False, opset_version=17, do_constant_folding=folding,
            input_names=["x", "memory"], dynamic_axes={"x": {0: "batch"}, "memory": {0: "batch"}},
        )  # fmt: skip
    proto = onnx.load_model_from_string(stream.getvalue())
    module = import_onnx(proto)
    found = {weight.name: weight for weight in module.prunable}
    projection = found["layer.multihead_attn.in_proj_weight"]
    assert (projection.shape, projection.output_axis, len(projection.nodes)) == ((48, 16), 0, 2)
    assert sum(np.prod(weight.shape) for weight in module.prunable) == sum(
        parameter.numel() for name, parameter in net.named_parameters() if parameter.dim() == 2
    )
    module.eval()
    other = torch.randn(3, 5, 16), torch.randn(3, 7, 16)
    found_outputs = module(*other)
    assert distance(found_outputs, run(proto, *other)) < 1e-5
    (found_outputs[0] * torch.randn(3, 5, 16)).sum().backward()
    gradient = module.weights["layer.multihead_attn.in_proj_weight"].grad
    assert gradient is not None
    assert all(part.abs().sum() > 0 for part in gradient.split(16))


def known(nodes: list[onnx.NodeProto], result: str, **constants: np.ndarray) -> list[int] | None:
    """The numbers that the flow finds for `result`, of a graph whose input x is (n, 3, 4)."""
    constants = {"w": values(4, 3), **constants}
    proto = model([*nodes, helper.make_node("Identity", ["x"], ["y"])], constants, shape=["n", 3, 4])
    flow = Flow(read_graph(proto))
    flow.run()
    numbers = flow.numbers.of(result)
    return None if numbers is None else numbers.reshape(-1).tolist()


def index(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def test_a_size_that_the_batch_is_not_part_of_is_known() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["h"]),
        helper.make_node("Transpose", ["h"], ["t"], perm=[2, 0, 1]),
        helper.make_node("Shape", ["t"], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["size"]),
        helper.make_node("Mul", ["size", "two"], ["double"]),
    ]
    assert known(nodes, "double", first=index(0), two=index(2)) == [8]


def test_the_batch_is_never_known_also_where_the_file_fixes_it() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "i"], ["size"]),
    ]
    assert known(nodes, "size", i=index(0)) is None
    assert known(nodes, "shape", i=index(0)) is None
    assert known(nodes, "size", i=index(1)) == [3]


def test_a_partly_known_shape_answers_no_question_about_its_values() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Equal", ["shape", "asked"], ["same"]),
        helper.make_node("Mul", ["shape", "asked"], ["product"]),
    ]
    assert known(nodes, "same", asked=index(0, 3, 5)) is None
    assert known(nodes, "product", asked=index(0, 3, 5)) is None


def test_a_matrix_product_keeps_the_rows_and_a_sum_what_is_sure() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Add", ["h", "bias"], ["sum"]),
        helper.make_node("Unsqueeze", ["sum", "axis"], ["wide"]),
        helper.make_node("Shape", ["wide"], ["shape"]),
        helper.make_node("Slice", ["shape", "from", "to"], ["size"]),
    ]
    constants = {"bias": values(3), "axis": index(1), "to": index(4)}
    assert known(nodes, "size", **constants, **{"from": index(1)}) == [1, 3, 3]
    assert known(nodes, "size", **constants, **{"from": index(0)}) is None
