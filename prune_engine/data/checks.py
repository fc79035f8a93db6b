"""Checks on values that hold for every kind of data: finite numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from prune_engine.errors import NotFiniteError

_CHUNK_VALUES = 1 << 24


def require_finite(array: np.ndarray[Any, Any], where: str, columns: Sequence[str] | None = None) -> None:
    """Refuse NaN and infinity.

    Args:
        array: any dtype; rows on the first axis.
        where: how the message calls it, like "the training inputs".
        columns: names of the columns of a table, (rows, columns).

    Raises:
        NotFiniteError: says how many values of which sort, in which column, in which first row, what to do.
    """
    if array.dtype.kind != "f" or array.size == 0:
        return
    step = max(1, _CHUNK_VALUES // max(1, array[0].size))
    nans = infinite = 0
    first_row: int | None = None
    per_column = np.zeros(array.shape[1] if array.ndim == 2 else 1, dtype=np.int64)
    for start in range(0, len(array), step):
        part = array[start : start + step]
        finite = np.isfinite(part)
        if finite.all():
            continue
        missing = int(np.isnan(part).sum())
        nans += missing
        infinite += int((~finite).sum()) - missing
        bad = ~finite.reshape(len(part), -1)
        if first_row is None:
            first_row = start + int(np.argmax(bad.any(axis=1)))
        if array.ndim == 2:
            per_column += bad.sum(axis=0)
    if first_row is None:
        return
    counts = [f"{count} {word}" for count, word in ((nans, "NaN"), (infinite, "infinite")) if count]
    place = ""
    if array.ndim == 2 and array.shape[1] > 1:
        named = [
            f"'{columns[i]}'" if columns and i < len(columns) else f"number {i}"
            for i in np.flatnonzero(per_column).tolist()
        ]
        more = f" and {len(named) - 5} more" if len(named) > 5 else ""
        place = f" in column{'s' if len(named) > 1 else ''} {', '.join(named[:5])}{more}"
    raise NotFiniteError(
        f"{where}: {' and '.join(counts)} value{'s' if nans + infinite != 1 else ''}{place}, "
        f"first in row {first_row} (counted from 0); fill them (with the column's median, for example) or "
        "drop those rows, "
        f"the same way as when the model was trained, and send the data again"
    )
