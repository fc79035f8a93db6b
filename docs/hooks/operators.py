"""The table of supported operators in `models.md`, made of the operator table itself.

It stands between `<!-- operators:begin -->` and `<!-- operators:end -->`. After a change of an operator:

    make docs-tables
"""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import helper

from prune_engine.formats.operators import rows
from prune_engine.formats.operators.table import NEWEST_OPSET
from prune_engine.formats.quantised_places import integer_places
from prune_engine.formats.weight_places import weight_places

PAGE = Path(__file__).resolve().parent.parent / "models.md"
BEGIN, END = "<!-- operators:begin -->", "<!-- operators:end -->"

DOMAINS = {
    "": f"ONNX (`ai.onnx`), opsets 1 to {NEWEST_OPSET}",
    "com.microsoft": "What onnxruntime's optimiser writes (`com.microsoft`)",
    "ai.onnx.ml": "What scikit-learn's exporters write (`ai.onnx.ml`)",
}

CONTROL = ("Constant", "If", "Loop", "Scan")
"""Operators that the importer itself sees to, so that they have no row."""

LIMITS = {
    ("", "BatchNormalization"): "one statistic a channel",
    ("", "BitCast"): "to 8 bits or more",
    ("", "CausalConvWithState"): "[batch, channels, length]",
    ("", "Einsum"): "a weight where one of two operands is constant",
    ("", "Gather"): "a weight where it looks up the rows of a constant matrix",
    ("", "GridSample"): "volumes without cubic",
    ("", "GRU"): "the activations of the standard",
    ("", "If"): "weights in both branches",
    ("", "LinearAttention"): "not more key heads than query heads",
    ("", "Loop"): "weights in the body",
    ("", "LSTM"): "no peepholes",
    ("", "NonMaxSuppression"): "no gradient, so train on the scores and boxes before it",
    ("", "RandomNormal"): "with a seed",
    ("", "RandomNormalLike"): "with a seed",
    ("", "RandomUniform"): "with a seed",
    ("", "RandomUniformLike"): "with a seed",
    ("", "Scan"): "weights in the body",
    ("", "TfIdfVectorizer"): "of numbers, not of strings",
    ("ai.onnx.ml", "LabelEncoder"): "of numbers, not of strings",
    ("ai.onnx.ml", "LinearClassifier"): "labels that are numbers",
    ("ai.onnx.ml", "OneHotEncoder"): "of numbers, not of strings",
    ("ai.onnx.ml", "TreeEnsembleClassifier"): "labels that are numbers",
    ("com.microsoft", "Attention"): "no shared buffer of past and present, no mask of four axes",
    ("com.microsoft", "BiasDropout"): "not in training mode",
    ("com.microsoft", "BitmaskBiasDropout"): "not in training mode",
    ("com.microsoft", "BitmaskDropout"): "not in training mode",
    ("com.microsoft", "CausalConvWithState"): "[batch, channels, length], the last state alone",
    ("com.microsoft", "CDist"): "euclidean and sqeuclidean",
    ("com.microsoft", "GroupQueryAttention"): "no quantised cache, no scores as an output",
    ("com.microsoft", "LinearAttention"): "not more key heads than query heads, the last state alone",
    ("com.microsoft", "MatMulNBits"): "2, 4 and 8 bits",
    ("com.microsoft", "SkipGroupNorm"): "channels last",
}
"""What of an operator is not supported, or what there is to know of it."""

_STRAIGHT_THROUGH = (
    "QuantizeLinear",
    "DynamicQuantizeLinear",
    "DynamicQuantizeMatMul",
    "QGemm",
    "ConvInteger",
    "MatMulInteger",
)
_STEPS = ("Ceil", "Floor", "Hardmax", "OneHot", "Round", "Sign", "Binarizer", "Range", "TreeEnsemble")


def table() -> str:
    """The part between the markers."""
    parts = []
    for domain, title in DOMAINS.items():
        spans: dict[str, list[tuple[int, int]]] = {}
        for row in rows():
            if row.domain == domain:
                spans.setdefault(row.name, []).append((row.since, row.until))
        if domain == "":
            spans |= {name: [(1, NEWEST_OPSET)] for name in CONTROL}
        lines = [
            f"| `{name}` | {_opsets(spans[name])} | {_gradient(domain, name)} | {_weight(domain, name)} | "
            f"{LIMITS.get((domain, name), '')} |"
            for name in sorted(spans)
        ]
        head = ["| operator | opsets | gradient | prunable weight | to know |", "|---|---|---|---|---|"]
        parts.append("\n".join([f"### {title}", "", f"{len(spans)} operators.", "", *head, *lines]))
    return "\n\n".join(parts)


def _opsets(spans: list[tuple[int, int]]) -> str:
    """Ranges that follow one another are one."""
    joined: list[list[int]] = []
    for since, until in sorted(spans):
        if joined and since <= joined[-1][1] + 1:
            joined[-1][1] = max(until, joined[-1][1])
        else:
            joined.append([since, until])
    said = []
    for since, until in joined:
        newest = until >= NEWEST_OPSET
        said.append(
            f"{since} and newer" if newest else str(since) if since == until else f"{since} to {until}"
        )
    return ", ".join(said)


def _gradient(domain: str, name: str) -> str:
    if name in _STRAIGHT_THROUGH or name.startswith("QLinear"):
        return "straight through"
    if name.startswith(_STEPS):
        return "zero"
    try:
        schema = onnx.defs.get_schema(name, domain=domain)
    except onnx.defs.SchemaError:
        return "yes"
    types = {kind for output in schema.outputs for kind in output.types}
    return "yes" if any("float" in kind for kind in types) else "no: not a float"


def _weight(domain: str, name: str) -> str:
    """What the operator's weight is called in the report."""
    attributes = {"equation": "ab,bc->ac"} if name == "Einsum" else {}
    inputs = [f"i{position}" for position in range(2 if name == "Einsum" else 9)]
    node = helper.make_node(name, inputs, ["y"], domain=domain, **attributes)
    kinds = [kind for _, kind, _ in weight_places(node, lambda _: 2)]
    return ", ".join(dict.fromkeys([*kinds, *(place.kind for place in integer_places(node))]))


def with_table(page: str) -> str:
    """The page with the table as it is now."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
