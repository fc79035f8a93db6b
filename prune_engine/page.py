"""The report as one HTML page that needs nothing else: no script, no request, styles and pictures inside."""

from __future__ import annotations

import json
from typing import Any, get_args

from markupsafe import Markup

from prune_engine import typography
from prune_engine.events import Stage
from prune_engine.figures import pictures_of
from prune_engine.figures.canvas import themed
from prune_engine.granularity_text import layers_note
from prune_engine.headline import METRIC_NAMES, change_between, comparison, sentences
from prune_engine.html import environment, moment
from prune_engine.report import Report
from prune_engine.spec import Preprocess

_METHODS = {"gumbel": "learned Gumbel gates", "magnitude": "gradual magnitude pruning"}


def render_html(report: Report) -> str:
    """The report as a self-contained page.

    Names of files, layers and columns come from strangers: everything is escaped, and characters that would
    reorder or break the text are replaced.
    """
    # The pictures are our own SVG.
    figures = [(picture, Markup(themed(picture.draw(report)))) for picture in pictures_of(report)]  # noqa: S704 - our own pictures
    return (
        environment()
        .get_template("report.html")
        .render(
            report=report,
            method=_METHODS[report.spec.method],
            change=lambda before, after: change_between(before, after, report.quality.metric.unit),
            metric_name=METRIC_NAMES[report.quality.metric.name],
            created=moment(report.created_at),
            sentences=sentences(report),
            comparison=comparison(report),
            figures=figures,
            layers_note=layers_note(report),
            bounded=any(layer.least is not None or layer.most is not None for layer in report.layers),
            settings=_flat(report.settings),
            spec=_flat(report.spec.model_dump(exclude_defaults=True)),
            stages=_in_order(report.durations),
            formula=_formula,
        )
    )


def _in_order(durations: dict[str, float]) -> list[tuple[str, float]]:
    """The stages in the order in which a run goes through them, then whatever else was timed."""
    order = list(get_args(Stage))
    stages = [item for item in durations.items() if item[0] != "total"]
    return sorted(stages, key=lambda item: order.index(item[0]) if item[0] in order else len(order))


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as lines: `("schedule.anneal_until", "0.6")`."""
    lines = []
    for name, value in values.items():
        if isinstance(value, dict) and value:
            lines += _flat(value, f"{prefix}{name}.")
        else:
            lines.append((prefix + name, _plain(value)))
    return lines


def _plain(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "none"}[value]
    if isinstance(value, int):
        return typography.count(value)
    if isinstance(value, float):
        return f"{value:.6g}".replace("-", typography.MINUS)
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _formula(preprocess: Preprocess) -> str:
    """What was done to the raw values, as a person would write it."""
    steps = ["x"]
    if preprocess.scale != 1:
        inverse = 1 / preprocess.scale
        whole = abs(inverse - round(inverse)) < 1e-9 * inverse
        steps.append(f" / {round(inverse)}" if whole else f" × {preprocess.scale:.6g}")
    text = "".join(steps)
    if any(preprocess.mean):
        text = (
            f"({text} − {_few(preprocess.mean)})"
            if len(steps) == 1
            else f"(({text}) − {_few(preprocess.mean)})"
        )
    if any(value != 1 for value in preprocess.std):
        text += f" / {_few(preprocess.std)}"
    return text if preprocess.layout == "as_is" else f"{text}, layout {preprocess.layout}"


def _few(values: tuple[float, ...]) -> str:
    """One value bare, several in brackets, more than four by their first and their number."""
    texts = [f"{value:.4g}".replace("-", typography.MINUS) for value in values]
    if len(texts) == 1:
        return texts[0]
    return f"[{', '.join(texts)}]" if len(texts) <= 4 else f"[{texts[0]}, {texts[1]}, … {len(texts)} values]"
