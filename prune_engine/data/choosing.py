"""`preprocess`: as the user says it, or the candidate with which the dense model does best on training
rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from prune_engine.data.arrangement import Arrangement, arrangements, with_layout
from prune_engine.data.candidates import scalings
from prune_engine.data.raw import Array
from prune_engine.data.scoring import (
    Score,
    accuracy_score,
    confusion,
    correlation_score,
    predicted_classes,
    r2_score,
    relabelling_chance,
)
from prune_engine.data.task import Plan, outputs_are
from prune_engine.data.transform import DTYPES, IDENTITY, Transform
from prune_engine.data.trial import FIRST_ROWS, DidNotRun, Trial
from prune_engine.errors import ModelError, PreprocessError, ShapeMismatchError
from prune_engine.report import PreprocessCandidate, PreprocessInfo, TensorInfo
from prune_engine.spec import Preprocess

CHANCE = 1e-3
MANY_VALUES = 4
MUCH_LARGER = 8.0
PROBE_ROWS = 8
_STANDARDISED = ("the data's mean and std by channel", "the data's mean and std", "standardised columns")
HOW_TO_SET = (
    'set preprocess explicitly, for example {"scale": 0.00392156862745098, "mean": [0.485, 0.456, 0.406], '
    '"std": [0.229, 0.224, 0.225], "layout": "nchw"}: x * scale, minus mean, divided by std'
)
Transforms = tuple[Transform, ...]


@dataclass
class Attempt:
    """A candidate and how it did."""

    name: str
    transforms: Transforms
    preprocess: Preprocess
    score: Score | None = None
    straight_line: float = 0.0
    note: str = ""


def possible_arrangements(trial: Trial, layout: str | None) -> list[list[Arrangement]]:
    """For each input, the ways from the rows as sent to the model's shape.

    Raises:
        ShapeMismatchError: an input has none; gives both shapes and what was tried.
    """
    result = []
    for info, rows in zip(trial.inputs, trial.train, strict=True):
        wanted = info.shape[1:] if info.shape else None
        row = tuple(rows.shape[1:])
        asked = layout if DTYPES.get(info.dtype, torch.int64).is_floating_point else None
        ways = with_layout(row, wanted, asked) if asked else arrangements(row, wanted)  # type: ignore[arg-type]
        if not ways:
            tried = "as sent, channels first, channels last, flat, grey <-> RGB"
            if asked:
                fitting = sorted({way.layout for way in arrangements(row, wanted)})
                tried = f"layout {asked}" + (f" (layout {' or '.join(fitting)} would fit)" if fitting else "")
            raise ShapeMismatchError(
                f"rows of shape {row} do not fit the model's input '{info.name}', which takes rows of shape "
                f"{_shape(wanted)}; tried: {tried}; resize or rearrange the data to that shape"
            )
        result.append(ways)
    return result


def starting_attempts(trial: Trial, preprocess: Preprocess | None) -> list[Attempt]:
    """The candidates, the simplest first; a single one (per layout that fits) where the user has said it.

    Raises:
        ShapeMismatchError, SpecError: see `possible_arrangements` and `Transform.check`.
        ModelError: an input has a dtype that no data can have.
    """
    ways = possible_arrangements(trial, preprocess.layout if preprocess else None)
    dtypes = [input_dtype(info) for info in trial.inputs]
    plain = [
        Transform(way[0], (preprocess if preprocess and dtype.is_floating_point else IDENTITY), dtype)
        for way, dtype in zip(ways, dtypes, strict=True)
    ]
    if preprocess is not None:
        for transform in plain:
            transform.check()
        return [Attempt("as asked", tuple(plain), preprocess)]
    floats = [position for position, dtype in enumerate(dtypes) if dtype.is_floating_point]
    varied = floats[0] if len(floats) == 1 else 0 if len(trial.inputs) == 1 else None
    if varied is None:
        return [Attempt("as is", tuple(plain), IDENTITY)]
    attempts = []
    for way in ways[varied]:
        steps = scalings(trial.train[varied], way) if varied in floats else [("as is", IDENTITY)]
        for name, step in steps:
            transforms = list(plain)
            transforms[varied] = Transform(way, step, dtypes[varied])
            label = f"{name}, {way.text}" if way.layout != "as_is" or len(ways[varied]) > 1 else name
            attempts.append(Attempt(label, tuple(transforms), step.model_copy(update={"layout": way.layout})))
    return attempts


def first_that_runs(trial: Trial, attempts: Sequence[Attempt]) -> tuple[Attempt, list[Array]]:
    """The first candidate that the dense model takes, and its outputs for a few rows.

    Some graphs take one row only although their inputs do not say so; then the trial goes row by row.

    Raises:
        ShapeMismatchError: it takes none; gives the reason of onnxruntime.
    """
    for one_by_one in (False, True):
        trial.one_by_one = one_by_one
        for attempt in attempts:
            try:
                return attempt, trial.outputs(attempt.transforms, PROBE_ROWS)
            except DidNotRun as reason:
                attempt.note = f"did not run: {reason}"
        if trial.fixed_in_graph is not None:
            break
    shapes = "; ".join(
        f"'{info.name}' takes {_shape(info.shape)} {info.dtype} and was given "
        f"{('rows', *attempts[0].transforms[position].arrangement.shape)}"
        for position, info in enumerate(trial.inputs)
    )
    raise ShapeMismatchError(f"the dense model does not run on the data: {attempts[0].note}; {shapes}")


def choose(trial: Trial, attempts: list[Attempt], plan: Plan) -> tuple[Attempt, PreprocessInfo]:
    """Score every candidate on training rows and take the best, the simplest of equals.

    All are tried on 128 rows; those that could still be the best, on 1,000.

    Raises:
        PreprocessError: no candidate is better than chance (classes) or than predicting the mean, and no
            straight line relates outputs and labels either (numbers).
    """
    score = _classes_scorer(plan, trial) if plan.task == "classification" else _numbers_scorer(plan, trial)
    rows = min(FIRST_ROWS, trial.rows_affordable(len(attempts)))
    _score_all(trial, attempts, rows, score)
    if len(trial) > rows and trial.rows_affordable(len(attempts)) > FIRST_ROWS:
        rows = trial.rows_affordable(len(attempts))
        best = max(map(_value, attempts))
        margin = 300 * 0.5 / np.sqrt(FIRST_ROWS) if plan.task == "classification" else np.inf
        _score_all(trial, [a for a in attempts if a.score and a.score.value >= best - margin], rows, score)
    ran = [attempt for attempt in attempts if attempt.score is not None]
    candidates = [
        PreprocessCandidate(name=a.name, score=a.score and round(a.score.value, 4), note=a.note)
        for a in attempts
    ]
    best_attempt = _best(ran, rows)
    if plan.task == "classification":
        _require_better_than_chance(best_attempt, ran, candidates)
    elif best_attempt.score is not None and best_attempt.score.value <= 0:
        best_attempt = max(ran, key=lambda a: a.straight_line)
        if best_attempt.straight_line < 0.25:
            raise PreprocessError(
                f"with no preprocessing does the dense model predict the labels better than their mean does "
                f"({_table(candidates, 'R2')}); {HOW_TO_SET}; or the model was not trained on these targets",
                param="preprocess",
            )
    why = _why(best_attempt, ran, plan, min(len(trial), rows))
    info = PreprocessInfo(
        name=best_attempt.name, chosen=best_attempt.preprocess, why=why, candidates=candidates
    )
    return best_attempt, info


def own_standardisation(attempts: Sequence[Attempt]) -> tuple[Attempt, PreprocessInfo]:
    """What a net that is not trained yet may begin with: the rows' own mean and standard deviation.

    Args:
        attempts: scored by `choose`, which found none of them better than chance.
    """
    ran = [attempt for attempt in attempts if attempt.score is not None] or list(attempts)
    best = next((one for name in _STANDARDISED for one in ran if one.name.startswith(name)), ran[0])
    why = (
        "the file's own weights are no better than chance with any usual preprocessing, and training starts "
        "from fresh ones"
    )
    tried = [
        PreprocessCandidate(name=a.name, score=a.score and round(a.score.value, 4), note=a.note)
        for a in attempts
    ]
    return best, PreprocessInfo(name=best.name, chosen=best.preprocess, why=why, candidates=tried)


def _best(ran: Sequence[Attempt], rows: int) -> Attempt:
    """The highest score; of those within its standard error the one that confuses the classes least.

    Scalings column by column fit almost any table a little, so they must be better by more than that error.
    Inputs that are 16 or 255 times too large hardly hurt (only the biases lose weight), inputs that are too
    small do: so where a small scale is as good as a much larger one, the small one is what was trained with.
    """
    best = max(ran, key=_value)
    noise = _noise(best, rows)
    simple = [attempt for attempt in ran if len(attempt.preprocess.mean) <= MANY_VALUES]
    if simple and _value(max(simple, key=_value)) >= _value(best) - noise:
        ran = simple
    best_value = max(map(_value, ran))
    close = [attempt for attempt in ran if _value(attempt) >= best_value - noise]
    smallest = min(map(_scale, close))
    alike = [attempt for attempt in close if _scale(attempt) <= MUCH_LARGER * smallest]
    return min(alike, key=lambda attempt: attempt.score.confusion if attempt.score else np.inf)


def _scale(attempt: Attempt) -> float:
    """What the raw values are multiplied by, on average over the channels."""
    return attempt.preprocess.scale / float(np.mean(attempt.preprocess.std))


def _value(attempt: Attempt) -> float:
    return attempt.score.value if attempt.score else -np.inf


def _noise(best: Attempt, rows: int) -> float:
    """Standard error of the difference of two accuracies in %; 0 for other scores."""
    if best.score is None or not np.isfinite(best.score.confusion):
        return 0.0
    share = min(max(best.score.value / 100, 1 / rows), 1 - 1 / rows)
    return float(100 * np.sqrt(2 * share * (1 - share) / rows))


def _score_all(
    trial: Trial, attempts: Sequence[Attempt], rows: int, score: Callable[[list[Array], Attempt], Score]
) -> None:
    for attempt in attempts:
        try:
            attempt.score = score(trial.outputs(attempt.transforms, rows), attempt)
            attempt.note = f"{min(rows, len(trial))} rows"
        except DidNotRun as reason:
            attempt.score, attempt.note = None, f"did not run: {reason}"


def _classes_scorer(plan: Plan, trial: Trial) -> Callable[[list[Array], Attempt], Score]:
    def score(outputs: list[Array], attempt: Attempt) -> Score:
        output = outputs[plan.output_index]
        labels = plan.labels(trial.sampled_labels(len(output)), output)
        if labels is None or not np.isfinite(output).all():
            return Score(0.0, chance=1.0)
        known = outputs_are(output, plan) == "probabilities"
        confused = confusion(output, labels, probabilities=known)
        return accuracy_score(predicted_classes(output, probabilities=known), labels, confused)

    return score


def _numbers_scorer(plan: Plan, trial: Trial) -> Callable[[list[Array], Attempt], Score]:
    def score(outputs: list[Array], attempt: Attempt) -> Score:
        output = outputs[plan.output_index]
        labels = plan.labels(trial.sampled_labels(len(output)), output)
        if labels is None or not np.isfinite(output).all():
            return Score(-np.inf)
        attempt.straight_line = correlation_score(output, labels)
        return Score(100 * r2_score(output, labels))

    return score


def _require_better_than_chance(
    best: Attempt, ran: Sequence[Attempt], candidates: list[PreprocessCandidate]
) -> None:
    scores = [attempt.score for attempt in ran if attempt.score]
    by_luck = best.score is None or best.score.chance >= CHANCE / len(candidates)
    if not by_luck and relabelling_chance(scores) <= CHANCE:
        return
    raise PreprocessError(
        f"with no usual preprocessing is the dense model clearly better than chance on the training rows: "
        f"{_table(candidates, '%')}; {HOW_TO_SET} (any explicit preprocess is taken as it is, for an "
        "untrained model too; init=random trains one from fresh weights); "
        f"or the labels are numbered in another order than the model's outputs",
        param="preprocess",
    )


def _table(candidates: Sequence[PreprocessCandidate], unit: str) -> str:
    return "; ".join(
        f"{c.name}: {'did not run' if c.score is None else f'{c.score:.4g} {unit}'}" for c in candidates
    )


def _why(best: Attempt, ran: Sequence[Attempt], plan: Plan, rows: int) -> str:
    if best.score is None:
        return "the only one that runs"
    value = best.score.value
    if plan.task == "classification":
        text = f"the dense model is right on {value:.2f} % of {rows} training rows with it"
    elif value > 0:
        text = (
            f"the dense model explains {value:.2f} % of the labels' variance on {rows} training rows with it"
        )
    else:
        text = f"outputs and labels are closest to a straight line with it (r2 {best.straight_line:.3f})"
    others = [attempt for attempt in ran if attempt is not best and attempt.score]
    if others and value > 0:
        second = max(others, key=_value)
        text += f"; next: {second.name}, {_value(second):.2f} %"
        if _value(second) >= value and plan.task == "classification":
            text += ", which is within the standard error; equals are told apart by scale and confusion"
    return text


def input_dtype(info: TensorInfo) -> torch.dtype:
    """The torch dtype of a model input; ModelError where data cannot have it."""
    if info.dtype not in DTYPES:
        raise ModelError(f"the model's input '{info.name}' is of type {info.dtype}, which data cannot have")
    return DTYPES[info.dtype]


def _shape(shape: Sequence[int | str | None] | None) -> str:
    if shape is None:
        return "(unknown)"
    return "(" + ", ".join("?" if dim is None else str(dim) for dim in shape) + ")"
