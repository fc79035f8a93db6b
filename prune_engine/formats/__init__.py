"""Model file <-> trainable module. ONNX is the one inner representation."""

from prune_engine.formats.graph import opset_versions
from prune_engine.formats.importer import import_onnx
from prune_engine.formats.infos import input_infos, output_infos
from prune_engine.formats.module import OnnxModule
from prune_engine.formats.source import SourceModel, read_model, source_from_proto
from prune_engine.formats.structure import structural_differences
from prune_engine.formats.torchscript import InputShapes
from prune_engine.formats.weights import PrunableWeight
from prune_engine.formats.write_back import read_values, write_back

__all__ = [
    "InputShapes",
    "OnnxModule",
    "PrunableWeight",
    "SourceModel",
    "import_onnx",
    "input_infos",
    "opset_versions",
    "output_infos",
    "read_model",
    "read_values",
    "source_from_proto",
    "structural_differences",
    "write_back",
]
