"""Whether a batch size that a file names can be another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from prune_engine.formats import import_onnx
from prune_engine.training.batch_freedom import runs_at_any_batch
from tests.prune_engine.training.tasks import Network


class Mixing(Network):
    """Every row sees the mean of its batch."""

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        return (self.net(inputs[0] - inputs[0].mean(0)),)


class Demanding(Network):
    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        assert len(inputs[0]) == 4
        return super().forward(*inputs)


@pytest.mark.parametrize(("kind", "free"), [(Network, True), (Mixing, False), (Demanding, False)])
def test_rows_must_not_see_how_many_they_are(kind: type[Network], free: bool) -> None:
    module = kind(nn.Sequential(nn.Linear(3, 5), nn.Dropout(0.5))).train()
    assert runs_at_any_batch(module, [torch.randn(8, 3)], 4) is free
    assert module.training


def test_statistics_are_not_moved() -> None:
    module = Network(nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5))).train()
    before = {name: value.copy() for name, value in module.state_values().items()}
    assert runs_at_any_batch(module, [torch.randn(8, 3)], 4)
    assert all((before[name] == value).all() for name, value in module.state_values().items())


def test_too_few_rows_tell_nothing() -> None:
    with pytest.raises(ValueError, match="do not tell"):
        runs_at_any_batch(Network(nn.Sequential(nn.Linear(3, 5))), [torch.randn(4, 3)], 4)


def test_a_graph_whose_batch_was_opened_runs_at_any() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Reshape", ["h", "s"], ["y"]),
    ]
    stored = {"w": np.ones((4, 2), np.float32), "s": np.array([1, 6])}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", 1, [1, 3, 4])],
        [helper.make_tensor_value_info("y", 1, [1, 6])],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    module = import_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
    assert runs_at_any_batch(module, [torch.randn(5, 3, 4)], 1)
