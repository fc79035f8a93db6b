"""Reading .csv and .parquet: one column is the target, the others are features (or one of them is a text)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from prune_engine.data.checks import require_finite
from prune_engine.data.limits import check_unpacked
from prune_engine.data.raw import Array, Kind, RawData, Source, Split
from prune_engine.errors import DataEmptyError, DataError, DataFormatError, DataUnsafeError, NotFiniteError
from prune_engine.spec import PruneSpec

_BATCH_ROWS = 4096
_MOST_COLUMNS = 100_000
_DELIMITERS = (",", ";", "\t", "|")


def read_csv(path: Path, spec: PruneSpec, *, name: str, source: Source, tokenizer: Path | None) -> RawData:
    """A .csv file with a header line; the delimiter (comma, semicolon, tab, bar) is found out.

    Raises:
        DataError: the file is no table, or the target column is missing (then `param` is "target_column").
        DataFormatError: a feature is no number; the message names the column.
        NotFiniteError: missing values, NaN or infinity; the message names the column.
    """
    with path.open("rb") as stream:
        first = stream.readline(1 << 20).decode("utf-8-sig", errors="replace").rstrip("\r\n")
    delimiter = max(_DELIMITERS, key=first.count)
    headless = all(_is_number(cell) for cell in first.split(delimiter))
    warnings = ["The first line holds numbers, so the columns were named f0, f1, ..."] if headless else []
    try:
        table = pacsv.read_csv(
            path,
            read_options=pacsv.ReadOptions(autogenerate_column_names=headless),
            parse_options=pacsv.ParseOptions(delimiter=delimiter),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError, UnicodeDecodeError) as error:
        raise DataFormatError(f"the .csv file cannot be read: {str(error)[:300]}") from None
    return _from_table(table, spec, name, source, tokenizer, warnings)


def read_parquet(
    path: Path, spec: PruneSpec, *, name: str, source: Source, tokenizer: Path | None
) -> RawData:
    """A .parquet file; rules and errors as `read_csv`."""
    try:
        with pq.ParquetFile(path, read_dictionary=_texts_in(path)) as file:
            metadata = file.metadata
            if metadata.num_columns > _MOST_COLUMNS:
                raise DataUnsafeError(
                    f"the .parquet file has {metadata.num_columns} columns; at most {_MOST_COLUMNS} are read"
                )
            size = sum(metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups))
            check_unpacked(max(size, 8 * metadata.num_rows * metadata.num_columns), "the .parquet file")
            table = _read_batches(file)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"the .parquet file is damaged: {str(error)[:300]}") from None
    return _from_table(table, spec, name, source, tokenizer, [])


def _texts_in(path: Path) -> list[str]:
    """The columns of texts. They are read as a dictionary and places in it: a text of a megabyte that a
    million rows have takes a megabyte, in memory as in the file."""
    schema = pq.read_schema(path)
    return [name for name, kind in zip(schema.names, schema.types, strict=True) if _is_text(kind)]


def _read_batches(file: pq.ParquetFile) -> pa.Table:
    """The table, its bytes counted while it unpacks."""
    batches, size = [], 0
    for batch in file.iter_batches(batch_size=_BATCH_ROWS):
        size += batch.nbytes
        check_unpacked(size, "the .parquet file")
        batches.append(batch)
    return pa.Table.from_batches(batches, schema=file.schema_arrow)


def _from_table(
    table: pa.Table, spec: PruneSpec, name: str, source: Source, tokenizer: Path | None, warnings: list[str]
) -> RawData:
    """The rows; errors as `read_csv`."""
    try:
        return _rows(table, spec, name, source, tokenizer, warnings)
    except pa.ArrowMemoryError:
        raise
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"the table holds values that cannot be used: {str(error)[:300]}") from None


def _rows(
    table: pa.Table, spec: PruneSpec, name: str, source: Source, tokenizer: Path | None, warnings: list[str]
) -> RawData:
    if table.num_rows == 0 or table.num_columns == 0:
        raise DataEmptyError("the table has no rows")
    names = [str(column) for column in table.column_names]
    if len(set(names)) < len(names):
        twice = next(column for column in names if names.count(column) > 1)
        raise DataFormatError(f"two columns are called '{twice}'; every column needs its own name")
    target = _target(names, spec)
    features = [column for column in names if column != target]
    if not features:
        raise DataFormatError(f"the only column is '{names[0]}', which is the target; there are no features")
    labels, classes = (None, None) if target is None else _labels(table[target], target)
    texts = [column for column in features if _is_text(table[column].type)]
    inputs: Array
    kind: Kind = "table"
    if texts and tokenizer is not None:
        if len(features) > 1:
            raise DataFormatError(
                f"besides the target there must be one text column for a text model; there are {features}"
            )
        inputs, kind = _text(table[texts[0]], texts[0]), "text"
    else:
        inputs = np.stack([_numbers(table[column], column) for column in features], axis=1)
        require_finite(inputs, "the table", features)
    return RawData(
        name,
        source,
        kind,
        Split({"x": inputs}, labels),
        columns=tuple(features),
        classes=classes,
        target=target,
        tokenizer=tokenizer,
        max_length=spec.max_length,
        warnings=tuple(warnings),
    )


def _target(names: list[str], spec: PruneSpec) -> str | None:
    """The target column; None for distillation where no column was named."""
    if spec.target_column is None:
        return None if spec.task == "distillation" else names[-1]
    if spec.target_column not in names:
        raise DataError(
            f"there is no column '{spec.target_column}'; the columns are {', '.join(names[:20])}",
            param="target_column",
        )
    return spec.target_column


def _labels(column: pa.ChunkedArray, name: str) -> tuple[Array, tuple[str, ...] | None]:
    """Labels, and the class names where they are words (sorted)."""
    _refuse_missing(column, f"target column '{name}'")
    if _is_text(column.type):
        _check_characters(column, f"target column '{name}'")
        words = [str(word) for word in column.to_pylist()]
        classes = sorted(set(words))
        number = {word: index for index, word in enumerate(classes)}
        return np.array([number[word] for word in words], dtype=np.int64), tuple(classes)
    values = _numbers(column, name)
    if pa.types.is_integer(column.type) or pa.types.is_boolean(column.type):
        return column.cast(pa.int64()).to_numpy(), None
    require_finite(values, f"target column '{name}'")
    return values, None


def _numbers(column: pa.ChunkedArray, name: str) -> Array:
    """The column as float64.

    Raises:
        DataFormatError: it holds no numbers.
        NotFiniteError: it has missing values.
    """
    kind = column.type
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    if not (numeric or pa.types.is_boolean(kind) or pa.types.is_decimal(kind)):
        example = next(
            (str(value) for value in column.slice(0, 100).to_pylist() if value is not None), "nothing"
        )
        raise DataFormatError(
            f"column '{name}' holds {kind}, such as {example[:60]!r}, not numbers; encode it as numbers "
            "as when the "
            "model was trained, leave it out, or name it as target_column (a text model needs a "
            "tokenizer.json)"
        )
    _refuse_missing(column, f"column '{name}'")
    if pa.types.is_boolean(kind):
        column = column.cast(pa.uint8())
    values: Array = column.cast(pa.float64(), safe=False).to_numpy()
    return values


def _text(column: pa.ChunkedArray, name: str) -> Array:
    _refuse_missing(column, f"text column '{name}'")
    longest = _check_characters(column, f"text column '{name}'")
    check_unpacked(4 * longest * len(column), f"text column '{name}'")
    texts: Array = np.array([str(text) for text in column.to_pylist()], dtype=np.str_)
    return texts


def _check_characters(column: pa.ChunkedArray, where: str) -> int:
    """The length of the longest text, after all of them together have been found to fit into memory."""
    total, longest = 0, 1
    for chunk in column.chunks:
        if pa.types.is_dictionary(chunk.type):
            lengths = pc.utf8_length(chunk.dictionary.cast(pa.large_string())).take(chunk.indices)
        else:
            lengths = pc.utf8_length(chunk.cast(pa.large_string()))
        total += pc.sum(lengths).as_py() or 0
        longest = max(longest, pc.max(lengths).as_py() or 0)
    check_unpacked(total, where)
    return longest


def _refuse_missing(column: pa.ChunkedArray, where: str) -> None:
    if column.null_count:
        raise NotFiniteError(
            f"{where}: {column.null_count} of {len(column)} values are missing; fill them (with the "
            "median, for "
            f"example) or drop those rows, the same way as when the model was trained"
        )


def _is_text(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
