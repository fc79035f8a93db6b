"""n:m, blocks and bounds from request to file: counted here in what was written, and not by the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from prune_engine import PruneSpec, prune
from prune_engine.api import PruneResult, inspect
from prune_engine.errors import SpecError
from tests.trained import export

FIRST, GROUPED, WIDE, LAST = "0.weight", "2.weight", "6.weight", "8.weight"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution with one input, one in four groups, and two linear layers; trained for a moment."""
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 16, 3, padding=1, groups=4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 10)),
    )
    path = tmp_path_factory.mktemp("granular") / "net.onnx"
    export(net, torch.zeros(1, 1, 8, 8), path)
    return path


def pruned(model: Path, **fields: Any) -> tuple[PruneResult, dict[str, np.ndarray]]:
    spec = PruneSpec(**{"epochs": 1, "init": "random", **fields})
    result = prune(model, "digits", spec)
    initializers = {item.name: onnx.numpy_helper.to_array(item) for item in result.model.graph.initializer}
    return result, initializers


def along_inputs(values: np.ndarray) -> np.ndarray:
    """A weight [outputs, inputs, ...] as [outputs, places, inputs]."""
    return np.moveaxis(values.reshape(*values.shape[:2], -1), 2, 1)


def left_out(result: PruneResult) -> dict[str, str]:
    return {one.name: one.reason for one in result.report.left_out}


@pytest.mark.parametrize("method", ["gumbel", "magnitude"])
@pytest.mark.parametrize(("granularity", "n", "m"), [("2:4", 2, 4), ("1:4", 1, 4), ("6:16", 6, 16)])
def test_every_group_holds_exactly_n(model: Path, method: str, granularity: str, n: int, m: int) -> None:
    result, values = pruned(model, granularity=granularity, method=method)
    fitting = [WIDE, LAST] if m == 16 else [GROUPED, WIDE, LAST]
    assert [layer.name for layer in result.report.layers] == fitting
    for name in fitting:
        groups = along_inputs(values[name]).reshape(-1, m)
        assert (np.count_nonzero(groups, axis=1) == n).all(), name
        assert np.array_equal(values[name] != 0, result.masks[name])
    assert (
        left_out(result)[FIRST]
        == f"granularity {granularity}: its 1 input channels are not a multiple of {m}"
    )
    assert np.count_nonzero(values[FIRST]) == values[FIRST].size
    assert result.report.density.reached == n / m
    assert f"every group is {granularity}" in [check.name for check in result.report.checks]


