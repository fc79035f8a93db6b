"""Prunery's engine: trained model + data + density -> pruned ONNX + report.

Importing this package is cheap; torch and onnx come with the first name that needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prune_engine.errors import PruneError
from prune_engine.inspection import Inspection
from prune_engine.report import Report
from prune_engine.spec import Preprocess, PruneSpec, parse_spec

if TYPE_CHECKING:
    from prune_engine.api import PruneResult, inspect, prune

__version__ = "0.1.0"

__all__ = [
    "Inspection",
    "Preprocess",
    "PruneError",
    "PruneResult",
    "PruneSpec",
    "Report",
    "__version__",
    "inspect",
    "parse_spec",
    "prune",
]


def __getattr__(name: str) -> Any:
    if name in ("prune", "inspect", "PruneResult"):
        from prune_engine import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
