"""The picture of several densities: the figure of merit against density, which is on a log axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prune_engine.figures.canvas import ACCENT, INK, MUTED, SECOND, draw_svg, soften
from prune_engine.report import Report
from prune_engine.typography import count, measured
from prune_engine.typography import density as density_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME = "quality-by-density"
TITLE = "Quality by density"
HEIGHT = 300
DASHED = (0, (4, 3))


def applies(report: Report) -> bool:
    """Whether the report has more than one density to show."""
    return bool(report.frontier) or report.target is not None


def draw(report: Report) -> str:
    """The picture as SVG: a point for each density; of a search, hollow ones for short trainings."""
    return draw_svg(NAME, TITLE, _description(report), HEIGHT, lambda figure: _paint(figure, report))


def caption(report: Report) -> str:
    """What the picture shows."""
    name, target = _metric_name(report).capitalize(), report.target
    if target is None:
        return f"{name} of each model on the held-out rows. Dashed: the dense model."
    bound = "least" if report.quality.metric.higher_is_better else "most"
    return (
        f"{name} on the {count(target.rows)} rows that were searched on. Hollow: short "
        f"trainings on the way; filled: whole ones. Dashed: the dense model; dotted: the {bound} that is "
        "within the target."
    )


def _metric_name(report: Report) -> str:
    return report.quality.metric.name.replace("_", " ").replace("mae", "MAE").replace("mse", "MSE")


def _description(report: Report) -> str:
    unit = report.quality.metric.unit
    if report.target is not None:
        points = [(one.density, one.value) for one in report.target.tried]
    else:
        points = [(stop.density, stop.value) for stop in report.frontier]
    said = "; ".join(f"{density_text(density)}: {measured(value, unit)}" for density, value in points)
    return f"{_metric_name(report).capitalize()} by density. {said}."


def _paint(figure: Figure, report: Report) -> None:
    axes = figure.subplots()
    target, unit = report.target, report.quality.metric.unit
    if target is None:
        dense = report.quality.dense.value
        places = [stop.density for stop in report.frontier]
        values = [stop.value for stop in report.frontier]
        axes.plot(places, values, color=ACCENT, linewidth=1.6, marker="o", markersize=6, clip_on=False)
    else:
        dense = target.dense
        places = [one.density for one in target.tried]
        values = [one.value for one in target.tried]
        for whole in (False, True):
            some = [one for one in target.tried if one.whole is whole]
            axes.plot(
                [one.density for one in some],
                [one.value for one in some],
                "o",
                color=ACCENT,
                markerfacecolor=ACCENT if whole else "none",
                markersize=7 if whole else 6,
            )
        axes.axhline(target.limit, color=SECOND, linewidth=1.2, linestyle=(0, (1, 2)))
    axes.axhline(dense, color=SECOND, linewidth=1.2, linestyle=DASHED)
    soften(axes)
    suffix = f" in {unit}" if unit else ""
    axes.set_title(
        f"{_metric_name(report)}{suffix}  (dashed: dense, {measured(dense, unit)})", loc="left", color=INK
    )
    _density_axis(axes, places)
    axes.margins(y=0.15)


def _density_axis(axes: Axes, places: list[float]) -> None:
    """Logarithmic, sparser to the right, with the densities themselves as ticks where there is room."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_xscale("log")
    low, high = min(places), max(places)
    axes.set_xlim(max(high, 1.5 * low) * 1.15, low / 1.15)
    axes.xaxis.set_major_locator(FixedLocator(_ticks(places)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: density_text(value)))
    axes.set_xlabel("density", color=MUTED)


def _ticks(places: list[float]) -> list[float]:
    """The densest, and each that is far enough from the one before to be written next to it."""
    span = max(places) / min(places)
    ticks: list[float] = []
    for place in sorted(set(places), reverse=True):
        if not ticks or ticks[-1] / place >= span ** (1 / 8):
            ticks.append(place)
    return ticks
