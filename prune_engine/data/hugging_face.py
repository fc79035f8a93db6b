"""Data sets of the Hugging Face `datasets` library (extra `hf`) to arrays: images, texts or numbers, and
labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import datasets
import numpy as np
from PIL import Image

from prune_engine.data.image_zip import as_pixels
from prune_engine.data.limits import MAX_UNPACKED_BYTES, check_unpacked
from prune_engine.data.raw import Array
from prune_engine.errors import DataError, DataFormatError, DatasetUnavailableError

LABEL_COLUMNS = ("label", "labels", "fine_label", "target", "y", "class")
_TEST_SPLITS = ("test", "validation", "valid", "dev")
_GREY_MODES = ("1", "L", "I;16", "I")


def load(repository: str, name: str, filename: str) -> datasets.DatasetDict:
    """Download a data set.

    Args:
        repository: "owner/name" on the hub.
        name: how the user called it.
        filename: of the .npz file that can take its place.

    Raises:
        DatasetUnavailableError: there is no network, no such data set, it is too large or needs code of its
        own.
    """
    try:
        builder = datasets.load_dataset_builder(repository)
        size = max(builder.info.download_size or 0, builder.info.dataset_size or 0)
        if size > MAX_UNPACKED_BYTES:
            raise DatasetUnavailableError(
                f"'{name}' has {size} bytes; at most {MAX_UNPACKED_BYTES} are fetched; send a part of it "
                "as a file"
            )
        builder.download_and_prepare()
        loaded = builder.as_dataset()
    except DatasetUnavailableError:
        raise
    except Exception as error:  # noqa: BLE001  the library raises errors of many libraries
        reason = " ".join(str(error).split())[:200]
        raise DatasetUnavailableError(
            f"'{name}' could not be fetched from the Hugging Face hub ({type(error).__name__}: "
            f"{reason}); put {filename} (x_train, y_train, x_test, y_test) into the folder that "
            "DATASETS_DIR names, or send a file"
        ) from None
    return loaded


def arrays_of(loaded: datasets.DatasetDict) -> dict[str, Array]:
    """x_train, y_train and, where a second split has labels, x_test and y_test.

    The input is the image column, else the text column, else all numeric columns side by side. The labels are
    the column called label, labels, fine_label, target, y or class, else the only column of classes. Rows
    whose class is hidden are left out: -1 in a column of classes, or everywhere in a split. Images of other
    sizes are resized to the most common size.

    Raises:
        DataFormatError: there is no such column, or more than one candidate; lists the columns.
    """
    train = "train" if "train" in loaded else next(iter(loaded))
    features = loaded[train].features
    label = _label_column(features)
    inputs = _input_columns(features, label)
    arrays: dict[str, Array] = {}
    shape = _ImageShape() if isinstance(features[inputs[0]], datasets.Image) else None
    for suffix, split in (("train", train), *(("test", other) for other in _TEST_SPLITS if other in loaded)):
        if f"x_{suffix}" in arrays or (suffix == "test" and split == train):
            continue
        rows = loaded[split]
        labels = None if label is None else _labels(rows, label)
        if label is not None and labels is not None and (hidden := _hidden(labels, features[label])).any():
            rows = rows.select(np.flatnonzero(~hidden))
            labels = labels[~hidden]
        if len(rows) == 0:
            continue
        arrays[f"x_{suffix}"] = _inputs(rows, inputs, shape)
        if labels is not None:
            arrays[f"y_{suffix}"] = labels
    if "x_train" not in arrays:
        raise DataError("the data set has no labelled rows to train on")
    if len(inputs) > 1:
        arrays["feature_names"] = np.array(inputs, dtype=np.str_)
    return arrays


def _hidden(labels: Array, feature: object) -> Array:
    """Which labels only stand for one that is not told; numbers may be negative."""
    if labels.dtype.kind != "i":
        return np.zeros(len(labels), dtype=bool)
    is_class = isinstance(feature, datasets.ClassLabel) or (labels == -1).all()
    return np.asarray((labels < 0) & is_class)


class _ImageShape:
    """Decided on the first split: what all images become."""

    def __init__(self) -> None:
        self.size: tuple[int, int] | None = None
        self.grey = True


def _label_column(features: datasets.Features) -> str | None:
    for name in LABEL_COLUMNS:
        if name in features and isinstance(features[name], (datasets.ClassLabel, datasets.Value)):
            return name
    classes = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    if len(classes) > 1:
        raise DataFormatError(
            f"several columns hold classes: {', '.join(classes)}; send one as a file with y_train"
        )
    return classes[0] if classes else None


def _input_columns(features: datasets.Features, label: str | None) -> list[str]:
    """The image column, the text column, or the numeric columns."""
    rest = {name: feature for name, feature in features.items() if name != label}
    images = [name for name, feature in rest.items() if isinstance(feature, datasets.Image)]
    values = {name: feature.dtype for name, feature in rest.items() if isinstance(feature, datasets.Value)}
    texts = [name for name, dtype in values.items() if dtype in ("string", "large_string")]
    numbers = [name for name, dtype in values.items() if dtype.startswith(("int", "uint", "float", "bool"))]
    for columns in (images, texts):
        if len(columns) == 1:
            return columns
        if columns:
            raise DataFormatError(
                f"several columns could be the input: {', '.join(columns)}; send the right one as a file "
                "with x_train"
            )
    if not numbers:
        raise DataFormatError(
            f"no column is an image, a text or a number; the columns are {', '.join(features)}"
        )
    return numbers


def _labels(rows: datasets.Dataset, label: str) -> Array:
    values = rows.with_format("numpy")[label][:]
    array = np.asarray(values)
    if array.dtype.kind in "OU":
        return np.asarray([str(value) for value in array], dtype=np.str_)
    return array.astype(np.int64) if array.dtype.kind in "biu" else array.astype(np.float32)


def _inputs(rows: datasets.Dataset, columns: list[str], shape: _ImageShape | None) -> Array:
    if shape is not None:
        return _images(rows, columns[0], shape)
    if len(columns) == 1 and rows.features[columns[0]].dtype in ("string", "large_string"):
        texts = [str(text) for text in rows[columns[0]]]
        check_unpacked(4 * max(map(len, texts), default=1) * len(texts), f"text column '{columns[0]}'")
        return np.array(texts, dtype=np.str_)
    table = rows.with_format("numpy")
    return np.stack([np.asarray(table[column][:], dtype=np.float64) for column in columns], axis=1).astype(
        np.float32
    )


def _images(rows: datasets.Dataset, column: str, shape: _ImageShape) -> Array:
    if shape.size is None:
        sizes: Counter[tuple[int, int]] = Counter()
        for image in _decoded(rows, column):
            sizes[image.size] += 1
            shape.grey = shape.grey and image.mode in _GREY_MODES
        shape.size = max(sizes.items(), key=lambda item: (item[1], item[0]))[0]
    width, height = shape.size
    axes = (height, width) if shape.grey else (height, width, 3)
    check_unpacked(len(rows) * int(np.prod(axes)), f"image column '{column}'")
    pixels = np.empty((len(rows), *axes), dtype=np.uint8)
    for row, image in enumerate(_decoded(rows, column)):
        plain = as_pixels(image, grey=shape.grey)
        if plain.size != shape.size:
            plain = plain.resize(shape.size, Image.Resampling.BILINEAR)
        pixels[row] = np.asarray(plain)
    return pixels


def _decoded(rows: datasets.Dataset, column: str) -> Iterator[Any]:
    for row in rows.select_columns([column]):
        if row[column] is None:
            raise DataError(f"image column '{column}' has missing images")
        yield row[column]
