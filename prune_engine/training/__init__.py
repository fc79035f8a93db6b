"""The training loop: weights and gates together, then the weights under a fixed mask."""

from __future__ import annotations

from prune_engine.training.goal import train_for
from prune_engine.training.result import Trainable, Trained, TrainingResult
from prune_engine.training.settings import Settings, resolve
from prune_engine.training.trainer import train

__all__ = ["Settings", "Trainable", "Trained", "TrainingResult", "resolve", "train", "train_for"]
