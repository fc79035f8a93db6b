"""The metric on held-out rows: for the training curve; on rows of its own, for the search of a target."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from prune_engine.training.distributed import agreed
from prune_engine.training.inference import outputs_for
from prune_engine.training.losses import class_scores
from prune_engine.training.result import Trainable

if TYPE_CHECKING:
    from prune_engine.data import Prepared

LARGEST_SAMPLE = 2_000


class HoldoutSample:
    """The first held-out rows, at most 2,000 of them, and what they are compared with.

    Args:
        module: the dense model as it is now; its outputs are the truth where there are no labels.
        prepared: data and metric.
        most: rows at most.
    """

    def __init__(self, module: Trainable, prepared: Prepared, most: int = LARGEST_SAMPLE) -> None:
        self._prepared = prepared
        self._rows = min(len(prepared.holdout), most)
        labelled = prepared.task != "distillation"
        self._truth: Tensor = self._labels() if labelled else self._predict(module)

    def measure(self, module: Trainable) -> float:
        """The metric in its own unit (`Prepared.metric`); the module is left in the mode that it was in."""
        return agreed(self._measure(module))

    def _measure(self, module: Trainable) -> float:
        training = module.training
        prediction, truth = self._predict(module), self._truth
        module.train(training)
        name = self._prepared.metric.name
        if name in ("accuracy", "agreement"):
            wanted = truth if name == "accuracy" else self._classes(truth)
            return 100.0 * float((self._classes(prediction) == wanted.reshape(-1)).float().mean())
        scale = self._prepared.target_scale
        columns = truth.reshape(len(truth), -1).float()
        error = (prediction.float().reshape(columns.shape) - columns) * columns.new_tensor(scale.scale)
        if name == "mae":
            return float(error.abs().mean())
        if name == "mse":
            return float(error.square().mean())
        return float(error.norm() / (columns - columns.mean()).norm().clamp_min(1e-12))

    def _labels(self) -> Tensor:
        labels = self._prepared.holdout.batch(slice(0, self._rows))[1]
        assert labels is not None  # noqa: S101 - only distillation comes without labels
        return labels

    def _predict(self, module: Trainable) -> Tensor:
        module.eval()
        prepared = self._prepared
        outputs = outputs_for(module, prepared.holdout, self._rows, prepared.fixed_batch)
        return outputs[prepared.output_index]

    def _classes(self, output: Tensor) -> Tensor:
        """Most likely class of every row; a single output scores the second of two classes."""
        scores = class_scores(output.float(), self._prepared)
        return (scores > 0.0).long() if scores.ndim == 1 else scores.argmax(dim=-1).reshape(-1)
