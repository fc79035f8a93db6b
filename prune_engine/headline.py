"""The report's headline: what the dense model was, what the pruned one is, what changed; words and figures.

Every line is taken from the report as it stands; what was not measured says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prune_engine.granularity_text import kept_sentence
from prune_engine.report import Report
from prune_engine.typography import (
    NOT_MEASURED,
    THIN,
    clean,
    count,
    density,
    large,
    measured,
    milliseconds,
    signed,
    significant,
    size,
)

METRIC_NAMES = {
    "accuracy": "accuracy",
    "mae": "mean absolute error",
    "mse": "mean squared error",
    "agreement": "agreement with the dense model",
    "relative_error": "relative error",
}


@dataclass(frozen=True)
class Line:
    """A line of the comparison. `note` says of what the figure is, in a few words."""

    name: str
    dense: str
    pruned: str
    change: str
    note: str = ""


def comparison(report: Report) -> list[Line]:
    """Dense against pruned, in the order in which people ask."""
    return [
        _density(report),
        _metric(report),
        _loss(report),
        *_sizes(report),
        _operations(report),
        _latency(report),
    ]


def sentences(report: Report) -> list[str]:
    """The outcome in two or three plain sentences, above all figures."""
    quality = report.quality
    unit = quality.metric.unit
    said = [
        *_goal(report),
        kept_sentence(report),
        f"{METRIC_NAMES[quality.metric.name].capitalize()}: {measured(quality.dense.value, unit)} before, "
        f"{measured(quality.pruned.value, unit)} after ({metric_change(report)}), "
        f"on {count(quality.pruned.rows)} held-out rows.",
    ]
    if unit == "%" and 0 < quality.pruned.rows < 1000:
        said.append(
            f"With so few rows the figure is coarse: one row more or less is "
            f"{100 / quality.pruned.rows:.2f} percentage points."
        )
    return said + list(_start(report))


def _start(report: Report) -> Iterator[str]:
    """From where it started and what was not trained, where that is not the usual."""
    if report.spec.init == "random":
        yield "Training started from fresh weights; “dense” is the model as it was sent."
    if not report.spec.train_weights:
        yield "Only the mask was learned; no weight was trained."
    if report.left_out:
        number = len(report.left_out)
        are = "weight was left out and stays" if number == 1 else "weights were left out and stay"
        yield f"{count(number)} {are} dense."


def _goal(report: Report) -> list[str]:
    """What became of a frontier or a target; a single density needs no sentence."""
    if len(report.frontier) > 1:
        lowest = density(report.frontier[-1].density)
        return [
            f"{count(len(report.frontier))} models, from density {density(report.frontier[0].density)} to "
            f"{lowest}; the figures here are of the sparsest."
        ]
    if report.target is None:
        return []
    if report.target.met:
        return [f"Density {density(report.target.density)} is the smallest that was found within the target."]
    return [f"The target was not met; density {density(report.target.density)} comes nearest to it."]


def metric_change(report: Report) -> str:
    """Percentage points for percentages, else the change relative to the dense model's value."""
    quality = report.quality
    return change_between(quality.dense.value, quality.pruned.value, quality.metric.unit)


def change_between(before: float, after: float, unit: str) -> str:
    """The change of a figure of merit, for people."""
    if unit == "%":
        return f"{signed(after - before, 2)} points"
    if not before:
        return signed(after, 4)
    return f"{signed(100 * (after - before) / abs(before), 1)}{THIN}%"


def fewer(before: float, after: float, word: str) -> str:
    """`10.0 times smaller`; around 1, the change in per cent, as a factor would hide it."""
    if before <= 0 or after <= 0:
        return ""
    factor = before / after
    if factor >= 1.1:
        return f"{significant(factor)} times {word}"
    change = 100 * (after - before) / before
    return "unchanged" if abs(change) < 0.05 else f"{signed(change, 1)}{THIN}%"


def _density(report: Report) -> Line:
    kept = report.density
    return Line(
        "density",
        "1",
        density(kept.reached),
        f"{'found' if report.target else 'asked for'}: {density(kept.requested)}",
        f"{count(kept.kept)} of {count(kept.prunable)} prunable weights; "
        f"{density(kept.of_all_parameters)} of all {count(kept.parameters)} parameters",
    )


def _metric(report: Report) -> Line:
    quality = report.quality
    unit = quality.metric.unit
    return Line(
        METRIC_NAMES[quality.metric.name],
        measured(quality.dense.value, unit),
        measured(quality.pruned.value, unit),
        metric_change(report),
        f"{measured(quality.before_finetuning.value, unit)} before fine-tuning; {count(quality.pruned.rows)} "
        f"held-out rows ({clean(report.data.holdout_source)})",
    )


def _loss(report: Report) -> Line:
    dense, pruned, before = report.quality.dense, report.quality.pruned, report.quality.before_finetuning
    change = f"{signed(100 * (pruned.loss - dense.loss) / abs(dense.loss), 1)}{THIN}%" if dense.loss else ""
    return Line(
        "loss",
        significant(dense.loss, 4),
        significant(pruned.loss, 4),
        change,
        f"{significant(before.loss, 4)} before fine-tuning; the same rows",
    )


def _sizes(report: Report) -> list[Line]:
    sizes = report.size
    return [
        Line(
            "file, gzip",
            size(sizes.before_gzip),
            size(sizes.after_gzip),
            fewer(sizes.before_gzip, sizes.after_gzip, "smaller"),
            "what it takes to store or send",
        ),
        Line(
            "file",
            size(sizes.before),
            size(sizes.after),
            fewer(sizes.before, sizes.after, "smaller"),
            "an ONNX file stores zeros like other numbers",
        ),
    ]


def _operations(report: Report) -> Line:
    before, effective = report.operations.before, report.operations.effective
    known = before is not None and effective is not None
    return Line(
        "multiply-adds",
        large(before) if before is not None else NOT_MEASURED,
        large(effective) if effective is not None else NOT_MEASURED,
        fewer(before or 0, effective or 0, "fewer") if known else "",
        "for one row, those with a kept weight" if known else "the shapes inside the model are not known",
    )


def _latency(report: Report) -> Line:
    latency = report.latency
    if latency is None:
        return Line("latency", NOT_MEASURED, NOT_MEASURED, "", "see the warnings")
    before, after = latency.before, latency.after
    threads = "1 thread" if latency.threads == 1 else f"{latency.threads} threads"
    return Line(
        "latency",
        milliseconds(before.median_ms),
        milliseconds(after.median_ms),
        f"× {significant(latency.ratio)}",
        f"medians of {count(latency.runs)} runs in turns, batch {latency.batch}, {threads}; "
        f"8 of 10 runs within {milliseconds(before.p10_ms)} to {milliseconds(before.p90_ms)} dense, "
        f"{milliseconds(after.p10_ms)} to {milliseconds(after.p90_ms)} pruned",
    )
