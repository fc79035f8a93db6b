"""What is trained on what: the module and the data on the device, the parameters as one flat tensor."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from prune_engine.gates import FlatParameters
from prune_engine.spec import PruneSpec
from prune_engine.training.acceleration import accelerate
from prune_engine.training.augmentation import Shifts
from prune_engine.training.batch_freedom import runs_at_any_batch
from prune_engine.training.chosen import choose
from prune_engine.training.known_shift import known_mirrored, known_shift
from prune_engine.training.layers import layout_of
from prune_engine.training.operations import row_operations
from prune_engine.training.renormalise import Renormalisable, renormalise
from prune_engine.training.result import Trainable
from prune_engine.training.settings import Settings, outputs, resolve

if TYPE_CHECKING:
    from prune_engine.data import Prepared

ACCELERATION_ROWS = 8
"""On which a faster form of the module is compared with float32."""


class Subject:
    """A module that is about to be trained.

    Args:
        module, prepared, device: become attributes.
        spec: what is asked; its patterns choose what is gated.
        start: values to start from by name, instead of those that the module has; None: those.

    Attributes:
        module: its parameters are views of `flat.shown` from now on.
        prepared: rows on the device; `fixed_batch` is None where the file names a batch size that the module
            does not hold to.
        flat: the parameters.
        gated: the weights that have gates: the front of `flat`, in its order.
        layout: in which units they are kept.
        device: where all of it is.

    Raises:
        SpecError: a pattern matches no weight, or no weight is left to prune.
        ModelError: the weights do not share one dtype.
    """

    def __init__(
        self,
        module: Trainable,
        prepared: Prepared,
        spec: PruneSpec,
        device: torch.device,
        start: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self._start = start
        self._form: dict[str, Any] | None = None
        self._moves_statistics = spec.train_weights or start is not None
        self.gated = choose(module.prunable, spec).gated
        self.layout = layout_of(self.gated, spec)
        self.module = self._given = module
        self.device = device
        self.prepared = replace(
            prepared, train=prepared.train.to(device), holdout=prepared.holdout.to(device)
        )
        if isinstance(module, torch.nn.Module):
            module.to(device)
        if self._free():
            self.prepared = replace(self.prepared, fixed_batch=None)
        self.flat = self._flat()

    def begin(self) -> None:
        """Put the values to start from in place. What the module was before is what a teacher knows."""
        if self._start is not None:
            self.module.set_values(self._start)
            self.flat.values.copy_(self.flat.shown)
        self.train()

    def train(self) -> None:
        """Let the module behave as in training; with given weights that stay, its statistics stay too."""
        self.module.train(self._moves_statistics)

    def settings(self, spec: PruneSpec) -> Settings:
        """Every `auto` of `spec` resolved for this module and these rows.

        Raises:
            SpecError: the density keeps no weight, or the mask would be fixed before it is reached.
        """
        train = self.prepared.train
        fixed = self.prepared.fixed_batch
        inputs, labels = train.batch(torch.arange(fixed or 2) % len(train))
        settings = resolve(
            spec,
            layout=self.layout,
            neurons=sum(outputs(weight) for weight in self.gated),
            rows=len(train),
            fixed_batch=fixed,
            labelled=labels is not None and self.prepared.task != "distillation",
            numbers=self.prepared.task == "regression",
            row_operations=self._row_operations(inputs),
            device=self.device.type,
        )
        return self._ready(settings, spec) if settings.total_steps else settings

    def _row_operations(self, inputs: tuple[torch.Tensor, ...]) -> int | None:
        """Of the module as it came, also where it is in another form by now."""
        if self._form is None:
            self._operations = row_operations(self.module, inputs)
        return self._operations

    def _ready(self, settings: Settings, spec: PruneSpec) -> Settings:
        """From the first time on the module is in the form in which it is trained, whatever the density."""
        if self._form is None:
            ready = self._accelerated(self._renormalised(self._shifted(settings, spec), spec), spec)
            kinds = ("renormalised", "renormalised_why", "acceleration", "acceleration_why")
            names = ("shift_pixels", "shift_why", "mirrored", "mirrored_why", *kinds)
            self._form = {name: getattr(ready, name) for name in names}
        return replace(settings, **self._form)

    def _shifted(self, settings: Settings, spec: PruneSpec) -> Settings:
        """How far images are moved while they are trained on, and whether in the mirror."""
        if "off" in (spec.augmentation, spec.acceleration):
            return replace(settings, shift_why="as asked", mirrored_why="as asked")
        if self._start is not None or not settings.shift_share:
            return settings
        pixels, why = known_shift(self.module, self.prepared)
        mirrored, mirrored_why = known_mirrored(self.module, self.prepared)
        return replace(
            settings, shift_pixels=pixels, shift_why=why, mirrored=mirrored, mirrored_why=mirrored_why
        )

    def shifts(self, settings: Settings) -> Shifts | None:
        """What moves the images in a training with these settings; None: nothing does."""
        if not settings.shift_share or not (settings.shift_pixels or settings.mirrored):
            return None
        planes = self.prepared.train.planes
        return Shifts(
            planes, settings.shift_pixels, settings.shift_share, settings.seed, mirror=settings.mirrored
        )

    def finished(self) -> Trainable:
        """A copy of the module as it would be handed out now; the training can go on."""
        module = copy.deepcopy(self._given)
        if isinstance(module, Renormalisable):
            module.fold()
        module.eval()
        return module

    def fold(self) -> None:
        """Leave the final weights in the parameters that the model came with."""
        if isinstance(self._given, Renormalisable):
            self._given.fold()

    def _flat(self) -> FlatParameters:
        names = [weight.name for weight in self.gated]
        return FlatParameters(self.module.weights, names, self.device)

    def _renormalised(self, settings: Settings, spec: PruneSpec) -> Settings:
        """From here on the module computes its convolutions with a BatchNorm, where the rule is for it."""
        fresh = self._start is not None
        count, why = renormalise(self.module, self.prepared, spec, settings.batch_size, fresh)
        if count:
            self.flat = self._flat()
        return replace(settings, renormalised=count, renormalised_why=why)

    def _accelerated(self, settings: Settings, spec: PruneSpec) -> Settings:
        """From here on the module computes in the fastest form that it stands."""
        train, fixed, batch = self.prepared.train, self.prepared.fixed_batch, settings.batch_size
        rows = torch.arange(fixed or min(batch, ACCELERATION_ROWS)) % len(train)
        self.module, chosen = accelerate(
            self.module,
            train.batch(rows)[0],
            asked=spec.acceleration,
            classes=self.prepared.task == "classification",
            batch=fixed or batch,
        )
        return replace(settings, acceleration=str(chosen), acceleration_why=chosen.why)

    def _free(self) -> bool:
        """Whether the file names a batch size that the module does not hold to."""
        fixed = self.prepared.fixed_batch
        if fixed is None:
            return False
        rows = torch.arange(2 * fixed) % len(self.prepared.train)
        return runs_at_any_batch(self.module, self.prepared.train.batch(rows)[0], fixed)
