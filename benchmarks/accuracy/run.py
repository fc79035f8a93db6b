"""One run: a method, from the dense net of a seed to a density; and what is noted of it."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.accuracy.dense import DenseNet
from benchmarks.accuracy.fingerprint import OURS
from benchmarks.accuracy.loop import in_thousands, measure, steps_of, train
from benchmarks.accuracy.nets import prunable
from benchmarks.accuracy.peers import PEERS, Settings
from benchmarks.accuracy.peers.peer import Ending
from benchmarks.accuracy.rows import Rows
from benchmarks.accuracy.tasks import Cell, Task
from benchmarks.machine import machine
from prune_engine import PruneSpec, prune


@dataclass(frozen=True)
class Run:
    """What is stored of a run.

    Args:
        value: the metric on the test rows with at most the weights that were asked for.
        kept: weights that `value` was measured with.
        reached_value, reached_kept: the same as the method left it, before weights were cut to the density.
        dense: the metric of the dense net.
        seconds: wall time of the training, beside whatever else the machine did.
        cpu_seconds: processor time of it.
        measured_as: fingerprint of the code that the run was made with, where `confirming` has found that
            today's trains the same.
    """

    task: str
    density: float
    epochs: int
    method: str
    seed: int
    fingerprint: str
    value: float
    kept: int
    reached_value: float
    reached_kept: int
    prunable: int
    dense: float
    seconds: float
    cpu_seconds: float
    device: str
    threads: int
    settings: dict[str, float | str]
    versions: dict[str, str]
    machine: str
    date: str
    measured_as: str = ""

    @property
    def first_fingerprint(self) -> str:
        """Of the code that the run was made with."""
        return self.measured_as or self.fingerprint

    def as_dict(self) -> dict[str, Any]:
        """As it is stored."""
        return asdict(self)


def device_here() -> torch.device:
    """CUDA where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class Outcome:
    """What came of a training at one density."""

    value: float
    kept: int
    reached_value: float
    reached_kept: int
    prunable: int
    seconds: float
    cpu_seconds: float


class _Watch:
    def __init__(self) -> None:
        self._wall, self._cpu = time.monotonic(), time.process_time()

    def read(self) -> tuple[float, float]:
        return time.monotonic() - self._wall, time.process_time() - self._cpu


def run_peer(
    method: str,
    task: Task,
    rows: Rows,
    dense: DenseNet,
    densities: Sequence[float],
    epochs: int,
    seed: int,
    settings: Settings,
) -> list[Outcome]:
    """Train a peer once and measure it at each of `densities`: one, unless the peer has no use for them."""
    device = device_here()
    here = rows.to(device)
    torch.manual_seed(seed)
    net = copy.deepcopy(dense.net).to(device)
    watch = _Watch()
    example = here.example()
    peer = PEERS[method](net, example, densities[0], settings, steps_of(rows, task, epochs))
    optimiser, after_step = peer.optimiser()
    train(
        peer.net,
        here,
        task,
        epochs=epochs,
        seed=seed,
        optimiser=optimiser,
        before_step=peer.before_step,
        penalty=peer.penalty,
        after_step=after_step,
    )
    ending = peer.ending()
    seconds, cpu_seconds = watch.read()
    total = sum(mask.numel() for mask in ending.masks.values())
    reached = measure(_pruned(dense.net, ending.state, ending.masks).to(device), here, task)
    reached_kept = _kept(ending.masks)
    outcomes = []
    for density in densities:
        masks = _at_most(ending, max(round(density * total), 1))
        value = measure(_pruned(dense.net, ending.state, masks).to(device), here, task)
        outcomes.append(Outcome(value, _kept(masks), reached, reached_kept, total, seconds, cpu_seconds))
    return outcomes


def run_ours(
    method: str, task: Task, rows: Rows, dense: DenseNet, density: float, epochs: int, seed: int
) -> tuple[Outcome, dict[str, float | str]]:
    """Our engine with its defaults; only what makes the budgets equal is asked for. Its settings, too."""
    watch = _Watch()
    spec = PruneSpec.model_validate(
        {
            "density": density,
            **OURS[method],
            "epochs": epochs,
            "batch_size": task.batch_size,
            "seed": seed,
            **({"task": "regression"} if task.metric == "rmse" else {}),
        }
    )
    report = prune(dense.onnx, rows.arrays(), spec).report
    seconds, cpu_seconds = watch.read()
    weights = sum(_numel(layer) for layer in prunable(dense.net).values())
    if report.density.prunable != weights:
        raise RuntimeError(f"{task.name}: {report.density.prunable} weights are gated, not {weights}")
    known, value = (float(quality.value) for quality in (report.quality.dense, report.quality.pruned))
    if task.metric == "rmse":
        known, value = in_thousands(known), in_thousands(value)
    if abs(known - dense.value) > 0.05:
        raise RuntimeError(
            f"{task.name}: the dense net has {dense.value:.3f}, the engine measured {known:.3f}"
        )
    kept = report.density.kept
    resolved = {
        name: value for name, value in report.settings.items() if isinstance(value, float | int | str)
    }
    return Outcome(value, kept, value, kept, weights, seconds, cpu_seconds), resolved


def note(
    task: Task,
    cell: Cell,
    method: str,
    seed: int,
    fingerprint: str,
    outcome: Outcome,
    dense: DenseNet,
    settings: Mapping[str, float | str],
    versions: Mapping[str, str],
) -> Run:
    """The run as it is stored."""
    device = device_here().type
    return Run(
        task=task.name,
        density=cell.density,
        epochs=cell.length(device),
        method=method,
        seed=seed,
        fingerprint=fingerprint,
        value=round(outcome.value, 4),
        kept=outcome.kept,
        reached_value=round(outcome.reached_value, 4),
        reached_kept=outcome.reached_kept,
        prunable=outcome.prunable,
        dense=round(dense.value, 4),
        seconds=round(outcome.seconds, 1),
        cpu_seconds=round(outcome.cpu_seconds, 1),
        device=device,
        threads=torch.get_num_threads(),
        settings=dict(settings),
        versions=dict(versions),
        machine=machine(),
        date=datetime.now(UTC).date().isoformat(),
    )


def _pruned(dense: nn.Module, state: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> nn.Module:
    """A plain net with these values under these masks."""
    net = copy.deepcopy(dense)
    net.load_state_dict({name: value.detach().cpu() for name, value in state.items()})
    with torch.no_grad():
        for name, layer in prunable(net).items():
            weight = layer.weight
            assert isinstance(weight, Tensor)
            weight.mul_(masks[name].cpu())
    return net


def _at_most(ending: Ending, count: int) -> dict[str, Tensor]:
    """The masks, cut to the `count` kept weights of the highest scores."""
    if _kept(ending.masks) <= count:
        return ending.masks
    names = list(ending.masks)
    flat = torch.cat(
        [ending.scores[name].masked_fill(~ending.masks[name], -torch.inf).flatten().cpu() for name in names]
    )
    mask = torch.zeros_like(flat, dtype=torch.bool)
    mask[flat.topk(count).indices] = True
    parts = torch.split(mask, [ending.masks[name].numel() for name in names])
    return {name: part.view_as(ending.masks[name]) for name, part in zip(names, parts, strict=True)}


def _kept(masks: Mapping[str, Tensor]) -> int:
    return sum(int(mask.sum()) for mask in masks.values())


def _numel(layer: nn.Module) -> int:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight.numel()
