"""Values during import: known constants, tensors in slots, and Python numbers; and the ways between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from onnx import helper
from torch import Tensor

from prune_engine.formats.operators.dtypes import carried, declared
from prune_engine.formats.operators.shape_arithmetic import NUMBER, Host
from prune_engine.formats.plan import NOTHING

_LONGEST_LIST = 64  # longer integer constants are tables, not shapes


@dataclass(frozen=True)
class Value:
    """A value during import: known (`constant`), or in `slot` as a tensor or, with `form`, as numbers.

    `carries` is the ONNX type of integers that lie in the slot as float32, for gradients to pass.
    """

    slot: int = NOTHING
    constant: np.ndarray | None = None
    form: Host | None = None
    carries: int | None = None

    @property
    def host_form(self) -> Host | None:
        """The form that the value has or could have as Python numbers."""
        if self.constant is None:
            return self.form
        if self.constant.ndim == 0:
            return NUMBER
        if self.constant.ndim == 1 and self.constant.size <= _LONGEST_LIST:
            return Host(self.constant.size)
        return None


def to_array(value: Any, carries: int | None = None) -> np.ndarray:
    """The result of a step that was computed at import; `carries`: integers that it carries in float32."""
    if isinstance(value, Tensor):
        return value.numpy() if carries is None else declared(value, carries)
    dtype = np.int64 if isinstance(value, list) and not value else None
    array = np.asarray(value, dtype=dtype)
    return array.astype(np.float32) if array.dtype == np.float64 else array


def to_torch(values: np.ndarray) -> Tensor:
    """A constant in the type that it is computed in."""
    return carried(values, helper.np_dtype_to_tensor_dtype(values.dtype))


def numbers_to_tensor(device: torch.device, value: Any) -> Tensor:
    """A kernel: Python numbers as a tensor; a GPU is not waited for where it is a single one."""
    if not isinstance(value, list):
        return torch.full((), value, device=device)
    return torch.tensor(value, dtype=torch.int64 if value == [] else None, device=device)
