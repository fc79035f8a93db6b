"""Named and supplied data sets -> rows: reading, the split, the preprocessing that the model expects."""

from __future__ import annotations

from prune_engine.data.candidate_shapes import InputShapes, candidate_shapes
from prune_engine.data.prepared import Prepared, prepare
from prune_engine.data.raw import RawData, Split, data_from_arrays
from prune_engine.data.read import read_data
from prune_engine.data.rows import Rows
from prune_engine.data.running import DenseRun
from prune_engine.data.transform import Transform

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
