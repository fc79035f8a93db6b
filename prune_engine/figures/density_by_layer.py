"""The picture of where the kept weights are: density by layer.

Dots rather than bars, because densities span decades and a bar has no foot on a logarithmic axis.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from prune_engine.figures.canvas import ACCENT, INK, MUTED, RULE, draw_svg, soften
from prune_engine.report import LayerRow, Report
from prune_engine.typography import density as density_text
from prune_engine.typography import large, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME = "density-by-layer"
TITLE = "Density by layer"
NAMED_LAYERS = 40  # up to so many each layer has a line with its name; beyond, its place in the graph
LINE = 20  # units of height a named layer takes


def draw(report: Report) -> str:
    """The picture as SVG.

    Up to `NAMED_LAYERS` layers: a line each, with name and kept weights. More: a dot each, input to output.
    A layer without any kept weight is a hollow dot at the axis' end, which then is labelled 0.
    """
    named = len(report.layers) <= NAMED_LAYERS
    height = 74 + LINE * len(report.layers) if named else 300
    paint = _lines if named else _cloud
    return draw_svg(NAME, TITLE, _description(report), height, lambda figure: paint(figure, report))


def caption(report: Report) -> str:
    """What the picture shows."""
    empty = sum(layer.kept == 0 for layer in report.layers)
    sizes = (
        "" if len(report.layers) <= NAMED_LAYERS else " The larger the dot, the more weights the layer has."
    )
    hollow = f" Hollow: the {_layers(empty)} without a kept weight." if empty else ""
    return f"Kept over prunable weights of each layer; the line is the whole model's density.{sizes}{hollow}"


def _description(report: Report) -> str:
    if not report.layers:
        return "There are no layers."
    lowest = min(report.layers, key=lambda layer: layer.density)
    highest = max(report.layers, key=lambda layer: layer.density)
    return (
        f"{_layers(len(report.layers))}; lowest density {density_text(lowest.density)} "
        f"in {shorten(lowest.name, 60)}, highest {density_text(highest.density)} "
        f"in {shorten(highest.name, 60)}, whole model {density_text(report.density.reached)}."
    )


def _layers(number: int) -> str:
    return "1 layer" if number == 1 else f"{number} layers"


def _floor(layers: list[LayerRow]) -> float:
    """Where the axis ends: a step below the smallest density that is not 0, in whole decades."""
    smallest = min((layer.density for layer in layers if layer.kept), default=1.0)
    return float(10.0 ** math.floor(math.log10(smallest) - 0.15))


def _scale(axes: Axes, which: str, layers: list[LayerRow]) -> float:
    """Logarithmic where densities span more than one decade. Returns where a density of 0 is drawn."""
    from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, NullLocator

    floor = _floor(layers)
    axis = getattr(axes, f"{which}axis")
    limits = getattr(axes, f"set_{which}lim")
    smallest = min((layer.density for layer in layers if layer.kept), default=1.0)
    if smallest > 0.1 and all(layer.kept for layer in layers):
        limits(0, 1.04)
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        return 0.0
    getattr(axes, f"set_{which}scale")("log")
    limits(floor * 0.8, 1.25)
    decades = round(-math.log10(floor))
    places = [10.0**-power for power in range(decades, -1, -1)]
    labels = [density_text(place) for place in places]
    if not all(layer.kept for layer in layers):
        labels[0] = "0"
    axis.set_major_locator(FixedLocator(places))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FixedFormatter(labels))
    return floor


def _lines(figure: Figure, report: Report) -> None:
    axes = figure.add_subplot()
    layers = report.layers
    zero = _scale(axes, "x", layers)
    rows = range(len(layers))
    places = [layer.density if layer.kept else zero for layer in layers]
    axes.hlines(rows, zero, places, color=RULE, linewidth=1)
    axes.axvline(report.density.reached, color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
    axes.scatter(
        places,
        rows,
        s=46,
        facecolors=[ACCENT if layer.kept else "none" for layer in layers],
        edgecolors=ACCENT,
        linewidths=1.5,
        zorder=3,
        clip_on=False,
    )
    axes.set_yticks(rows, [shorten(layer.name, 24) or "(no name)" for layer in layers])
    axes.set_ylim(len(layers) - 0.4, -0.6)
    kept = axes.secondary_yaxis("right")
    kept.set_yticks(rows, [f"{large(layer.kept)} of {large(layer.prunable)}" for layer in layers])
    kept.tick_params(length=0)
    kept.spines["right"].set_visible(False)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    axes.grid(True, axis="x")
    axes.set_axisbelow(True)
    axes.set_xlabel(f"density  (dashed: whole model, {density_text(report.density.reached)})")


def _cloud(figure: Figure, report: Report) -> None:
    axes = figure.add_subplot()
    layers = report.layers
    zero = _scale(axes, "y", layers)
    biggest = max(layer.prunable for layer in layers)
    for filled in (True, False):
        chosen = [(place, layer) for place, layer in enumerate(layers, 1) if bool(layer.kept) is filled]
        axes.scatter(
            [place for place, _ in chosen],
            [layer.density if filled else zero for _, layer in chosen],
            s=[12 + 90 * layer.prunable / biggest for _, layer in chosen],
            facecolors=ACCENT if filled else "none",
            edgecolors=ACCENT,
            linewidths=1.2,
            alpha=0.7 if filled else 1.0,
            zorder=3,
            clip_on=False,
        )
    axes.axhline(report.density.reached, color=INK, linewidth=1.2, linestyle=(0, (4, 3)))
    soften(axes)
    axes.set_xlim(0, len(layers) + 1)
    axes.set_xlabel(f"layer, from input (1) to output ({len(layers)})", color=MUTED)
    axes.set_ylabel("density")
