"""The picture of the training: loss, figure of merit and density, one above the other over the same epochs.

Three panels instead of two axes in one: curves on unlike scales that cross mean nothing.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from prune_engine.figures.canvas import ACCENT, INK, MUTED, SECOND, draw_svg, soften
from prune_engine.report import CurvePoint, Report
from prune_engine.typography import density as density_text
from prune_engine.typography import measured, significant

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME = "training-curve"
TITLE = "Training curve"
PANEL = 142  # units of height


def draw(report: Report) -> str:
    """The picture as SVG; the middle panel is left out where the metric was not measured on the way."""
    panels = 3 if _values(report) else 2
    height = 60 + PANEL * panels if report.curve else 60
    paint = _panels if report.curve else _nothing
    return draw_svg(NAME, TITLE, _description(report), height, lambda figure: paint(figure, report))


def caption(report: Report) -> str:
    """What the picture shows."""
    if not report.curve:
        return "No training step was taken."
    metric = (
        f" {_metric_name(report).capitalize()} is of the pruned model on held-out rows."
        if _values(report)
        else ""
    )
    fixed = " The upright line marks where the mask was fixed." if _mask_fixed_at(report) else ""
    return f"Loss on training batches, and the share of prunable weights kept.{metric}{fixed}"


def _metric_name(report: Report) -> str:
    return report.quality.metric.name.replace("_", " ").replace("mae", "MAE").replace("mse", "MSE")


def _values(report: Report) -> list[tuple[float, float]]:
    return [(point.epoch, point.value) for point in report.curve if point.value is not None]


def _mask_fixed_at(report: Report) -> float | None:
    """The epoch at which fine-tuning began; None where it did not, began more than once, or came first."""
    if len(report.frontier) > 1:
        return None
    for before, after in pairwise(report.curve):
        if before.stage != "finetuning" and after.stage == "finetuning":
            return after.epoch
    return None


def _description(report: Report) -> str:
    if not report.curve:
        return "No training step was taken."
    first, last = report.curve[0], report.curve[-1]
    return (
        f"Over {significant(last.epoch)} epochs the loss went from {significant(first.loss)} to "
        f"{significant(last.loss)} and the density from {density_text(first.density)} to "
        f"{density_text(last.density)}."
    )


def _nothing(figure: Figure, report: Report) -> None:
    figure.text(0.5, 0.5, _description(report), ha="center", va="center", color=MUTED)


def _panels(figure: Figure, report: Report) -> None:
    values = _values(report)
    panels = figure.subplots(3 if values else 2, 1, sharex=True)
    epochs = [point.epoch for point in report.curve]
    _loss(panels[0], epochs, report.curve)
    if values:
        _metric(panels[1], values, report)
    _density(panels[-1], epochs, report)
    fixed = _mask_fixed_at(report)
    for panel in panels:
        soften(panel)
        if fixed is not None:
            panel.axvline(fixed, color=MUTED, linewidth=1)
    if fixed is not None:
        late = fixed > (epochs[0] + epochs[-1]) / 2
        panels[0].annotate(
            "mask fixed",
            (fixed, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 5),
            textcoords="offset points",
            ha="right" if late else "left",
            va="bottom",
            color=MUTED,
        )
    panels[-1].set_xlabel("epoch")
    if epochs and epochs[0] < epochs[-1]:
        panels[-1].set_xlim(min(0.0, epochs[0]), epochs[-1])


def _loss(axes: Axes, epochs: list[float], curve: list[CurvePoint]) -> None:
    losses = [point.loss for point in curve]
    axes.plot(epochs, losses, color=ACCENT, linewidth=1.6, marker=_marker(epochs), markersize=4)
    axes.set_title("loss", loc="left", color=INK)
    if losses and min(losses) > 0 and max(losses) > 50 * min(losses):
        _log(axes)
    else:
        _plain(axes)


def _metric(axes: Axes, values: list[tuple[float, float]], report: Report) -> None:
    unit = report.quality.metric.unit
    dense = report.quality.dense.value
    axes.plot(
        [epoch for epoch, _ in values],
        [value for _, value in values],
        color=ACCENT,
        linewidth=1.6,
        marker=_marker([epoch for epoch, _ in values]),
        markersize=4,
        clip_on=False,
    )
    axes.axhline(dense, color=SECOND, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.set_title(
        f"{_metric_name(report)}{f' in {unit}' if unit else ''}  (dashed: dense, {measured(dense, unit)})",
        loc="left",
        color=INK,
    )
    _plain(axes)
    axes.margins(y=0.12)


def _density(axes: Axes, epochs: list[float], report: Report) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    densities = [point.density for point in report.curve]
    axes.plot(epochs, densities, color=ACCENT, linewidth=1.6, marker=_marker(epochs), markersize=4)
    axes.set_title(f"density  (asked for: {density_text(report.density.requested)})", loc="left", color=INK)
    target = report.density.requested
    axes.axhline(target, color=SECOND, linewidth=1.2, linestyle=(0, (4, 3)))
    if target < 0.1 and all(value > 0 for value in densities):
        axes.set_yscale("log")
        lowest = min([target, *densities])
        axes.yaxis.set_major_locator(
            FixedLocator([10.0**-power for power in range(9) if 10.0**-power > lowest / 2])
        )
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: density_text(value)))
        axes.set_ylim(lowest / 1.6, 1.4)
    else:
        axes.set_ylim(0, 1.05)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _marker(epochs: list[float]) -> str:
    """Few points are shown as points, many as a line alone."""
    return "o" if len(epochs) <= 30 else ""


def _plain(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))


def _log(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(base=10, numticks=5))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
