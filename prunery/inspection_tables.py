"""An inspection on a terminal: the outcome, what a job would be, and tables of operators and weights."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from prune_engine.inspection import Inspection, KeptInfo
from prune_engine.inspection_page import outlook, sentences
from prune_engine.typography import clean, count, shorten, significant, size

_LONGEST_NAME = 60


def show_inspection(found: Inspection, console: Console) -> None:
    """Print everything that the page has, the constants that are not pruned in short."""
    console.print(f"{shorten(found.filename, 80)}: {' '.join(sentences(found))}", markup=False)
    for warning in found.warnings:
        console.print(f"warning: {clean(warning)}", markup=False, style="yellow")
    console.print(_model(found))
    console.print(_job(found))
    console.print(_operators(found))
    if found.weights:
        console.print(_weights(found))
    if found.left_out:
        console.print(_left_out(found))
    if found.not_prunable:
        console.print(_kept(found))


def _table(title: str, *columns: str) -> Table:
    """A table; columns that end in # are figures, in ! short words. What is too long is folded, never cut."""
    table = Table(title=title, title_justify="left", show_header=any(columns))
    for column in columns:
        if column.endswith("#"):
            table.add_column(column[:-1], justify="right", no_wrap=True)
        elif column.endswith("!"):
            table.add_column(column[:-1], no_wrap=True)
        else:
            table.add_column(column, overflow="fold")
    return table


def _shape(shape: tuple[int | str | None, ...]) -> str:
    return "×".join("?" if size is None else str(size) for size in shape) or "scalar"


def _model(found: Inspection) -> Table:
    table = _table("Model", "", "")
    table.add_row("format", escape(f"{found.format}, {found.route}, {size(found.bytes)}"))
    opsets = ", ".join(f"{domain} {version}" for domain, version in found.opsets.items())
    table.add_row("opset", escape(clean(f"{opsets}; IR {found.ir_version}; {found.producer}")))
    for name, tensors in (("input", found.inputs), ("output", found.outputs)):
        for tensor in tensors:
            table.add_row(name, escape(clean(f"{tensor.name}: {tensor.dtype} {_shape(tensor.shape)}")))
    table.add_row("sha256", found.sha256)
    return table


def _job(found: Inspection) -> Table:
    table = _table("What a job would be", "", "", "")
    for line in outlook(found):
        table.add_row(line.name, escape(line.value), escape(line.note))
    return table


def _operators(found: Inspection) -> Table:
    table = _table("Operators", "operator", "nodes#", "supported")
    for operator in found.operators:
        named = operator.name if operator.domain == "ai.onnx" else f"{operator.domain}.{operator.name}"
        nodes = f" ({', '.join(operator.nodes)})" if operator.nodes else ""
        said = "yes" if operator.supported else f"[red]no[/red]: {escape(clean(f'{operator.reason}{nodes}'))}"
        table.add_row(escape(clean(named)), count(operator.count), said)
    return table


def _weights(found: Inspection) -> Table:
    table = _table(
        "Prunable weights", "weight", "kind!", "shape!", "type!", "values#", "share#", "outputs#", "used by"
    )
    for weight in found.weights:
        users = shorten(weight.nodes[0], _LONGEST_NAME) if weight.nodes else ""
        more = f" and {len(weight.nodes) - 1} more" if weight.shared else ""
        table.add_row(
            escape(shorten(weight.name, _LONGEST_NAME)),
            weight.kind,
            _shape(weight.shape),
            weight.dtype,
            count(weight.count),
            f"{significant(100 * weight.share)} %",
            count(weight.outputs),
            escape(f"{users}{more}"),
        )
    return table


def _left_out(found: Inspection) -> Table:
    table = _table("Left out", "weight", "kind!", "shape!", "why")
    for one in found.left_out:
        name = escape(shorten(one.name, _LONGEST_NAME))
        table.add_row(name, one.kind, _shape(one.shape), escape(clean(one.reason)))
    return table


def _kept(found: Inspection) -> Table:
    """One line a reason: there may be hundreds of biases."""
    table = _table("Not pruned", "why", "constants#", "values#", "the largest")
    by_reason: dict[str, list[KeptInfo]] = {}
    for constant in found.not_prunable:
        by_reason.setdefault(constant.reason, []).append(constant)
    for reason, constants in by_reason.items():
        largest = max(constants, key=lambda constant: constant.count)
        table.add_row(
            escape(clean(reason)),
            count(len(constants)),
            count(sum(constant.count for constant in constants)),
            escape(f"{shorten(largest.name, _LONGEST_NAME)} {_shape(largest.shape)}"),
        )
    return table
