"""Data as it was sent, before it knows the model: `RawData`, and how named arrays become it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from prune_engine.data.checks import require_finite
from prune_engine.errors import (
    DataEmptyError,
    DataError,
    DataFormatError,
    DataUnsafeError,
    ShapeMismatchError,
)

Array = np.ndarray[Any, Any]
Source = Literal["named", "supplied", "memory"]
Kind = Literal["image", "table", "text", "tensors"]

LABEL_NAMES = ("y", "labels", "label", "targets", "target")
COLUMN_NAMES = ("feature_names", "columns")
_TRAIN, _TEST, _OTHER = "_train", "_test", ("_dev", "_val", "_valid", "_validation")


@dataclass(frozen=True)
class Split:
    """Rows that belong together. Every array has the rows on its first axis.

    A single unnamed input is called `x`; otherwise inputs have the names of the model's inputs. `labels` are
    integers (classes) or floats (numbers), (rows,) or (rows, targets); None: there are none. `label_name` is
    what their array was called, which may turn out to be an input of the model.
    """

    inputs: Mapping[str, Array]
    labels: Array | None = None
    label_name: str | None = None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def take(self, rows: Array) -> Split:
        """The split with only these rows, in this order."""
        return Split(
            {name: array[rows] for name, array in self.inputs.items()},
            None if self.labels is None else self.labels[rows],
            self.label_name,
        )


@dataclass(frozen=True)
class RawData:
    """A data set as it was sent; `test` is its own test split, if it has one.

    `columns` name the features of a table, `classes` the classes where labels were words, `target` the target
    column. `tokenizer` and `max_length` matter for texts only.
    """

    name: str
    source: Source
    kind: Kind
    train: Split
    test: Split | None = None
    columns: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    target: str | None = None
    tokenizer: Path | None = None
    max_length: int = 128
    warnings: tuple[str, ...] = field(default=())


def data_from_arrays(
    arrays: Mapping[str, Any],
    *,
    name: str = "arrays",
    tokenizer: Path | None = None,
    max_length: int = 128,
) -> RawData:
    """Data in memory, for `prune_engine.prune(model, {"x_train": ...})`.

    Args:
        arrays: `x` and `y`; or `x_train`, `y_train`, `x_test`, `y_test`; or arrays named like the model's
            inputs and `labels`, each with or without `_train`/`_test`; without labels the dense model is
            distilled.
        name: what the report calls it.
        tokenizer: a `tokenizer.json`, for texts.
        max_length: tokens a text is cut or padded to.

    Raises:
        DataFormatError: no inputs among the names, or a dtype that is no number and no text.
        DataUnsafeError: an object array.
        ShapeMismatchError: arrays of one split differ in their number of rows.
    """
    return raw_from_arrays(
        {key: np.asarray(value) for key, value in arrays.items()},
        name,
        "memory",
        tokenizer=tokenizer,
        max_length=max_length,
    )


def raw_from_arrays(
    arrays: Mapping[str, Array],
    name: str,
    source: Source,
    *,
    tokenizer: Path | None = None,
    max_length: int = 128,
) -> RawData:
    """The rules of `data_from_arrays`, for files as well; same errors."""
    usable = {key: plain_array(key, array) for key, array in arrays.items()}
    columns, usable = _take_columns(usable)
    warnings = []
    ignored = sorted(key for key in usable if key.endswith(_OTHER) and len(usable) > 1)
    if ignored:
        warnings.append(f"{', '.join(ignored)}: not used; training takes *_train, measuring *_test.")
        usable = {key: array for key, array in usable.items() if key not in ignored}
    train, test = _splits(usable, warnings)
    if test is not None and train.labels is not None and test.labels is None:
        warnings.append("The test split has no labels, so it is not used; rows are held out instead.")
        test = None
    for which, split in (("train", train), ("test", test)):
        if split is not None:
            _check_rows(split, which)
            if split.labels is not None:
                require_finite(split.labels, f"the labels ({which})")
    train, test, classes = _words_to_classes(train, test)
    return RawData(
        name,
        source,
        kind_of(train.inputs),
        train,
        test,
        columns=columns,
        classes=classes,
        tokenizer=tokenizer,
        max_length=max_length,
        warnings=tuple(warnings),
    )


def plain_array(name: str, array: Array) -> Array:
    """The array in native byte order, if it holds numbers or text.

    Raises:
        DataUnsafeError: it holds Python objects.
        DataFormatError: it holds anything else, or is a single value.
    """
    if array.dtype.hasobject:
        raise DataUnsafeError(
            f"array '{name}' holds Python objects, which only pickle can store; save numbers or text "
            f"(for texts: np.array(list_of_texts, dtype=str))"
        )
    if array.dtype.kind not in "biufUS" or (array.dtype.itemsize > 8 and array.dtype.kind in "biuf"):
        raise DataFormatError(
            f"array '{name}' has dtype {array.dtype}; use bool, int, float (to 64 bit) or text"
        )
    if array.dtype.kind == "S":
        try:
            return np.char.decode(array, "utf-8")
        except UnicodeDecodeError:
            raise DataFormatError(
                f"array '{name}' holds bytes that are not UTF-8 text; save numbers or text"
            ) from None
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def kind_of(inputs: Mapping[str, Array]) -> Kind:
    """What the inputs look like: texts, images (uint8 or a channel axis), a table, or anything else."""
    if any(array.dtype.kind == "U" for array in inputs.values()):
        return "text"
    if len(inputs) > 1:
        return "tensors"
    array = next(iter(inputs.values()))
    return kind_of_shape(array.shape, array.dtype)


def kind_of_shape(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Kind:
    """What one array with this shape (rows on the first axis) and dtype looks like."""
    if dtype.kind == "U":
        return "text"
    if len(shape) == 4 and (shape[-1] in (1, 3, 4) or shape[1] in (1, 3, 4)):
        return "image"
    if dtype == np.uint8 and len(shape) in (3, 4):
        return "image"
    return "table" if len(shape) <= 2 else "tensors"


def _take_columns(arrays: dict[str, Array]) -> tuple[tuple[str, ...] | None, dict[str, Array]]:
    for key in COLUMN_NAMES:
        array = arrays.get(key)
        if array is not None and array.dtype.kind == "U" and array.ndim == 1:
            return tuple(str(column) for column in array), {k: v for k, v in arrays.items() if k != key}
    return None, arrays


def _splits(arrays: dict[str, Array], warnings: list[str]) -> tuple[Split, Split | None]:
    train = {key.removesuffix(_TRAIN): a for key, a in arrays.items() if key.endswith(_TRAIN)}
    test = {key.removesuffix(_TEST): a for key, a in arrays.items() if key.endswith(_TEST)}
    plain = {key: a for key, a in arrays.items() if not key.endswith((_TRAIN, _TEST))}
    if train:
        if plain:
            warnings.append(f"{', '.join(sorted(plain))}: not used, because there are *_train arrays.")
    elif test and not plain:
        raise DataFormatError(
            f"there are only test arrays ({', '.join(sorted(arrays))}); add x_train and y_train"
        )
    else:
        train = plain
    first = _split(train, arrays)
    if not test:
        return first, None
    second = _split(test, arrays)
    if set(second.inputs) != set(first.inputs):
        raise DataFormatError(
            f"the train arrays {sorted(first.inputs)} and the test arrays {sorted(second.inputs)} differ"
        )
    for name, array in first.inputs.items():
        if array.shape[1:] != second.inputs[name].shape[1:]:
            raise ShapeMismatchError(
                f"rows of '{name}' have shape {array.shape[1:]} in the train split and "
                f"{second.inputs[name].shape[1:]} in the test split; they must be equal"
            )
    return first, second


def _split(arrays: dict[str, Array], everything: Mapping[str, Array]) -> Split:
    label = next((name for name in LABEL_NAMES if name in arrays), None)
    inputs = {name: array for name, array in arrays.items() if name != label}
    if not inputs:
        raise DataFormatError(
            f"no inputs among the arrays {sorted(everything)}; needed: x and y, or x_train, y_train, "
            "x_test and y_test, or arrays named like the model's inputs and 'labels' (without labels "
            "the model is distilled)"
        )
    if len(inputs) == 1 and label is not None:
        inputs = {
            "x" if name in ("x", "X", "data", "images", "image") else name: a for name, a in inputs.items()
        }
    return Split(inputs, arrays[label] if label else None, label)


def _check_rows(split: Split, which: str) -> None:
    for name, array in split.inputs.items():
        if array.ndim == 0:
            raise ShapeMismatchError(
                f"array '{name}' ({which}) is a single value; its first axis must count rows"
            )
    rows = {f"'{name}'": array.shape for name, array in split.inputs.items()}
    if split.labels is not None:
        if split.labels.ndim == 0:
            raise ShapeMismatchError(f"the labels ({which}) are a single value; one label a row is needed")
        rows["labels"] = split.labels.shape
    if len(split) == 0:
        raise DataEmptyError(f"the {which} arrays have no rows")
    if len({shape[0] for shape in rows.values()}) > 1:
        listed = ", ".join(f"{name} {tuple(shape)}" for name, shape in rows.items())
        raise ShapeMismatchError(
            f"the {which} arrays differ in their number of rows (first axis): {listed}; every row needs "
            "one entry in each"
        )


def _words_to_classes(train: Split, test: Split | None) -> tuple[Split, Split | None, tuple[str, ...] | None]:
    if train.labels is None or train.labels.dtype.kind != "U":
        return train, test, None
    classes = sorted({str(word) for word in train.labels.ravel()})
    number = {word: index for index, word in enumerate(classes)}

    def numbered(split: Split) -> Split:
        words = [str(word) for word in np.asarray(split.labels).ravel()]
        unknown = sorted(set(words) - set(classes))
        if unknown:
            raise DataError(f"labels of the test split are missing in the training split: {unknown[:5]}")
        flat = np.array([number[word] for word in words], dtype=np.int64)
        return replace(split, labels=flat.reshape(np.asarray(split.labels).shape))

    return numbered(train), numbered(test) if test else None, tuple(classes)
