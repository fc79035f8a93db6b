"""What a child does with one file, until it would begin to train; in the process that calls it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import prune_engine
from prune_engine.data.read import read_data
from prune_engine.data.text import encode, load_tokenizer
from prune_engine.errors import ModelTooLargeError, OutOfMemoryError, PruneError, told
from prune_engine.formats import read_model
from prune_engine.formats.conversion import pt2_export, torchscript_export
from prune_engine.formats.conversion.pt2 import scan_pt2
from prune_engine.formats.conversion.torchscript import plain_copy
from prune_engine.formats.recognise import recognise
from prune_engine.measure import session
from prune_engine.memory import is_out_of_memory
from prune_engine.preflight import importable
from prune_engine.spec import PruneSpec

ACCEPTED = "accepted"
SPEC = PruneSpec(density=0.5)
_SHAPES = [(((2, 3, 16, 16), "float32"),), (((2, 4), "float32"),), (((2, 3, 4), "float32"),)]
_WHOLE = 6  # of so many sound models one goes all the way


def examine(kind: str, data: bytes, number: int, folder: Path) -> str:
    """`ACCEPTED` or the code that the file is refused with; raises what a child would tell as a bug."""
    path = folder / "file"
    path.write_bytes(data)
    try:
        _examine(kind, path, number)
    except PruneError as error:
        return error.code
    except RecursionError:
        return ModelTooLargeError.code
    except Exception as error:
        if is_out_of_memory(error):
            return OutOfMemoryError.code
        raise
    return ACCEPTED


def _examine(kind: str, path: Path, number: int) -> None:
    whole = number % _WHOLE == 0
    if kind in ("onnx", "hostile", "bundle"):
        if whole:
            inspection = prune_engine.inspect(path, None, {"density": 0.5})
            for problem in inspection.problems:
                raise told(problem.code, problem.message)
            return
        source = read_model(path)
        importable(source)
        session(source.proto, 1)
    elif kind in ("torchscript", "pt2"):
        found = recognise(path)
        if found == "torchscript":
            plain_copy(path, path.with_name("plain.pt"))
            if whole:
                torchscript_export.export(path.with_name("plain.pt"), _SHAPES, None)
        elif found == "pt2":
            scan_pt2(path)
            if whole:
                pt2_export.export(path)
    elif kind == "tokenizer":
        encode(load_tokenizer(path, 16), np.array(["a text of words", "aaaa", "", "é" * 40]), 16)
    else:
        read_data(path, SPEC, name="data")
