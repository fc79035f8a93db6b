"""The inspection as one HTML page that needs nothing else. Light: no torch, no matplotlib."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from prune_engine.html import environment, moment
from prune_engine.inspection import DensityOutlook, Inspection
from prune_engine.report import LeftOut
from prune_engine.typography import THIN, clean, count, density, duration, large, significant, size

NOT_KNOWN = "not known"


@dataclass(frozen=True)
class Line:
    """A line of the outlook: what, how much, and of what that is."""

    name: str
    value: str
    note: str = ""


def render_inspection(inspection: Inspection) -> str:
    """The inspection as a self-contained page; whatever strangers named is escaped and cleaned."""
    template = environment().get_template("inspection.html")
    return template.render(
        it=inspection,
        created=moment(inspection.created_at),
        sentences=sentences(inspection),
        outlook=list(outlook(inspection)),
    )


def sentences(inspection: Inspection) -> list[str]:
    """The outcome in one to three sentences."""
    parameters = inspection.parameters
    said = []
    if inspection.prunable:
        said.append("This model can be pruned.")
    else:
        number = len(inspection.problems)
        said.append(f"A job would fail: {'one thing is' if number == 1 else f'{number} things are'} wrong.")
    if parameters.prunable:
        share = 100 * parameters.prunable / max(parameters.total, 1)
        said.append(
            f"{count(parameters.prunable)} of its {count(parameters.total)} parameters "
            f"({significant(share)}{THIN}%) are prunable, in {count(len(inspection.weights))} "
            f"weight{'s' if len(inspection.weights) != 1 else ''}."
        )
    if inspection.left_out:
        said.append(left_out_sentence(inspection.left_out))
    if inspection.density is not None and inspection.density.kept is not None:
        said.append(
            f"Density {density(inspection.density.requested or 0)} keeps {count(inspection.density.kept)}."
        )
    return said


def left_out_sentence(left_out: Sequence[LeftOut]) -> str:
    """How much could be pruned and is not, as it was asked."""
    number = len(left_out)
    values = sum(math.prod(one.shape) for one in left_out)
    are = "weight is" if number == 1 else "weights are"
    return f"{count(number)} more {are} left out, with {count(values)} values."


def outlook(inspection: Inspection) -> Iterator[Line]:
    """What a job would be: densities, arithmetic, memory, time, data."""
    if inspection.density is not None:
        yield from _densities(inspection.density)
    rows = ", ".join(
        f"{clean(name)} {'×'.join(map(str, shape))}" for name, shape in inspection.measured_with.items()
    )
    operations = inspection.multiply_adds
    if operations is not None:
        yield Line("multiply-adds of a row", large(operations), f"dense, measured with {rows}")
    elif inspection.prunable:
        yield Line("multiply-adds of a row", NOT_KNOWN, "the warnings say why")
    if (memory := inspection.memory) is not None:
        parts = {
            "libraries": memory.libraries,
            "weights and optimiser": memory.weights,
            "gates": memory.gates,
            f"activations of {count(memory.batch_size)} rows": memory.activations,
            "graph and sessions": memory.graph,
            "data": memory.data,
        }
        shown = ", ".join(f"{name} {size(part)}" for name, part in parts.items() if part is not None)
        yield Line("memory of a job", f"about {size(memory.bytes)}", f"{shown}. {memory.how.capitalize()}.")
    time = inspection.time
    if time.seconds is not None and time.steps is not None and time.seconds_per_step is not None:
        steps = f"{count(time.steps)} steps of {count(time.batch_size or 0)} rows"
        value = f"about {duration(time.seconds)}: {steps}, {duration(time.seconds_per_step)} each"
    else:
        value = NOT_KNOWN
    yield Line("training time here", value, clean(time.how[:1].upper() + time.how[1:]))
    if (data := inspection.data) is not None:
        classes = f", {count(data.classes)} classes" if data.classes else ""
        yield Line(
            "data",
            f"{clean(data.name)}: {data.task}{classes}",
            f"{data.kind}; {count(data.train_rows)} rows to train on, {count(data.holdout_rows)} held out "
            f"({clean(data.holdout_source)})",
        )


def _densities(known: DensityOutlook) -> Iterator[Line]:
    if known.kept is not None and known.reached is not None:
        yield Line(
            "density asked for",
            density(known.requested or 0),
            f"{count(known.kept)} weights kept, which is {significant(known.reached, 9)} exactly",
        )
    if not known.step:
        yield Line(
            "densities it can have", f"{significant(known.smallest)} only", "the share that stays is fixed"
        )
        return
    unit = "weight" if known.granularity == "weight" else "block"
    yield Line(
        "densities it can have",
        f"{significant(known.smallest)} to 1",
        f"in steps of {significant(known.step)}: one {unit}",
    )
