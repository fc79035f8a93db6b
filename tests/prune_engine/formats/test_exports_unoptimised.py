"""The export that docs/models.md names first (`optimize=False`): every parameter trains, and no mask does."""

from __future__ import annotations

import onnx
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from prune_engine.formats import import_onnx
from tests.prune_engine.formats.running import distance, run

pytestmark = pytest.mark.filterwarnings("ignore")


class Last(nn.Module):
    """A recurrent layer whose last step goes through a head."""

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(width, 3)

    def forward(self, x: Tensor, *states: Tensor) -> Tensor:
        return self.head(self.layer(x, tuple(states) if states else None)[0][:, -1])


class Masked(nn.Module):
    """A linear layer that sees the features before its own, as in MADE."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.register_buffer("mask", torch.tril(torch.ones(width, width)))
        self.register_buffer("chosen", (torch.arange(width) % 2).float())

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.linear.weight * self.mask, self.linear.bias) * self.chosen


def exported(net: nn.Module, given: tuple[Tensor, ...], axes: tuple[int, ...]) -> onnx.ModelProto:
    shapes = tuple({axis: torch.export.Dim.DYNAMIC} for axis in axes)
    program = torch.export.export(net.eval(), given, dynamic_shapes=shapes)
    result = torch.onnx.export(program, dynamo=True, optimize=False, opset_version=20, verbose=False)
    assert result is not None
    proto: onnx.ModelProto = result.model_proto
    return proto


def rows(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


NETS: dict[str, tuple[nn.Module, tuple[Tensor, ...], tuple[int, ...]]] = {
    "lstm": (Last(nn.LSTM(8, 5, 2, batch_first=True, bidirectional=True), 10), (rows(3, 6, 8),), (0,)),
    "gru": (Last(nn.GRU(8, 5, batch_first=True), 5), (rows(3, 6, 8),), (0,)),
    "decoder": (
        nn.TransformerDecoderLayer(8, 2, 16, batch_first=True),
        (rows(3, 5, 8), rows(3, 4, 8)),
        (0, 0),
    ),
    "group norm": (nn.Sequential(nn.Conv1d(6, 4, 1), nn.GroupNorm(2, 4)), (rows(3, 6, 7),), (0,)),
    "masked": (nn.Sequential(Masked(8), nn.ReLU(), nn.Linear(8, 3)), (rows(3, 8),), (0,)),
    "pruned": (
        nn.Sequential(prune.l1_unstructured(nn.Linear(8, 6), "weight", 0.5), nn.ReLU(), nn.Linear(6, 3)),
        (rows(3, 8),),
        (0,),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_every_parameter_trains_and_every_matrix_is_prunable(name: str) -> None:
    net, given, axes = NETS[name]
    proto = exported(net, given, axes)
    module = import_onnx(proto).eval()
    assert distance(module(*given), run(proto, *given)) < 1e-5
    parameters = dict(net.named_parameters())
    assert set(module.weights) == set(parameters)
    assert {w.name for w in module.prunable} == {n for n, p in parameters.items() if p.dim() > 1}


def test_the_states_of_a_recurrent_layer_may_be_inputs() -> None:
    given = (rows(3, 6, 8), rows(1, 3, 5), rows(1, 3, 5))
    net = nn.LSTM(8, 5, batch_first=True)

    class With(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = net

        def forward(self, x: Tensor, h: Tensor, c: Tensor) -> Tensor:
            return self.layer(x, (h, c))[0]

    module = import_onnx(exported(With(), given, (0, 1, 1)))
    assert set(module.weights) == {f"layer.{name}" for name, _ in net.named_parameters()}
