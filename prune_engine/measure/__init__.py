"""What pruning cost and bought: quality, bytes, multiply-adds, latency."""

from __future__ import annotations

from prune_engine.measure.latency import measure_latency
from prune_engine.measure.operations import count_operations, operations_info
from prune_engine.measure.quality import measure_quality
from prune_engine.measure.runtime import run_session, session
from prune_engine.measure.size import measure_size

__all__ = [
    "count_operations",
    "measure_latency",
    "measure_quality",
    "measure_size",
    "operations_info",
    "run_session",
    "session",
]
