"""Operators of com.microsoft that became ONNX operators later, under the same name and meaning."""

from __future__ import annotations

from prune_engine.formats.operators import creation, padding, sampling, selection  # noqa: F401  # their rows
from prune_engine.formats.operators.quantization import MICROSOFT
from prune_engine.formats.operators.table import find, operator

_SAME = {"GridSample": 16, "Trilu": 14, "Range": 11, "GatherND": 12, "Pad": 13}  # name -> opset that is alike

for _name, _opset in _SAME.items():
    _row = find("", _name, _opset)
    assert _row is not None  # noqa: S101  # registered by the imports above
    operator(
        _name,
        since=1,
        domain=MICROSOFT,
        host=_row.host,
        scalars=_row.scalars,
        device=_row.device,
        training=_row.training,
        result=_row.result,
    )(_row.build)
