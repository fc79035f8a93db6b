"""What torch's newer exporter leaves in a graph, put right without a change of what it computes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from prune_engine.formats import import_onnx
from prune_engine.formats.conversion.exporter_quirks import put_right
from tests.prune_engine.formats.running import distance, run

pytestmark = pytest.mark.filterwarnings("ignore")


def exported(net: nn.Module, x: Tensor, axis: int) -> onnx.ModelProto:
    shapes = ({axis: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(net.eval(), (x,), dynamic_shapes=shapes)
    result = torch.onnx.export(program, dynamo=True, optimize=False, opset_version=20, verbose=False)
    assert result is not None
    proto: onnx.ModelProto = result.model_proto
    return proto


class Splitting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 12)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.a(x).split(5, dim=2)[0], *self.a(x).split([5, 7], dim=-1)
        return torch.cat([q * k, v, self.a(x).split(5, dim=2)[-1]], -1)


def test_sequences_that_are_taken_apart_become_split() -> None:
    x = torch.randn(2, 5, 6)
    proto = exported(Splitting(), x, 1)
    before = run(proto, x)
    assert "SplitToSequence" in {n.op_type for n in proto.graph.node}
    proto = put_right(proto)
    onnx.checker.check_model(proto, full_check=True)
    assert not {"SplitToSequence", "SequenceAt"} & {n.op_type for n in proto.graph.node}
    for a, b in zip(before, run(proto, x), strict=True):
        np.testing.assert_array_equal(a, b)
    longer = torch.randn(2, 9, 6)
    assert distance(import_onnx(proto)(longer), run(proto, longer)) < 1e-5


def test_a_sequence_of_unknown_length_is_left_alone() -> None:
    class Open(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(x).split(2, dim=1)[0]

    proto = put_right(exported(Open(), torch.randn(2, 6, 6), 1))
    kinds = [n.op_type for n in proto.graph.node]
    assert "Split" not in kinds
    run(proto, torch.randn(2, 6, 6))


def test_a_recurrent_layer_s_weights_are_weights() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.r, self.o = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.o(self.r(x)[0][:, -1])

    x = torch.randn(2, 5, 4)
    proto = exported(Net(), x, 0)
    before = run(proto, x)
    proto = put_right(proto)
    for a, b in zip(before, run(proto, x), strict=True):
        np.testing.assert_array_equal(a, b)
    assert {w.name for w in import_onnx(proto).prunable} == {"r.weight_ih_l0", "r.weight_hh_l0", "o.weight"}


def test_sizes_that_are_fixed_are_numbers() -> None:
    proto = exported(Splitting(), torch.randn(2, 5, 6), 1)
    dim = proto.graph.input[0].type.tensor_type.shape.dim[0]
    dim.dim_param = "2"
    put_right(proto)
    assert dim.dim_value == 2
    assert proto.graph.input[0].type.tensor_type.shape.dim[1].dim_param, "free sizes stay free"
