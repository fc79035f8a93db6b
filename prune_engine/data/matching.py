"""Which of the data's arrays feeds which of the model's inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from prune_engine.data.checks import require_finite
from prune_engine.data.raw import RawData, Split
from prune_engine.errors import DataFormatError, ShapeMismatchError
from prune_engine.report import TensorInfo

UNNAMED = "x"


def match_inputs(raw: RawData, inputs: Sequence[TensorInfo]) -> tuple[RawData, tuple[str, ...]]:
    """The data with its inputs called and ordered as the model's are, and warnings about arrays without a
    use.

    A model with one input takes the array of its name, else `x`, else the only one there is.

    Raises:
        ShapeMismatchError: an input has no array; lists both sides.
        DataFormatError: text, where it has not been tokenised.
        NotFiniteError: NaN or infinity in an array that is used.
    """
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
        return split and Split({name: split.inputs[source[name]] for name in wanted}, split.labels)

    train = renamed(raw.train)
    return replace(raw, train=train or raw.train, test=renamed(raw.test)), warnings


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"
