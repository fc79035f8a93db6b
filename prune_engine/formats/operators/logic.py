"""Comparison, logic and selection."""

from __future__ import annotations

import operator as python
from typing import Any

import torch
from torch import Tensor

from prune_engine.formats.operators.broadcasting import by_axis
from prune_engine.formats.operators.table import Kernel, Node, function, operator

_COMPARISONS: dict[str, Kernel] = {"Equal": python.eq, "Less": python.lt, "Greater": python.gt}
_LOGIC: dict[str, Kernel] = {"And": torch.logical_and, "Or": torch.logical_or, "Xor": torch.logical_xor}
for _name, _kernel in _COMPARISONS.items():
    function(_name, _kernel, since=7, scalars=True)
for _name, _kernel in _LOGIC.items():
    function(_name, _kernel, since=7)


@operator(*_COMPARISONS, *_LOGIC, until=6)
def _old_comparison(node: Node) -> Kernel:
    return by_axis(node, (_COMPARISONS | _LOGIC)[node.operator])


function("LessOrEqual", python.le, since=12, scalars=True)
function("GreaterOrEqual", python.ge, since=12, scalars=True)
function("Not", torch.logical_not)


def _where(condition: Any, yes: Any, no: Any) -> Tensor:
    if not isinstance(condition, Tensor):
        device = yes.device if isinstance(yes, Tensor) else no.device
        condition = torch.full((), condition, dtype=torch.bool, device=device)
    return torch.where(condition, yes, no)


function("Where", _where, since=9, scalars=True)
