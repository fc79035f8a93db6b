"""The picture: the metric against the density (logarithmic), a panel a task, a line a method.

Hollow marks: what a method was left with by itself, where that was more than asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.accuracy.cells import Summary, summaries
from benchmarks.accuracy.peers import PEERS
from benchmarks.accuracy.published import PUBLISHED
from benchmarks.accuracy.run import Run
from benchmarks.accuracy.tasks import Task

LOOKS: dict[str, tuple[str, str, str]] = {
    "gumbel": ("#0b62a8", "o", "gumbel (ours)"),
    "gumbel-unmoved": ("#0b62a8", "P", "gumbel, images not moved"),
    "magnitude": ("#5fa8dd", "s", "magnitude (ours)"),
    "torch-gradual": ("#b4540a", "^", PEERS["torch-gradual"].title),
    "nncf-magnitude": ("#2c7d43", "v", PEERS["nncf-magnitude"].title),
    "nncf-rb": ("#8a3ea8", "D", PEERS["nncf-rb"].title),
    "first-paper": ("#7a6a17", "X", PEERS["first-paper"].title),
}
INK, MUTED, RULE = "#1c2329", "#5a6672", "#d8dee4"
SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "accuracy",
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "grid.color": RULE,
    "legend.frameon": False,
}


def write_figure(tasks: Sequence[Task], runs: Sequence[Run], folder: Path) -> None:
    """Write `accuracy.svg` and `accuracy.png`."""
    panels = []
    for task in tasks:
        for device in ("cpu", "cuda"):
            mine = [run for run in runs if run.task == task.name and run.device == device]
            if mine:
                panels.append((task, mine, device))
    columns = min(len(panels), 2)
    count = math.ceil(len(panels) / columns)
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(5.8 * columns, 3.6 * count + 2.2 - 0.5 * columns), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(count, columns, squeeze=False).flatten()
        for axes, (task, mine, device) in zip(grid, panels, strict=False):
            _panel(axes, task, mine, device)
        for axes in grid[len(panels) :]:
            axes.set_visible(False)
        handles = {
            label: handle
            for axes in grid
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns)
        figure.savefig(folder / "accuracy.svg", metadata={"Date": None})
        figure.savefig(folder / "accuracy.png", dpi=120, metadata={"Software": None})


def _panel(axes: Axes, task: Task, runs: Sequence[Run], device: str) -> None:
    length = max(cell.length(device) for cell in task.cells)
    cells = sorted(
        (cell for cell in task.cells if cell.length(device) == length), key=lambda cell: cell.density
    )
    lines: dict[str, list[tuple[float, Summary]]] = {}
    for cell in cells:
        for method, summary in summaries(task, cell, runs, device).items():
            lines.setdefault(method, []).append((100 * cell.density, summary))
    for method, points in lines.items():
        colour, marker, label = LOOKS[method]
        axes.errorbar(
            [density for density, _ in points],
            [summary.mean for _, summary in points],
            [summary.deviation for _, summary in points],
            color=colour,
            marker=marker,
            label=label,
            markersize=5,
            linewidth=2.2 if method == "gumbel" else 1.3,
            capsize=2,
            zorder=3 if method == "gumbel" else 2,
        )
        left = [(100 * summary.reached, summary.reached_mean) for _, summary in points if summary.cut]
        if left:
            axes.scatter(
                *zip(*left, strict=True), facecolors="none", edgecolors=colour, marker=marker, zorder=2
            )
    known = [figure for figure in PUBLISHED if figure.task == task.name]
    if known:
        places = [100 * figure.density for figure in known], [figure.accuracy for figure in known]
        axes.scatter(*places, color=MUTED, marker="*", label="published, not run by us", zorder=2)
    dense = [run.dense for run in runs]
    axes.axhline(sum(dense) / len(dense), color=MUTED, linestyle=":", label="dense")
    means = {method: [summary.mean for _, summary in points] for method, points in lines.items()}
    _frame(axes, task, means, dense)
    axes.set_xscale("log")
    ticks = [100 * cell.density for cell in cells]
    axes.set_xlim(0.85 * min(ticks), 1.18 * max(ticks))
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set_title(f"{task.title}{' on CUDA' if device == 'cuda' else ''}, {length} epochs", fontsize=11)
    axes.set_xlabel("density, % of the weights")
    axes.set_ylabel(f"{'accuracy' if task.metric == 'accuracy' else 'error'}, {task.unit}")
    axes.grid(True, axis="y")
    axes.spines[["top", "right"]].set_visible(False)


def _frame(axes: Axes, task: Task, of_methods: dict[str, list[float]], dense: list[float]) -> None:
    """The part of the axis where methods differ, and all of `gumbel`; what lies far outside is left out."""
    best, worst = (max, min) if task.higher_is_better else (min, max)
    means = [mean for points in of_methods.values() for mean in points]
    leading = sorted(means, reverse=task.higher_is_better)[: max(2 * len(means) // 3, 2)]
    edge, top = worst([leading[-1], *of_methods.get("gumbel", [])]), best([*means, *dense])
    room = max(abs(top - edge) * 0.15, 0.1)
    if task.higher_is_better:
        axes.set_ylim(edge - room, top + room)
    else:
        axes.set_ylim(top - room, edge + room)
