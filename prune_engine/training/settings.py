"""Every hyperparameter of a training, resolved from the spec: no `auto` is left behind this door."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from prune_engine.gates import Layout
from prune_engine.granularity import Patterns
from prune_engine.methods import MethodSettings
from prune_engine.spec import PruneSpec
from prune_engine.training.density_rule import gate_rule, shift_share
from prune_engine.training.length import choose_batch_size, choose_epochs
from prune_engine.training.result import PrunableInfo
from prune_engine.training.start_rule import adapted

AUTO_RATE = "by the rule"


@dataclass(frozen=True)
class Settings:
    """What a training is run with.

    From `gates_until` to `gates.fix_mask_at` the density is exact and weights are exchanged; `regrow` is the
    share of the kept weights that the first exchange takes. In each step a `shift_share` of the images is
    moved by up to `shift_pixels`, half of them in the mirror where they are `mirrored`.
    """

    method: str
    seed: int
    epochs: int
    epochs_why: str
    batch_size: int
    steps_per_epoch: int
    total_steps: int
    max_minutes: float | None
    train_weights: bool
    learning_rate: float
    learning_rate_why: str
    weight_decay: float
    distillation: float
    distillation_temperature: float
    gates_until: float
    regrow: float
    gates: MethodSettings
    shift_share: float = 0.0
    shift_pixels: int = 0
    shift_why: str = ""
    mirrored: bool = False
    mirrored_why: str = ""
    acceleration: str = "none"
    acceleration_why: str = ""
    renormalised: int = 0
    renormalised_why: str = ""

    @property
    def rate_pause(self) -> tuple[float, float]:
        """From where to where in the training the learning rate stands still: while weights are exchanged."""
        return (self.gates_until, self.gates.fix_mask_at) if self.regrow else (1.0, 1.0)

    def as_dict(self) -> dict[str, Any]:
        """Flat, for the report."""
        values = asdict(self)
        gates = values.pop("gates")
        gates.pop("seed")
        return {**values, **gates}


def resolve(
    spec: PruneSpec,
    *,
    layout: Layout,
    neurons: int,
    rows: int,
    fixed_batch: int | None = None,
    labelled: bool,
    numbers: bool = False,
    row_operations: int | None = None,
    device: str = "cpu",
) -> Settings:
    """Resolve every `auto` of `spec`. At density 1 `auto` is no epochs: the model stays as it is.

    Args:
        spec: what was asked for.
        layout: the gated weights.
        neurons: output neurons or channels of all gated weights together.
        rows: training rows.
        fixed_batch: batch size that the model demands; a step then takes a multiple of it.
        labelled: whether there are labels; without them all of the loss is distillation.
        numbers: whether numbers are learned, not classes.
        row_operations: multiply-adds of one row forward, None: not known.
        device: "cpu" or "cuda".

    Raises:
        SpecError: the density keeps too few weights, or is not what the layers' bounds allow.
    """
    kept = layout.kept(spec.one_density)
    batch_size = choose_batch_size(rows) if spec.batch_size == "auto" else min(spec.batch_size, rows)
    if fixed_batch is not None:
        batch_size = max(round(batch_size / fixed_batch), 1) * fixed_batch
    steps_per_epoch = max(rows // batch_size, 1)
    if not spec.train_weights and (kept == layout.prunable or spec.method == "magnitude"):
        epochs, why = 0, "nothing is learned: no weight is trained, and the mask follows from the weights"
    elif spec.epochs == "auto" and kept == layout.prunable and spec.init == "given":
        epochs, why = 0, "density 1: there is nothing to prune; give epochs to fine-tune all the same"
    elif spec.epochs == "auto":
        epochs, why = choose_epochs(spec.effort, steps_per_epoch, batch_size, row_operations, device)
    else:
        epochs, why = spec.epochs, "as asked"
    steps, plain = epochs * steps_per_epoch, layout.plain
    rule = gate_rule(spec, kept=kept, neurons=neurons, steps=steps, exchange=plain, numbers=numbers)
    rule = adapted(rule, spec)
    fix_mask_at = max(rule.fix_mask_at, rule.anneal_until)
    return Settings(
        method=spec.method,
        seed=spec.seed,
        epochs=epochs,
        epochs_why=why,
        batch_size=batch_size,
        steps_per_epoch=steps_per_epoch,
        total_steps=epochs * steps_per_epoch,
        max_minutes=spec.max_minutes,
        train_weights=spec.train_weights,
        learning_rate=rule.learning_rate if spec.train_weights else 0.0,
        learning_rate_why=_rate_why(spec),
        weight_decay=spec.weight_decay,
        distillation=rule.distillation if labelled else 1.0,
        distillation_temperature=spec.distillation_temperature,
        gates_until=min(max(rule.gates_until, rule.anneal_until), fix_mask_at),
        regrow=rule.regrow,
        shift_share=shift_share(epochs, rule.shift),
        gates=MethodSettings(
            density=kept / layout.prunable if isinstance(spec.units, Patterns) else spec.one_density,
            kept=kept,
            gate_learning_rate=rule.gate_learning_rate,
            gate_prior=rule.gate_prior,
            gate_noise=rule.gate_noise,
            gate_temperature=rule.gate_temperature,
            gate_epsilon=rule.gate_epsilon,
            anneal_until=rule.anneal_until,
            fix_mask_at=fix_mask_at,
            seed=spec.seed,
        ),
    )


def _rate_why(spec: PruneSpec) -> str:
    if not spec.train_weights:
        return "no weight is trained"
    return AUTO_RATE if spec.learning_rate == "auto" else "as asked"


def outputs(weight: PrunableInfo) -> int:
    """Neurons or channels that a weight feeds; of an embedding the features, since a row is an input."""
    count = weight.shape[weight.output_axis]
    return math.prod(weight.shape) // max(count, 1) if weight.kind == "Embedding" else count
