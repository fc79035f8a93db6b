"""`.pt2` archives (`torch.export.save`) -> ONNX. An archive is looked through before torch opens it.

`torch.export.load` unpickles, evaluates expressions for sizes, imports modules that an output's type names,
and
calls whatever function of `torch` a node names. Each of these is compared with what exported programs have.
"""

from __future__ import annotations

import ast
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prune_engine.errors import ModelError, ModelUnsafeError
from prune_engine.formats.conversion.operators import PRIMS, TORCH
from prune_engine.formats.conversion.pickles import scan_pickle
from prune_engine.formats.conversion.plain_archive import PlainArchive, opened
from prune_engine.formats.conversion.process import Converted, convert

_WHAT = "torch.export archive"
_LARGEST_JSON = 512 << 20  # bytes
_INSTEAD = "Send an ONNX export of the model instead (docs/models.md#pytorch)."

_MEMBER = re.compile(
    r"models/model\.json|archive_format|archive_version|byteorder|\.data/[\w.]+|extra/.*|"
    r"\.format_version|\.storage_alignment|"
    r"data/(?:weights|constants)/model_(?:weights|constants)_config\.json|"
    r"data/weights/weight_\d+|data/constants/tensor_\d+|data/(?:sample_inputs|weights|constants)/model\.pt"
)
_PAYLOAD = re.compile(r"(?:weight|tensor)_\d+")
_OPERATORS = re.compile(
    r"torch\.ops\.torchvision\.(?:nms|roi_align|roi_pool|ps_roi_align|ps_roi_pool|deform_conv2d)\.\w+"
    r"|torch\.ops\.higher_order\.(?:cond|while_loop|scan|associative_scan|map_impl|wrap_with_set_grad_enabled"
    r"|wrap_with_autocast)"
    r"|_operator\.(?:add|sub|mul|truediv|floordiv|mod|neg|pos|pow|eq|ne|lt|le|gt|ge|and_|or_|not_|getitem|lshift"
    r"|rshift)"
    r"|math\.(?:ceil|floor|trunc|sqrt)"
    r"|torch\.(?:sym_\w+|_sym_sqrt|torch\._sym_sqrt)|torch\._C\._set_grad_enabled"
)
_LISTED = {"aten": TORCH, "prims": PRIMS}
_OF_A_LIST = re.compile(r"torch\.ops\.(aten|prims)\.(\w+)\.\w+")
_WORD = re.compile(r"[\w.+-]{1,64}")
_FUNCTIONS = frozenset(
    [
        "Symbol",
        "Integer",
        "Float",
        "Rational",
        "Add",
        "Mul",
        "Pow",
        "Mod",
        "PythonMod",
        "FloorDiv",
        "CleanDiv",
        "CeilDiv",
        "CeilToInt",
        "FloorToInt",
        "ModularIndexing",
        "Where",
        "LShift",
        "RShift",
        "PowByNatural",
        "FloatPow",
        "FloatTrueDiv",
        "IntTrueDiv",
        "TruncToFloat",
        "TruncToInt",
        "RoundToInt",
        "RoundDecimal",
        "ToFloat",
        "Max",
        "Min",
        "Identity",
        "floor",
        "ceiling",
        "Abs",
        "Eq",
        "Ne",
        "Equality",
        "Unequality",
        "Lt",
        "Le",
        "Gt",
        "Ge",
        "StrictLessThan",
        "LessThan",
        "StrictGreaterThan",
        "GreaterThan",
        "And",
        "Or",
        "Not",
        "Piecewise",
        "ExprCondPair",
        "Tuple",
    ]
)
_TAKES_A_WORD = frozenset(("Symbol", "Float", "Integer", "Rational"))
_VALUES = frozenset(("oo", "int_oo", "true", "false", "True", "False", "S"))
_NODES = (
    *(ast.Expression, ast.Call, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.UnaryOp, ast.USub),
    *(ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Compare),
    *(ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE),
)
_CONTAINER = re.compile(
    r"builtins\.(?:tuple|list|dict)|collections\.OrderedDict|transformers\.modeling_outputs\.\w+"
    r"|transformers\.models\.[\w.]+Output\w*|diffusers\.[\w.]+Output\w*"
)


def convert_pt2(path: Path) -> Converted:
    """Exports an archive with the inputs that it was made with.

    Raises:
        ModelUnsafeError, ModelError: see `scan_pt2`.
        ConversionError: torch or its exporter refuses it, or the export computes something else.
    """
    with tempfile.TemporaryDirectory(prefix="prunery-plain-") as folder:
        plain = Path(folder) / "model.pt2"
        with opened(path, _WHAT) as archive:
            _scan(archive)
            archive.pack(archive.sizes, plain)
        return convert(
            "prune_engine.formats.conversion.pt2_export", {"model": str(plain)}, "torch.export archive"
        )


def scan_pt2(path: Path) -> None:
    """Looks through an archive without loading it.

    Raises:
        ModelUnsafeError: pickled objects, compiled code, operators that are on no list, or expressions that
        are more than arithmetic.
        ModelError: the archive is damaged.
    """
    with opened(path, _WHAT) as archive:
        _scan(archive)


