"""Comparison, logic and selection."""

from __future__ import annotations

import operator as python
from typing import Any

import torch
from torch import Tensor

from prune_engine.formats.operators.table import function

function("Equal", torch.eq, scalars=False)
function("Less", torch.lt)
function("Greater", torch.gt)
function("LessOrEqual", torch.le, since=12)
function("GreaterOrEqual", torch.ge, since=12)
function("And", torch.logical_and)
function("Or", torch.logical_or)
function("Xor", torch.logical_xor)
function("Not", torch.logical_not)
function("BitwiseAnd", python.and_, since=18)
function("BitwiseOr", python.or_, since=18)
function("BitwiseXor", python.xor, since=18)
function("BitwiseNot", torch.bitwise_not, since=18)


def _where(condition: Tensor, yes: Any, no: Any) -> Tensor:
    return torch.where(condition, yes, no)


function("Where", _where, since=9)
