"""Model file <-> trainable module. ONNX is the one inner representation."""

from prune_engine.formats.conversion.process import InputShapes
from prune_engine.formats.graph import Graph, opset_versions
from prune_engine.formats.importer import import_onnx
from prune_engine.formats.infos import input_infos, output_infos
from prune_engine.formats.module import OnnxModule
from prune_engine.formats.reading import read_graph
from prune_engine.formats.replay import Replays
from prune_engine.formats.source import (
    SourceModel,
    model_file_name,
    read_model,
    save_model,
    source_from_proto,
)
from prune_engine.formats.structure import structural_differences
from prune_engine.formats.unprunable import not_prunable
from prune_engine.formats.weights import PrunableWeight, Roles, find_roles
from prune_engine.formats.write_back import read_values, write_back

__all__ = [
    "Graph",
    "InputShapes",
    "OnnxModule",
    "PrunableWeight",
    "Replays",
    "Roles",
    "SourceModel",
    "find_roles",
    "import_onnx",
    "input_infos",
    "model_file_name",
    "not_prunable",
    "opset_versions",
    "output_infos",
    "read_graph",
    "read_model",
    "read_values",
    "save_model",
    "source_from_proto",
    "structural_differences",
    "write_back",
]
