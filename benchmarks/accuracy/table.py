"""The table: a section a task, a line a density and method."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from benchmarks.accuracy.cells import Summary, Verdict, summaries, verdicts
from benchmarks.accuracy.peers import PEERS
from benchmarks.accuracy.published import PUBLISHED
from benchmarks.accuracy.run import Run
from benchmarks.accuracy.tasks import Cell, Task

TITLES = {
    "gumbel": "**gumbel** (ours)",
    "gumbel-unmoved": "gumbel, images not moved",
    "magnitude": "magnitude (ours)",
}
HEADS = (
    *("density", "method", "{metric} there", "weights kept", "left by itself", "{metric} of that"),
    *("CPU seconds a run", "seeds", "asked of gumbel"),
)

NOTES = """
Every method starts from the same dense nets (one a seed; ResNet-20 is a given one, the same for every seed)
and takes the same batches in the same order for the same number of epochs. `gumbel` and `magnitude` run with
the engine's defaults; only density, epochs, batch size and seed are given. In trainings of more than five
epochs these defaults move images by a pixel; "images not moved" is the same without that. Where classes are
learned they also learn from the dense net as a teacher; the peers learn from the labels alone, as their
recipes have it. Each peer's settings were chosen on held-out training rows by the same small search
([settings.json](../accuracy/settings.json) has the figures; on CUDA they are the same), then it trained on
all training rows. Figures are of the test rows at the end of the training, mean and standard deviation over
the seeds. "Left by itself" is the density that a method ended at; where that is more than asked for, the
weights with the highest scores (keep logits, magnitudes) were kept and the rest cut away without further
training (hollow marks in the picture: before that). The first paper aims at as few weights as the loss
allows, whatever is asked for, so one training can stand for several densities.
Peers train ResNet-20 with its BatchNorm, as those who made it have it; ours gets the ONNX file, where that is
folded into the convolutions. Both are the same function.
Convolutional nets are trained channels-last and in bfloat16 where the processor has it, peers as ours;
measured in float32. Seconds are processor time with one thread; ours includes reading, exporting and checking
the files. Rows marked "published" were not run by us: other dense nets, other lengths of training.
"""


def table(tasks: Sequence[Task], runs: Iterable[Run]) -> str:
    """The whole page in Markdown."""
    runs = list(runs)
    machines = sorted({f"{run.machine} ({run.device}, {run.threads} thread(s))" for run in runs})
    versions = sorted({f"{name} {number}" for run in runs for name, number in run.versions.items()})
    lines = ["# Accuracy at every density", ""]
    if machines:
        lines += [f"Measured on {'; '.join(machines)}; {', '.join(versions)}.", ""]
    lines += ["![Accuracy against density](accuracy.svg)", "", NOTES.strip(), ""]
    for task in tasks:
        for device in ("cpu", "cuda"):
            mine = [run for run in runs if run.task == task.name and run.device == device]
            if mine:
                lines += section(task, mine, device)
    return "\n".join(lines)


def section(task: Task, runs: Sequence[Run], device: str) -> list[str]:
    """A task's heading and table."""
    dense = usual_dense(runs)
    metric = "error" if task.metric == "rmse" else "accuracy"
    known = ", ".join(f"{dense[seed]:.2f}" for seed in sorted(dense))
    heads = [head.format(metric=metric) for head in HEADS]
    lower = " Lower is better." if not task.higher_is_better else ""
    where = " on CUDA" if device == "cuda" else ""
    lines = [
        f"## {task.title}{where}",
        "",
        f"Dense: {known} {task.unit} (seeds {', '.join(map(str, sorted(dense)))}).{lower}",
        "",
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(heads),
    ]
    for cell in sorted(task.cells, key=lambda cell: (-cell.length(device), -cell.density)):
        found = summaries(task, cell, runs, device)
        for summary in found.values():
            lines.append(_line(task, cell, summary, found, device, dense))
        lines += _published(task, cell, len(heads)) if found else []
    return [*lines, ""]


def usual_dense(runs: Iterable[Run]) -> dict[int, float]:
    """Metric of the dense net that most runs of a seed began with."""
    seen: dict[int, list[float]] = {}
    for run in runs:
        seen.setdefault(run.seed, []).append(run.dense)
    return {seed: statistics.mode(values) for seed, values in seen.items()}


def _line(
    task: Task,
    cell: Cell,
    summary: Summary,
    found: dict[str, Summary],
    device: str,
    dense: dict[int, float],
) -> str:
    asked = ""
    if summary.method == "gumbel":
        asked = "; ".join(_said(part, found) for part in verdicts(task, cell, found, device))
    kept = statistics.fmean(run.kept for run in summary.runs)
    parts = [
        f"{100 * cell.density:g} %, {cell.length(device)} epochs",
        TITLES.get(summary.method) or PEERS[summary.method].title,
        f"{summary.mean:.2f}" + f" ± {summary.deviation:.2f}" * (len(summary.runs) > 1),
        f"{kept:.0f} of {summary.runs[0].prunable}",
        f"{100 * summary.reached:.3g} %",
        f"{summary.reached_mean:.2f}" if summary.cut else "",
        f"{statistics.median(run.cpu_seconds for run in summary.runs):.0f}",
        f"{len(summary.runs)}{_remarks(summary, dense)}",
        asked,
    ]
    return "| " + " | ".join(parts) + " |"


def _said(verdict: Verdict, found: dict[str, Summary]) -> str:
    """A verdict in words; one against peers stands for those that have run."""
    words = {True: "met", False: "**not met**", None: "not known yet"}
    run = sum(method in PEERS for method in found)
    so_far = f", {run} of {len(PEERS)} peers run" if verdict.beside_peers and 0 < run < len(PEERS) else ""
    return f"{verdict.asked}: {words[verdict.met]}{so_far}"


def _remarks(summary: Summary, dense: dict[int, float]) -> str:
    """What keeps a line from being compared with the others."""
    others = any(run.dense != dense[run.seed] for run in summary.runs)
    said = ["earlier rule"] * summary.stale + ["other dense nets"] * others
    return f" ({', '.join(said)})" if said else ""


def _published(task: Task, cell: Cell, columns: int) -> list[str]:
    """Published figures at this density; one at another density stands with the nearest cell above it."""
    above = [other.density for other in task.cells if other.epochs == max(c.epochs for c in task.cells)]
    lines = []
    for figure in PUBLISHED:
        home = max((d for d in above if d <= figure.density), default=min(above))
        if (
            figure.task == task.name
            and home == cell.density
            and cell.epochs == max(c.epochs for c in task.cells)
        ):
            parts = [f"{100 * figure.density:g} %", f"*published: {figure.by}*", f"*{figure.accuracy:g}*"]
            lines.append("| " + " | ".join(parts + [""] * (columns - len(parts))) + " |")
    return lines
