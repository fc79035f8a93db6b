"""Pruning methods: one file each, all behind one small interface."""

from __future__ import annotations

from prune_engine.methods.gumbel import Gumbel
from prune_engine.methods.magnitude import Magnitude
from prune_engine.methods.method import Method, MethodSettings

METHODS: dict[str, type[Method]] = {"gumbel": Gumbel, "magnitude": Magnitude}

__all__ = ["METHODS", "Gumbel", "Magnitude", "Method", "MethodSettings"]
