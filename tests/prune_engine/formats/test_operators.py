"""The operator table against ONNX's own conformance tests, all that are in scope."""

from __future__ import annotations

import onnx
import pytest
import torch
from onnx import helper
from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

from benchmarks.conformance.backend_cases import (
    CONTAINERS,
    EXPLAINED,
    KINDS,
    RANDOM,
    STRINGS,
    TRAINING,
    cases,
    failure,
)
from prune_engine.formats.importer import compile_graph
from prune_engine.formats.operators import find, rows
from prune_engine.formats.operators.table import NEWEST_OPSET

# With the version of onnx that constraints.txt pins; a new one may bring more.
LEAST = {"node": 1800, "simple": 7, "pytorch-converted": 82, "pytorch-operator": 35}
OUTSIDE = {STRINGS, CONTAINERS, TRAINING, RANDOM}


@pytest.mark.parametrize("kind", KINDS)
def test_the_importer_computes_what_the_specification_says(kind: str) -> None:
    inside = [case for case in cases(kind) if case.outside is None]
    found = {case.name: what for case in inside if (what := failure(case)) is not None}
    unexplained = {name: what for name, what in found.items() if name not in EXPLAINED}
    assert not unexplained, "\n".join(f"{name}: {what}" for name, what in unexplained.items())
    assert len(inside) >= LEAST[kind]
    # What passes after all has no place in the list of what fails.
    assert {case.name for case in inside} & set(EXPLAINED) == set(found)


def test_only_what_is_agreed_is_out_of_scope() -> None:
    reasons = {case.outside for kind in KINDS for case in cases(kind)} - {None}
    assert reasons == OUTSIDE


def test_every_row_of_the_table_is_an_operator_of_the_specification() -> None:
    of_onnxruntime = {(schema.domain, schema.name) for schema in get_all_operator_schema()}
    for row in rows():
        if row.domain == "com.microsoft" or row.name == "SimplifiedLayerNormalization":
            assert (row.domain, row.name) in of_onnxruntime, row.name
            continue
        assert onnx.defs.has(row.name, row.domain), row.name
        schema = onnx.defs.get_schema(row.name, row.since, row.domain)
        assert schema.since_version <= row.since, row.name


BY_THE_IMPORTER = {"Constant", "If", "Loop", "Scan"}
STRINGS_AND_MAPS = {
    *("RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit"),
    *("CastMap", "CategoryMapper", "DictVectorizer", "ZipMap"),
}
VOTES = {"SVMClassifier"}


def test_every_operator_of_the_standard_is_known_at_every_opset_from_7_on() -> None:
    newest = {"": NEWEST_OPSET, "ai.onnx.ml": 5, "ai.onnx.preview": 1}
    assert newest[""] == onnx.defs.onnx_opset_version()
    assert newest["ai.onnx.ml"] == onnx.defs.get_schema("TreeEnsemble", "ai.onnx.ml").since_version
    versions: dict[tuple[str, str], dict[int, bool]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        versions.setdefault((schema.domain, schema.name), {})[schema.since_version] = schema.deprecated
    missing = set()
    for (domain, name), history in versions.items():
        if domain not in newest:
            continue
        gone = min((version for version, deprecated in history.items() if deprecated), default=99)
        first = max(min(history), 7) if domain == "" else min(history)
        for opset in range(first, min(newest[domain] + 1, gone)):
            if find(domain, name, opset) is None:
                missing.add((name, opset))
    left_out = BY_THE_IMPORTER | STRINGS_AND_MAPS | VOTES
    assert {(name, opset) for name, opset in missing if name not in left_out} == {
        ("LabelEncoder", 1)  # between strings and numbers only
    }


@pytest.mark.parametrize("name", ["ReduceL2", "LpNormalization"])
def test_norms_have_a_gradient_at_zero(name: str) -> None:
    options = {"axes": [1]} if name == "ReduceL2" else {"axis": 1}
    graph = helper.make_graph(
        [helper.make_node(name, ["x"], ["y"], **options)],
        "g",
        [helper.make_tensor_value_info("x", 1, [2, 3])],
        [helper.make_tensor_value_info("y", 1, None)],
    )
    module = compile_graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]))
    x = torch.zeros(2, 3, requires_grad=True)
    module(x)[0].sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