@pytest.mark.parametrize("method", ["gumbel", "magnitude"])
@pytest.mark.parametrize(
    ("granularity", "rows", "columns", "fitting"),
    [
        ("4x1", 4, 1, [FIRST, GROUPED, WIDE]),
        ("1x4", 1, 4, [GROUPED, WIDE, LAST]),
        ("4x4", 4, 4, [GROUPED, WIDE]),
        ("16x16", 16, 16, [WIDE]),
    ],
)
def test_blocks_are_whole_and_as_many_as_asked_for(
    model: Path, method: str, granularity: str, rows: int, columns: int, fitting: list[str]
) -> None:
    result, values = pruned(model, granularity=granularity, method=method, density=0.3)
    assert [layer.name for layer in result.report.layers] == fitting
    kept = total = 0
    for name in fitting:
        matrix = along_inputs(values[name])
        outputs, places, inputs = matrix.shape
        blocks = matrix.reshape(outputs // rows, rows, places, inputs // columns, columns)
        counts = np.count_nonzero(blocks, axis=(1, 4))
        assert np.isin(counts, (0, rows * columns)).all(), name
        kept += int((counts > 0).sum())
        total += counts.size
    assert kept == round(0.3 * total)
    assert f"blocks of {granularity} are whole" in [check.name for check in result.report.checks]


@pytest.mark.parametrize("method", ["gumbel", "magnitude"])
@pytest.mark.parametrize("granularity", ["weight", "1x4"])
def test_layers_stay_within_their_bounds(model: Path, method: str, granularity: str) -> None:
    bounds = {"2.*": (0.5, None), "8.weight": (0.25, 0.25), "6.weight": (None, 0.12)}
    result, values = pruned(model, granularity=granularity, method=method, density=0.15, layer_density=bounds)
    found = {name: np.count_nonzero(values[name]) / values[name].size for name in (GROUPED, WIDE, LAST)}
    assert found[GROUPED] >= 0.5
    assert found[WIDE] <= 0.12 + 1e-3
    assert found[LAST] == pytest.approx(0.25)
    rows = {layer.name: (layer.least, layer.most) for layer in result.report.layers}
    assert (rows[LAST], rows[WIDE]) == ((0.25, 0.25), (None, 0.12))
    assert result.report.density.kept == sum(np.count_nonzero(values[name]) for name in rows)


def test_no_layer_vanishes_unless_that_is_asked_for(model: Path) -> None:
    """The grouped convolution has weights far smaller than all others."""
    proto = onnx.load(model)
    for item in proto.graph.initializer:
        if item.name == GROUPED:
            item.CopyFrom(onnx.numpy_helper.from_array(1e-6 * onnx.numpy_helper.to_array(item), GROUPED))
    asked: dict[str, Any] = {"epochs": 1, "method": "magnitude", "density": 0.01, "learning_rate": 1e-9}
    asked["preprocess"] = {"scale": 0.0625, "layout": "nchw"}
    kept = {}
    for name, bounds in {"guarded": {}, "asked": {GROUPED: (0.0, None)}}.items():
        result = prune(proto, "digits", PruneSpec(**asked, layer_density=bounds))
        kept[name] = {layer.name: layer.kept for layer in result.report.layers}
    assert kept["guarded"][GROUPED] == 1
    assert kept["asked"][GROUPED] == 0
    assert sum(kept["guarded"].values()) == sum(kept["asked"].values())


def test_the_same_seed_gives_the_same_patterns(model: Path) -> None:
    one, other = (pruned(model, granularity="2:4", seed=3)[1] for _ in range(2))
    assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        (
            {"density": 0.3, "granularity": "7x7"},
            "granularity",
            "its 16 output channels are not a multiple of 7",
        ),
        ({"density": 0.1, "layer_density": {"nowhere": (0.1, 1)}}, "layer_density", "'nowhere' matches no"),
        (
            {"density": 0.1, "layer_density": {"6*": (0.5, 1)}},
            "layer_density|density",
            "smallest density .* 0.462",
        ),
        ({"density": 0.9, "layer_density": {"6*": (0, 0.5)}}, "layer_density", "density can be .* to 0.5"),
        (
            {"density": 0.1, "layer_density": {"6*": (0.5, 1), "*weight": (0, 0.2)}},
            "layer_density",
            "'6.weight' is asked for at least 0.5 and at most 0.2",
        ),
        ({"density": 5e-4}, "density", r"'8.weight', need 10; the smallest density .* 5\.26e-04|0\.0005"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(
    model: Path, fields: dict[str, Any], param: str, said: str
) -> None:
    with pytest.raises(SpecError, match=said) as caught:
        prune(model, "digits", PruneSpec(**fields, init="random"))
    assert caught.value.param in param.split("|")


def test_an_inspection_says_what_fits_and_which_density_there_will_be(model: Path) -> None:
    found = inspect(model, None, {"granularity": "2:4"})
    assert found.density is not None
    assert (found.density.granularity, found.density.step) == ("2:4", 0.0)
    assert found.density.smallest == found.density.reached == 0.5
    assert [one.name for one in found.left_out] == [FIRST]
    blocks = inspect(model, None, {"granularity": "4x4", "density": 0.3}).density
    assert blocks is not None
    assert blocks.step == 16 / (16 * 4 * 9 + 256 * 64)
    assert blocks.kept is not None
    assert blocks.kept % 16 == 0
