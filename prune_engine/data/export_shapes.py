"""Input shapes with which a TorchScript model, whose file names none, may be exported."""

from __future__ import annotations

from collections.abc import Iterator

from prune_engine.data.raw import RawData

InputShapes = tuple[tuple[tuple[int, ...], str], ...]
_BATCH = 2


def candidate_shapes(raw: RawData) -> list[InputShapes]:
    """Shapes (with a batch of 2) and dtypes of the model's inputs that this data could feed, the likeliest
    first.

    Images: channels first, channels last, flat, then with grey as RGB or RGB as grey. Texts: one to three
    arrays of token ids. Everything else: as sent.
    """
    found: list[InputShapes] = []
    for shapes in _possible(raw):
        if shapes not in found:
            found.append(shapes)
    return found


def _possible(raw: RawData) -> Iterator[InputShapes]:
    if raw.kind == "text":
        ids = ((_BATCH, raw.max_length), "int64")
        yield (ids, ids)
        yield (ids,)
        yield (ids, ids, ids)
        return
    arrays = list(raw.train.inputs.values())
    if len(arrays) > 1:
        yield tuple(((_BATCH, *a.shape[1:]), "int64" if a.dtype.kind in "iu" else "float32") for a in arrays)
        return
    row = tuple(arrays[0].shape[1:])
    for shape in _row_shapes(row):
        yield (((_BATCH, *shape), "float32"),)
    if arrays[0].dtype.kind in "iu":
        yield (((_BATCH, *row), "int64"),)


def _row_shapes(row: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    images: list[tuple[int, int, int]] = []
    if len(row) == 2:
        if row[0] != row[1]:
            yield row  # a convolution refuses it, while a recurrent net that was traced also runs on images
        images = [(row[0], row[1], 1)]
    elif len(row) == 3:
        images = [(row[0], row[1], row[2])] if row[2] in (1, 3, 4) else []
        images += [(row[1], row[2], row[0])] if row[0] in (1, 3, 4) else []
    elif len(row) == 1:
        yield row
        side = round(float(row[0]) ** 0.5)
        images = [(side, side, 1)] if side * side == row[0] and side > 1 else []
    for height, width, channels in images:
        for out in (channels, *(c for c in (3, 1) if c != channels)):
            yield (out, height, width)
            yield (height, width, out)
            yield (out * height * width,)
    yield row