def _scan(archive: PlainArchive) -> None:
    sizes = archive.sizes
    for name in sizes:
        if name.startswith("data/aotinductor/"):
            raise ModelUnsafeError(
                "The archive holds a program that AOTInductor compiled, and no model. "
                "Send the file that torch.export.save writes."
            )
        if not _MEMBER.fullmatch(name):
            raise ModelUnsafeError(
                f"The torch.export archive holds {name[:100]!r}, which is no part of a plain model "
                f"(custom or pickled objects are not loaded). {_INSTEAD}"
            )
    if "models/model.json" not in sizes:
        raise ModelError("The torch.export archive has no models/model.json. Save it again.")
    for name, size in sizes.items():
        if name.endswith("/model.pt"):
            _scan_saved(archive.read(name), name)
        if not name.endswith(".json") or name.startswith("extra/"):
            continue
        if size > _LARGEST_JSON:
            raise ModelUnsafeError(f"{name} has {size} bytes, which no model needs.")
        content = json.loads(archive.read(name))
        if name.endswith("_config.json"):
            _scan_payloads(content, sizes, name)
        else:
            _scan_program(content)


def _scan_saved(content: bytes, name: str) -> None:
    """A file of torch.save in the archive: the example inputs, or all weights at once."""
    if not content:
        return  # no example inputs
    with opened(content, f"{name} in the torch.export archive") as inner:
        sizes = inner.sizes
        for member in sizes:
            if member.endswith(".pkl"):
                scan_pickle(inner.read(member), f"{name}/{member}", "data", sizes)


def _scan_payloads(config: dict[str, Any], sizes: dict[str, int], name: str) -> None:
    folder = name.rpartition("/")[0]
    for key, entry in config["config"].items():
        file = str(entry["path_name"])
        if not _PAYLOAD.fullmatch(file):
            raise ModelUnsafeError(f"The value {key!r} is a pickled object ({file[:100]}). {_INSTEAD}")
        if f"{folder}/{file}" not in sizes:
            raise ModelError(f"The torch.export archive lacks {file}, the value of {key!r}. Send it again.")
        shape = [int(size.get("as_int", 1)) for size in (entry.get("tensor_meta") or {}).get("sizes", [])]
        count = 1
        for size in shape:
            count *= size
        if count > 8 * max(sizes[f"{folder}/{file}"], 2**17):  # expanded views are larger than their bytes
            raise ModelError(f"The value {key!r} has the shape {shape}, for which {file} is too small.")


def _scan_program(program: Any) -> None:
    for key, value in _items(program):
        if key == "target" and isinstance(value, str):
            _check_operator(value)
        elif key == "expr_str" and isinstance(value, str):
            _check_expression(value)
        elif key in ("in_spec", "out_spec") and isinstance(value, str):
            for inner, kind in _items(json.loads(value)):
                if inner == "type" and isinstance(kind, str) and not _CONTAINER.fullmatch(kind):
                    raise ModelUnsafeError(
                        f"The exported program takes or returns a {kind[:100]!r}, whose class is not "
                        "known here. "
                        "Export a module that takes and returns tensors, tuples and dicts of them."
                    )
        elif key == "range_constraints" and isinstance(value, dict):
            for symbol in value:
                _check_expression(symbol)
        elif key in ("as_custom_obj", "as_operator") and value:
            raise ModelUnsafeError(f"The exported program uses a custom object ({key}). {_INSTEAD}")


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    """Every (key, value) of the dicts in a JSON value, however deep."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield from part.items()
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)


def _check_operator(target: str) -> None:
    named = _OF_A_LIST.fullmatch(target)
    if not (named[2] in _LISTED[named[1]] if named else _OPERATORS.fullmatch(target)):
        raise ModelUnsafeError(
            f"The exported program calls {target[:100]!r}, which is no operator that a model needs (custom "
            f"operators are code that is not in the file). {_INSTEAD}"
        )


def _check_expression(text: str) -> None:
    """Sizes are written as sympy's constructor calls, and sympy evaluates what it reads."""
    refused = ModelUnsafeError(f"The exported program has the size {text[:100]!r}, which is no arithmetic.")
    if len(text) > 100_000:
        raise refused
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise refused from None
    words: set[int] = set()
    for node in ast.walk(tree):
        if not isinstance(node, _NODES):
            raise refused
        if isinstance(node, ast.Call):
            if not isinstance(node.func, ast.Name) or node.func.id not in _FUNCTIONS:
                raise refused
            if node.func.id in _TAKES_A_WORD:
                words |= {id(argument) for argument in node.args}
        elif isinstance(node, ast.keyword):
            if not isinstance(node.value, ast.Constant):
                raise refused
        elif isinstance(node, ast.Name):
            if node.id not in _FUNCTIONS | _VALUES and not re.fullmatch(r"[a-z]\w{0,40}", node.id):
                raise refused
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                if id(node) not in words or not _WORD.fullmatch(node.value):
                    raise refused
            elif not isinstance(node.value, int | float):
                raise refused
