"""Which of the data's arrays feeds which of the model's inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from prune_engine.data.checks import require_finite
from prune_engine.data.raw import LABEL_NAMES, RawData, Split
from prune_engine.errors import DataFormatError, ShapeMismatchError
from prune_engine.report import TensorInfo

UNNAMED = "x"


def match_inputs(raw: RawData, inputs: Sequence[TensorInfo]) -> tuple[RawData, tuple[str, ...]]:
    """The data with its inputs called and ordered as the model's are, and warnings about arrays without a
    use.

    A model with one input takes the array of its name, else `x`, else the only one there is; of several
    inputs one may be called `x`. What is called like labels (`y`, `target`) is an input where the model's is.

    Raises:
        ShapeMismatchError: an input has no array; lists both sides. Or an input's second axis is its batch.
        DataFormatError: text, where it has not been tokenised.
        NotFiniteError: NaN or infinity in an array that is used.
    """
    _require_rows_first(inputs)
    raw = _without_inputs_as_labels(raw, {info.name for info in inputs})
    available = set(raw.train.inputs)
    wanted = [info.name for info in inputs]
    if not wanted:
        raise ShapeMismatchError("the model has no inputs, so no data can be fed to it", param="model")
    source = {name: name for name in wanted if name in available}
    if len(wanted) == 1 and not source:
        only = UNNAMED if UNNAMED in available else next(iter(available)) if len(available) == 1 else None
        if only is not None:
            source = {wanted[0]: only}
    missing = [name for name in wanted if name not in source]
    if len(missing) == 1 and UNNAMED in available - set(source):
        source[missing.pop()] = UNNAMED
    if missing:
        raise ShapeMismatchError(
            f"the model's inputs are {_listed(wanted)}, the data's arrays are "
            f"{_listed(sorted(available))}; nothing feeds "
            f"{_listed(missing)}; name the arrays like the inputs (and the labels 'labels')"
        )
    unused = sorted(available - set(source.values()))
    warnings = (f"{_listed(unused)}: not used, the model has no such input.",) if unused else ()
    for which, split in (("training", raw.train), ("test", raw.test)):
        for name in source.values() if split is not None else ():
            array = split.inputs[name]  # type: ignore[union-attr]
            if array.dtype.kind == "U":
                raise DataFormatError(
                    f"'{name}' holds texts, which the model's input '{wanted[0]}' cannot take; send numbers"
                )
            require_finite(array, f"'{name}' of the {which} rows", raw.columns if len(wanted) == 1 else None)

    def renamed(split: Split | None) -> Split | None:
        return split and Split(
            {name: split.inputs[source[name]] for name in wanted}, split.labels, split.label_name
        )

    train = renamed(raw.train)
    return replace(raw, train=train or raw.train, test=renamed(raw.test)), warnings


def _require_rows_first(inputs: Sequence[TensorInfo]) -> None:
    """A recurrent net that takes (time, batch, features) would be fed rows as time steps."""
    for info in inputs:
        axes = list(info.shape or ())[:2]
        if len(axes) == 2 and _is_batch(axes[1]) and not _is_batch(axes[0]):
            raise ShapeMismatchError(
                f"the model's input '{info.name}' of shape ({', '.join(map(str, info.shape or ()))}) has its "
                "batch on the second axis; rows come on the first: export the model with batch_first=True, "
                "or in a module that transposes its input and output",
                param="model",
            )


def _is_batch(axis: int | str | None) -> bool:
    """Whether an axis is called as exporters and people call the batch."""
    return isinstance(axis, str) and (axis.lower() in ("b", "n", "bs") or "batch" in axis.lower())


def _without_inputs_as_labels(raw: RawData, wanted: set[str]) -> RawData:
    """An array called like labels (`y`, `target`) that the model takes as an input is one; others may be the
    labels."""
    if raw.train.label_name not in wanted:
        return raw

    def sorted_out(split: Split | None) -> Split | None:
        if split is None or split.label_name is None or split.labels is None:
            return split
        inputs = {**split.inputs, split.label_name: split.labels}
        label = next((name for name in LABEL_NAMES if name in inputs and name not in wanted), None)
        rest = {name: array for name, array in inputs.items() if name != label}
        return Split(rest, inputs[label] if label else None, label)

    return replace(raw, train=sorted_out(raw.train) or raw.train, test=sorted_out(raw.test))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"
