"""Comparison, logic and selection."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from prune_engine.formats.operators.broadcasting import by_axis
from prune_engine.formats.operators.table import Kernel, Node, function, operator

_COMPARISONS = {
    "Equal": torch.eq,
    "Less": torch.lt,
    "Greater": torch.gt,
    "And": torch.logical_and,
    "Or": torch.logical_or,
    "Xor": torch.logical_xor,
}
for _name, _kernel in _COMPARISONS.items():
    function(_name, _kernel, since=7)


@operator(*_COMPARISONS, until=6)
def _old_comparison(node: Node) -> Kernel:
    return by_axis(node, _COMPARISONS[node.operator])


function("LessOrEqual", torch.le, since=12)
function("GreaterOrEqual", torch.ge, since=12)
function("Not", torch.logical_not)


def _where(condition: Tensor, yes: Any, no: Any) -> Tensor:
    return torch.where(condition, yes, no)


function("Where", _where, since=9)
