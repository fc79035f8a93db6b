"""A call that torch.compile leaves out.

In a module of its own: the decorator imports torch's compiler, and every start would pay that second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


@torch.compiler.disable  # type: ignore[untyped-decorator]
def uncompiled(native: Callable[..., Any], *arguments: Any) -> Any:
    """torch.compile cannot take torch's recurrent kernels, and leaves nn.LSTM out as well."""
    return native(*arguments)
