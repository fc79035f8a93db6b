"""The picture of the weights before and after: how their values are spread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_engine.figures.canvas import ACCENT, INK, MUTED, draw_svg, soften
from prune_engine.report import Report
from prune_engine.typography import count, significant, tick

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "weights"
TITLE = "Weights before and after"


def draw(report: Report) -> str:
    """The picture as SVG: counts on a logarithmic axis, as a few per cent of the weights are left."""
    return draw_svg(NAME, TITLE, _description(report), 300, lambda figure: _histogram(figure, report))


def caption(report: Report) -> str:
    """What the picture shows."""
    zeros = report.density.prunable - report.density.kept
    left_out = f" The {count(zeros)} zeros of the pruned model are not drawn." if zeros else ""
    return (
        "How many prunable weights have which value, in the dense model and in the pruned one; "
        f"the outermost bins hold all beyond.{left_out}"
    )


def _description(report: Report) -> str:
    edges, after = report.weights.edges, report.weights.after
    used = [place for place, number in enumerate(after) if number]
    if not used:
        return "No weight was kept."
    return (
        f"The {count(report.density.kept)} kept weights lie in bins from {significant(edges[used[0]])} to "
        f"{significant(edges[used[-1] + 1])}; the axis runs from {significant(edges[0])} to "
        f"{significant(edges[-1])}."
    )


def _histogram(figure: Figure, report: Report) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    axes = figure.add_subplot()
    weights = report.weights
    dense = count(report.density.prunable)
    kept = count(report.density.kept)
    axes.stairs(
        weights.before,
        weights.edges,
        baseline=0.7,
        fill=True,
        color=MUTED,
        alpha=0.35,
        label=f"dense: {dense}",
    )
    axes.stairs(
        weights.after, weights.edges, baseline=0.7, color=ACCENT, linewidth=1.8, label=f"kept: {kept}"
    )
    axes.set_yscale("log")
    axes.set_ylim(0.7, max([10, *weights.before, *weights.after]) * 2)
    axes.yaxis.set_major_locator(LogLocator(base=10, numticks=6))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))
    if weights.edges[0] < weights.edges[-1]:
        axes.set_xlim(weights.edges[0], weights.edges[-1])
    soften(axes)
    axes.set_xlabel("value of the weight")
    axes.set_title("number of weights", loc="left", color=INK)
    axes.legend(loc="upper right", labelcolor=INK, handlelength=1.4, borderaxespad=0)
