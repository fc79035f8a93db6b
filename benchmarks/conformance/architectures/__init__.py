"""The nets of the zoo, by the kind of data that they take."""

from __future__ import annotations

from benchmarks.conformance.architectures import (
    audio_nets,
    dense_prediction_nets,
    generative_nets,
    graph_nets,
    language_nets,
    series_nets,
    table_nets,
    timm_nets,
    torchvision_nets,
)
from benchmarks.conformance.architectures.architecture import ZOO, Architecture, Input, make

__all__ = [
    "ZOO",
    "Architecture",
    "Input",
    "audio_nets",
    "dense_prediction_nets",
    "generative_nets",
    "graph_nets",
    "language_nets",
    "make",
    "series_nets",
    "table_nets",
    "timm_nets",
    "torchvision_nets",
]
