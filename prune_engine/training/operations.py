"""Multiply-adds of one row, counted by running it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from prune_engine.training.result import Trainable


def row_operations(module: Trainable, inputs: tuple[Tensor, ...]) -> int | None:
    """Multiply-adds that `module` needs for one row of `inputs`, forward; None where nothing was counted."""
    rows = inputs[0].shape[0] if inputs[0].dim() else 1
    module.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return int(counter.get_total_flops()) // (2 * rows) or None
