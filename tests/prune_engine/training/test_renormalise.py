from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from prune_engine import PruneResult, PruneSpec, prune
from prune_engine.formats import import_onnx, read_values
from prune_engine.spec import parse_spec
from prune_engine.training.renormalise import renormalise
from tests.prune_engine.training import tasks
from tests.trained import export


def arrays() -> dict[str, np.ndarray]:
    digits = load_digits()
    x, y = digits.images.astype(np.float32)[:, None] / 16, digits.target
    return {"x_train": x[:1400], "y_train": y[:1400], "x_test": x[1400:], "y_test": y[1400:]}


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six convolutions with BatchNorm on digits; the exporter folds it into the convolutions."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inputs in (1, *[12] * 5):
        layers += [nn.Conv2d(inputs, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU()]
    net = nn.Sequential(*layers, nn.AvgPool2d(4), nn.Flatten(), nn.Linear(48, 10))
    data = arrays()
    x, y = torch.from_numpy(data["x_train"]), torch.from_numpy(data["y_train"]).long()
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(6):
        for rows in torch.randperm(len(x)).split(128):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
            optimiser.step()
    path = tmp_path_factory.mktemp("folded") / "digits.onnx"
    export(net, torch.zeros(1, 1, 8, 8), path)
    return path


def pruned(path: Path, **fields: object) -> PruneResult:
    spec = {"density": 0.1, "epochs": 4, "batch_size": 64, "preprocess": {"scale": 1.0}, **fields}
    return prune(path, arrays(), PruneSpec.model_validate(spec))


@pytest.fixture(scope="module")
def result(folded: Path) -> PruneResult:
    return pruned(folded)


def test_the_exporter_left_no_normalisation(folded: Path) -> None:
    operators = [node.op_type for node in onnx.load(folded).graph.node]
    assert operators.count("Conv") == 6
    assert "BatchNormalization" not in operators


def test_the_pruned_file_is_exact_and_says_that_it_was_renormalised(
    folded: Path, result: PruneResult
) -> None:
    assert all(check.passed for check in result.report.checks)
    assert result.report.settings["renormalised"] == 6
    assert [node.op_type for node in result.model.graph.node] == [
        node.op_type for node in onnx.load(folded).graph.node
    ]
    for name, values in read_values(result.model, result.masks).items():
        np.testing.assert_array_equal(values != 0.0, result.masks[name])


def test_more_is_left_than_of_the_net_as_it_is_in_the_file(folded: Path, result: PruneResult) -> None:
    off = pruned(folded, renormalise="off")
    assert off.report.settings["renormalised"] == 0
    assert off.report.settings["renormalised_why"] == "as asked"
    assert result.report.quality.pruned.value > off.report.quality.pruned.value + 5.0


def test_the_same_request_gives_the_same_bits(folded: Path, result: PruneResult) -> None:
    assert pruned(folded).model.SerializeToString() == result.model.SerializeToString()


def test_at_density_1_every_value_stays(folded: Path) -> None:
    before = onnx.load(folded)
    after = pruned(folded, density=1.0, epochs="auto").model
    assert list(after.graph.initializer) == list(before.graph.initializer)


SPEC = parse_spec({"density": 0.1})


@pytest.mark.parametrize(
    ("spec", "batch", "fresh", "task", "why"),
    [
        (SPEC, 64, False, {}, ""),
        (parse_spec({"density": 0.1, "renormalise": "off"}), 64, False, {}, "as asked"),
        (parse_spec({"density": 0.1, "train_weights": False}), 64, False, {}, "not trained"),
        (SPEC, 8, False, {}, "too few rows"),
        (SPEC, 64, False, {"fixed_batch": 64}, "too few rows"),
        (SPEC, 64, True, {}, "fresh weights"),
        (SPEC, 64, False, {"task": "regression"}, "not classes"),
    ],
    ids=["it is", "off", "weights stay", "small batch", "fixed batch", "fresh weights", "numbers"],
)
def test_what_is_against_it(
    folded: Path, spec: PruneSpec, batch: int, fresh: bool, task: dict[str, object], why: str
) -> None:
    module = import_onnx(onnx.load(folded))
    count, said = renormalise(module, replace(images(), **task), spec, batch, fresh)  # type: ignore[arg-type]
    assert count == (0 if why else 6)
    assert why in said
    assert len(module.renormalisable()) == (6 if why else 0)


def test_a_net_without_convolutions_stays_as_it_is() -> None:
    net, task = tasks.digits()
    assert renormalise(net, task, SPEC, 64, fresh=False)[0] == 0  # type: ignore[arg-type]


def test_a_net_of_few_convolutions_stays_as_it_is(tmp_path: Path) -> None:
    layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3)]
    net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16, 10))
    export(net, torch.zeros(1, 1, 8, 8), tmp_path / "few.onnx")
    module = import_onnx(onnx.load(tmp_path / "few.onnx"))
    count, why = renormalise(module, images(), SPEC, 64, fresh=False)  # type: ignore[arg-type]
    assert (count, len(module.renormalisable())) == (0, 3)
    assert "so few convolutions" in why


def images() -> tasks.Task:
    """The digits with their axes."""
    _, task = tasks.digits()
    rows = replace(task.train, x=task.train.x.reshape(-1, 1, 8, 8).float())
    return replace(task, train=rows)
