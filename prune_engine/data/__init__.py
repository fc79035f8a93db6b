"""Named and supplied data sets -> rows: reading, the split, the preprocessing that the model expects.

Importing this package is cheap; torch comes with the first name that needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prune_engine.data.export_shapes import InputShapes, candidate_shapes
    from prune_engine.data.prepared import Prepared
    from prune_engine.data.preparing import prepare
    from prune_engine.data.raw import RawData, Split, data_from_arrays
    from prune_engine.data.read import read_data
    from prune_engine.data.rows import Rows
    from prune_engine.data.running import DenseRun
    from prune_engine.data.transform import Transform

_HOME = {
    "DenseRun": "running",
    "InputShapes": "export_shapes",
    "Prepared": "prepared",
    "RawData": "raw",
    "Rows": "rows",
    "Split": "raw",
    "Transform": "transform",
    "candidate_shapes": "export_shapes",
    "data_from_arrays": "raw",
    "prepare": "preparing",
    "read_data": "read",
}

__all__ = [
    "DenseRun",
    "InputShapes",
    "Prepared",
    "RawData",
    "Rows",
    "Split",
    "Transform",
    "candidate_shapes",
    "data_from_arrays",
    "prepare",
    "read_data",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"prune_engine.data.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
