"""The cases of ONNX's backend test suite, which of them are in scope, and how one is run."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import ModelProto, TensorProto, TypeProto, numpy_helper
from onnx.backend.test.loader import load_model_tests

from prune_engine.formats.graph import all_nodes
from prune_engine.formats.importer import compile_graph
from prune_engine.formats.operators.dtypes import compute_dtype, declared
from prune_engine.formats.values import to_torch

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")

STRINGS = "strings"
CONTAINERS = "sequences, optionals and maps"
TRAINING = "training operators"
RANDOM = "random generators without a seed"

_STRING_OPERATORS = {"StringConcat", "StringNormalizer", "StringSplit", "RegexFullMatch"}
_CONTAINER_OPERATORS = {
    "SequenceConstruct",
    "SequenceEmpty",
    "SequenceInsert",
    "SequenceErase",
    "SequenceAt",
    "SequenceLength",
    "SequenceMap",
    "SplitToSequence",
    "ConcatFromSequence",
    "Optional",
    "OptionalGetElement",
    "OptionalHasElement",
    "ZipMap",
    "DictVectorizer",
    "CastMap",
}
_RANDOM_OPERATORS = {
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Bernoulli",
    "Multinomial",
}
# Two units in the last place: what is 16 bits wide is computed in float32 and rounded at the end.
_COARSE = {TensorProto.FLOAT16: 2.0**-9, TensorProto.BFLOAT16: 2.0**-6}

_SEEDED = "seeded, but ONNX does not fix the generator: numpy's numbers are expected"
_NOISE = "rounding noise of the reference is expected where the result is 0, to 1e-7"
_OTHER_CORNERS = "onnxruntime, with which the module must agree, places the corners by the rounded size"
_DOUBLE = "unset memory as float64, beyond the float32 that the module computes in"
EXPLAINED: dict[str, str] = {
    "test_bernoulli_seed": _SEEDED,
    "test_bernoulli_seed_expanded": _SEEDED,
    "test_training_dropout": _SEEDED,
    "test_training_dropout_mask": _SEEDED,
    "test_training_dropout_default": _SEEDED,
    "test_training_dropout_default_mask": _SEEDED,
    "test_dft_inverse": _NOISE,
    "test_dft_inverse_opset19": _NOISE,
    "test_lstm_with_peepholes": "peephole weights are refused by name",
    "test_operator_add_broadcast": _DOUBLE,
    "test_operator_add_size1_right_broadcast": _DOUBLE,
    "test_operator_add_size1_singleton_broadcast": _DOUBLE,
    "test_operator_addconstant": _DOUBLE,
    "test_resize_downsample_scales_cubic_align_corners": _OTHER_CORNERS,
    "test_resize_downsample_scales_linear_align_corners": _OTHER_CORNERS,
}
"""In-scope cases that are known to fail, with the reason."""

DataSet = tuple[Sequence[Any], Sequence[Any]]


@dataclass(frozen=True)
class Case:
    """One case: a model with inputs and the outputs that ONNX's reference computed for them.

    `outside` is the reason why the case is out of scope, None for one that counts.
    """

    name: str
    kind: str
    model: ModelProto
    data_sets: tuple[DataSet, ...]
    relative: float
    absolute: float

    @property
    def outside(self) -> str | None:
        """Why this case is out of scope, or None."""
        return outside(self.model)


def cases(kind: str) -> Iterator[Case]:
    """Every case of one kind, in the suite's order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the reference overflows on purpose here and there
        loaded = load_model_tests(kind=kind)
    for case in loaded:
        model, data_sets = case.model, case.data_sets
        if model is None:
            folder = Path(case.model_dir)
            model = onnx.load(folder / "model.onnx")
            data_sets = [_stored(model, path) for path in sorted(folder.glob("test_data_set_*"))]
        yield Case(case.name, kind, model, tuple(data_sets), case.rtol, case.atol)


def _stored(model: ModelProto, folder: Path) -> DataSet:
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    stored = len(list(folder.glob("input_*.pb")))
    types = [value.type for value in (inputs if stored == len(inputs) else model.graph.input)]
    return (
        [_value(folder / f"input_{i}.pb", kind) for i, kind in enumerate(types)],
        [_value(folder / f"output_{i}.pb", value.type) for i, value in enumerate(model.graph.output)],
    )


