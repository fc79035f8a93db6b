"""The dense nets that every method starts from: trained once a seed by a fixed recipe, kept in `.cache`."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import nn

from benchmarks.accuracy import nets
from benchmarks.accuracy.loop import measure, one_cycle, train
from benchmarks.accuracy.rows import CACHE, ROOT, Rows
from benchmarks.accuracy.tasks import Task

RECIPES = 1
"""Raised with every change of a recipe: runs from other dense nets are not compared."""

FOLDER = CACHE / "accuracy" / "dense"
RESNET20 = ROOT.parent / "shared" / "models" / "cifar10_resnet" / "resnet20.onnx"
"""Beside it lies the same net with its BatchNorm, as TorchScript."""


@dataclass(frozen=True)
class Recipe:
    """Adam with a one-cycle schedule.

    Args:
        build: an untrained net for these rows; called with what dropout to train with.
        epochs, rate, weight_decay, dropout: of the training.
    """

    build: Callable[[Rows, float], nn.Module]
    epochs: int
    rate: float
    weight_decay: float = 0.0
    dropout: float = 0.0


def _transformer(rows: Rows, dropout: float) -> nn.Module:
    return nets.WordTransformer(int(rows.x_train.max()) + 1, dropout)


RECIPE: dict[str, Recipe] = {
    "lenet300": Recipe(lambda rows, dropout: nets.lenet300(), 20, 2e-3, weight_decay=1e-5),
    "lenet5": Recipe(lambda rows, dropout: nets.lenet5(), 15, 2e-3, weight_decay=1e-5),
    "resnet20": Recipe(lambda rows, dropout: nets.ResNet20(), 0, 0.0),
    "housing": Recipe(lambda rows, dropout: nets.mlp(13, 128, 64, 1), 60, 3e-3),
    "sst2": Recipe(_transformer, 8, 1e-3, dropout=0.5),
    "digits": Recipe(lambda rows, dropout: nets.mlp(64, 64, 32, 10, flatten=True), 30, 3e-3),
}


@dataclass(frozen=True)
class DenseNet:
    """A trained net as a torch module and as the ONNX file of our engine; `value` on the test rows.

    Peers train the module, as their users would: with its BatchNorm, where it has one. Our engine gets the
    file, where BatchNorm is folded into the convolutions, as in what people have left of a trained net.
    """

    net: nn.Module
    onnx: Path
    value: float


def dense_net(task: Task, rows: Rows, seed: int, *, for_choosing: bool = False) -> DenseNet:
    """The dense net of a seed, trained now if it is not there yet.

    Args:
        rows: on the CPU; without the rows on which settings are chosen where `for_choosing`.
        for_choosing: whether the net must not have seen those rows. The given ResNet-20 has: nobody has one
        that has not.

    Raises:
        RuntimeError: the net is worse than the comparison asks for, or its two forms differ.
    """
    recipe = RECIPE[task.name]
    net = recipe.build(rows, 0.0)
    if task.name == "resnet20":
        scripted = torch.jit.load(str(RESNET20.with_suffix(".torchscript.pt")))  # type: ignore[no-untyped-call]
        net.load_state_dict(scripted.state_dict())
        path = RESNET20
    else:
        path = FOLDER / f"{task.name}-{seed}{'-choosing' if for_choosing else ''}-r{RECIPES}.onnx"
        if not path.exists() or not path.with_suffix(".pt").exists():
            _train(task, recipe, rows, seed, path)
        net.load_state_dict(torch.load(path.with_suffix(".pt"), weights_only=True))
    net.eval()
    _require_equal(net, path, rows)
    value = measure(net, rows, task)
    if not for_choosing and task.dense_at_least is not None and value < task.dense_at_least:
        raise RuntimeError(
            f"{task.name}, seed {seed}: the dense net has {value:.2f}, not {task.dense_at_least}"
        )
    return DenseNet(net, path, value)


def _train(task: Task, recipe: Recipe, rows: Rows, seed: int, path: Path) -> None:
    torch.manual_seed(seed)
    net = recipe.build(rows, recipe.dropout)
    steps = recipe.epochs * (len(rows.x_train) // task.batch_size)
    groups = [{"params": list(net.parameters()), "lr": recipe.rate, "weight_decay": recipe.weight_decay}]
    optimiser, after_step = one_cycle(groups, steps)
    train(
        net, rows, task, epochs=recipe.epochs, seed=seed + 1_000, optimiser=optimiser, after_step=after_step
    )
    plain = recipe.build(rows, 0.0)
    plain.load_state_dict({name: value.contiguous() for name, value in net.state_dict().items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    _export(plain, rows, path)
    unfinished = path.with_suffix(f".{os.getpid()}.tmp")
    torch.save(plain.state_dict(), unfinished)
    unfinished.replace(path.with_suffix(".pt"))


def _export(net: nn.Module, rows: Rows, path: Path) -> None:
    unfinished = path.with_suffix(f".{os.getpid()}.onnx")
    net.eval()
    torch.onnx.export(
        net,
        (rows.example(),),
        str(unfinished),
        dynamo=False,
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}},
    )
    unfinished.replace(path)


def _require_equal(net: nn.Module, path: Path, rows: Rows) -> None:
    """Both forms of the net must give the same answers."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = rows.example(16)
    with torch.no_grad():
        expected = copy.deepcopy(net)(x).numpy()
    got = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    if not np.allclose(got, expected, rtol=1e-3, atol=1e-3):
        raise RuntimeError(f"{path.name}: onnxruntime and torch differ by {np.abs(got - expected).max():.3g}")
