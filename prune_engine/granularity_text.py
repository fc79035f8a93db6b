"""Granularity in sentences for the report's page: what is kept as one, exactly how many, what it buys."""

from __future__ import annotations

from prune_engine.granularity import Blocks, Granularity, Patterns
from prune_engine.report import Report
from prune_engine.typography import count, density


def is_exact(report: Report) -> bool:
    """To the unit: the count nearest to what was asked; n:m has only one."""
    kept, units = report.density, report.spec.units
    size = units.size if isinstance(units, Blocks) else 1
    return isinstance(units, Patterns) or abs(kept.kept - kept.requested * kept.prunable) <= 0.5 * size


def kept_sentence(report: Report) -> str:
    """How many weights are left, in which units, and whether that is what was asked for."""
    kept, units = report.density, report.spec.units
    said = f"{count(kept.kept)} of {count(kept.prunable)} prunable weights are left"
    if isinstance(units, Patterns):
        groups = count(kept.prunable // units.m)
        return f"{said}: exactly {units.n} of every {units.m} along the inputs, in each of {groups} groups."
    asked = density(kept.requested)
    how = "as found" if report.target else "as asked"
    if isinstance(units, Blocks):
        blocks = f"{count(kept.kept // units.size)} of {count(kept.prunable // units.size)} blocks of {units}"
        said, to = f"{blocks} (outputs by inputs) are left, {said.removesuffix(' are left')}", "to the block"
    else:
        to = "to the weight"
    return f"{said}: {f'density {asked} {how}, {to}' if is_exact(report) else f'asked for: {asked}'}."


def layers_note(report: Report) -> str:
    """What the rows of the table of layers are made of, where it is not single weights; else empty."""
    units = report.spec.units
    if isinstance(units, Patterns):
        return (
            f"Every group of {units.m} weights along the inputs, at one place of the kernel where there is "
            f"one, has exactly {units.n} that are not zero."
        )
    if isinstance(units, Blocks):
        return (
            f"Kept and gone are whole blocks of {units.rows} outputs by {units.columns} inputs, at one place "
            "of the kernel where there is one; the counts are of weights."
        )
    return ""


def run_time_note(units: Granularity) -> str:
    """What zeros in such units buy at run time, and where."""
    if isinstance(units, Patterns):
        others = (
            "NVIDIA GPUs from Ampere on can (their sparse tensor cores, through TensorRT or cuSPARSELt)"
            if (units.n, units.m) == (2, 4)
            else f"NVIDIA's sparse tensor cores take 2:4, not {units}"
        )
        return f"onnxruntime makes no use of {units} patterns and multiplies the zeros; {others}."
    if isinstance(units, Blocks):
        return (
            f"onnxruntime makes no use of zero blocks and multiplies them like any other; kernels for "
            f"block-sparse matrices of {units} can leave them out."
        )
    return (
        "Dense kernels multiply zeros like any other number: single zeros alone buy no time, and they make "
        "the file smaller only after compression. It gets faster when whole channels or neurons that are "
        "dead are removed from the graph, or where kernels skip zeros (2:4 patterns on NVIDIA GPUs)."
    )