def _value(path: Path, kind: TypeProto) -> Any:
    readers = {
        "tensor_type": (onnx.TensorProto, numpy_helper.to_array),
        "sequence_type": (onnx.SequenceProto, numpy_helper.to_list),
        "optional_type": (onnx.OptionalProto, numpy_helper.to_optional),
    }
    proto_type, read = readers[kind.WhichOneof("value")]
    proto = proto_type()
    proto.ParseFromString(path.read_bytes())
    return read(proto)


def outside(model: ModelProto) -> str | None:
    """Why a model is out of scope: from its types and operators alone, never from its name."""
    types, tensors, operators = [], list(model.graph.initializer), set()
    random = False
    for graph in _graphs(model):
        types += [value.type for value in (*graph.input, *graph.output, *graph.value_info)]
    for node in all_nodes([*model.graph.node, *(n for f in model.functions for n in f.node)]):
        operators.add((node.domain, node.op_type))
        names = {attribute.name for attribute in node.attribute}
        random |= node.op_type in _RANDOM_OPERATORS and "seed" not in names
        for attribute in node.attribute:
            tensors += [attribute.t] if attribute.HasField("t") else attribute.tensors
    if any(domain == "ai.onnx.preview.training" for domain, _ in operators):
        return TRAINING
    if any(t.tensor_type.elem_type == TensorProto.STRING for t in _leaves(types)) or any(
        tensor.data_type == TensorProto.STRING for tensor in tensors
    ):
        return STRINGS
    names = {name for _, name in operators}
    if names & _STRING_OPERATORS:
        return STRINGS
    if names & _CONTAINER_OPERATORS or any(
        kind.WhichOneof("value") not in ("tensor_type", None) for kind in types
    ):
        return CONTAINERS
    return RANDOM if random else None


def _leaves(types: Sequence[TypeProto]) -> Iterator[TypeProto]:
    for kind in types:
        if kind.HasField("sequence_type"):
            yield from _leaves([kind.sequence_type.elem_type])
        elif kind.HasField("optional_type"):
            yield from _leaves([kind.optional_type.elem_type])
        else:
            yield kind


def _graphs(model: ModelProto) -> Iterator[onnx.GraphProto]:
    yield model.graph
    for node in all_nodes(model.graph.node):
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield attribute.g
            yield from attribute.graphs


def check(case: Case) -> None:
    """Runs a case through the importer.

    Raises:
        AssertionError: an output has another type, shape or value than the reference's.
        Exception: whatever the import or the run raises.
    """
    torch.manual_seed(0)
    module = compile_graph(case.model).eval()
    for given, wanted in case.data_sets:
        with torch.no_grad():
            found = module(*(to_torch(_array(value)) for value in given))
        for tensor, value, info in zip(found, wanted, case.model.graph.output, strict=True):
            _compare(case, info.name, tensor, _array(value))


def failure(case: Case) -> str | None:
    """Runs a case; one line on what was wrong, or None."""
    try:
        check(case)
    except Exception as error:  # noqa: BLE001  # whatever it is, the case has failed
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return None


def _array(value: Any) -> np.ndarray:
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)


def _compare(case: Case, name: str, found: torch.Tensor, wanted: np.ndarray) -> None:
    element_type = onnx.helper.np_dtype_to_tensor_dtype(wanted.dtype)
    assert tuple(found.shape) == wanted.shape, f"{name}: shape {tuple(found.shape)}, not {wanted.shape}"
    assert found.dtype == compute_dtype(element_type), f"{name}: {found.dtype} for {wanted.dtype}"
    relative = max(case.relative, _COARSE.get(element_type, 0.0))
    values = declared(found, element_type)
    if wanted.dtype.kind not in "biu":  # numpy's own comparison does not know the narrow floats
        values, wanted = values.astype(np.float64), wanted.astype(np.float64)
    np.testing.assert_allclose(values, wanted, rtol=relative, atol=case.absolute, err_msg=name)
