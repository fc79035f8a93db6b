"""Fresh values: spread by kind of operator and by what follows, the same for the same seed."""

from __future__ import annotations

import io
import math
import warnings

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from prune_engine.errors import SpecError
from prune_engine.formats import find_roles, import_onnx, read_graph
from prune_engine.formats.fresh import fresh_values
from tests.prune_engine.formats.quantised_graphs import LAYERS, quantised_layer


def exported(net: nn.Module, example: torch.Tensor) -> onnx.ModelProto:
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (example,),
            content,
            dynamo=False,
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            input_names=["x"],
            dynamic_axes={"x": {0: "n"}},
        )
    return onnx.load_from_string(content.getvalue())


def deviation(values: np.ndarray) -> float:
    return float(values.std())


def near(expected: float) -> object:
    return pytest.approx(expected, rel=0.1)


def convolutional() -> onnx.ModelProto:
    net = nn.Sequential(
        *(nn.Conv2d(8, 32, 3), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.ConvTranspose2d(32, 16, 4, stride=2), nn.SiLU()),
        *(nn.Conv2d(16, 16, 3, groups=16, bias=True), nn.PReLU(16)),
        *(nn.Flatten(), nn.Linear(16 * 16 * 16, 64), nn.Tanh(), nn.Linear(64, 60)),
    ).eval()
    with torch.no_grad():
        for value in net.state_dict().values():
            if value.is_floating_point():
                value.add_(3.0 + torch.rand_like(value))  # equal ones would be exported as one
    return exported(net, torch.zeros(2, 8, 10, 10))


def test_the_spread_follows_the_fans_and_the_activation_behind() -> None:
    values = fresh_values(convolutional(), 0).values
    assert deviation(values["0.weight"]) == near(math.sqrt(2 / (8 * 9)))  # ReLU behind the BatchNorm
    assert deviation(values["3.weight"]) == near(math.sqrt(2 / (32 * 16 / 4)))  # a stride of 2 x 2
    assert deviation(values["5.weight"]) == near(math.sqrt(2 / 9))
    assert deviation(values["8.weight"]) == near(math.sqrt(2 / (4096 + 64)))  # tanh
    assert deviation(values["10.weight"]) == near(math.sqrt(2 / (64 + 60)))  # the output


def test_biases_norms_slopes_and_statistics_start_over() -> None:
    values = fresh_values(convolutional(), 0).values
    starts = {
        **dict.fromkeys(["3.bias", "5.bias", "8.bias", "10.bias", "1.bias", "1.running_mean"], 0.0),
        **dict.fromkeys(["1.weight", "1.running_var"], 1.0),
    }
    for name, start in starts.items():
        assert (values[name] == start).all(), name
    slopes = [value for value in values.values() if value.size == 16 and (value == 0.25).all()]
    assert len(slopes) == 1


def test_every_trained_value_has_a_start() -> None:
    proto = convolutional()
    fresh = fresh_values(proto, 0)
    roles = find_roles(read_graph(proto))
    assert fresh.kept == ()
    assert set(fresh.values) == roles.trained | roles.statistics


def test_recurrent_cells_and_embeddings_have_a_spread_of_their_own() -> None:
    class Reader(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(500, 24)
            self.cell = nn.LSTM(24, 40, batch_first=True, bidirectional=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            states: torch.Tensor = self.cell(self.words(x))[0]
            return states

    proto = exported(Reader().eval(), torch.zeros(2, 5, dtype=torch.long))
    values = fresh_values(proto, 0).values
    kinds = {name: weight.kind for name, weight in find_roles(read_graph(proto)).prunable.items()}
    by_shape = {(kinds[name], values[name].shape[-1]): values[name] for name in kinds}
    assert deviation(by_shape["Embedding", 24]) == near(0.02)
    assert deviation(by_shape["LSTM", 24]) == near(math.sqrt(2 / (24 + 40)))
    assert deviation(by_shape["LSTM", 40]) == near(math.sqrt(2 / (40 + 40)))


def test_the_same_seed_gives_the_same_values_and_another_does_not() -> None:
    first, again, other = (fresh_values(convolutional(), seed).values for seed in (1, 1, 2))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["0.weight"], other["0.weight"])


def test_nothing_of_what_was_sent_is_left() -> None:
    proto = convolutional()
    module = import_onnx(proto)
    fresh = fresh_values(proto, 0)
    module.set_values(fresh.values)
    for name, value in module.state_values().items():
        assert np.array_equal(value, fresh.values[name]), name


def test_integers_are_refused_as_their_scales_belong_to_other_values() -> None:
    with pytest.raises(SpecError, match="send the float model") as refused:
        fresh_values(quantised_layer(LAYERS["Gemm"]), 0)
    assert refused.value.param == "init"
