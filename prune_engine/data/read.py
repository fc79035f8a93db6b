"""`read_data`: a data file of any kind, recognised by its contents and not by its name."""

from __future__ import annotations

import zipfile
from pathlib import Path

from prune_engine.data.limits import ARCHIVE_ERRORS
from prune_engine.data.raw import RawData, Source, raw_from_arrays
from prune_engine.errors import DataEmptyError, DataError, DataFormatError
from prune_engine.magic import foreign
from prune_engine.spec import PruneSpec

KINDS = ".npz, .zip of image folders, .csv or .parquet"


def read_data(
    path: Path, spec: PruneSpec, *, name: str, source: Source = "supplied", tokenizer: Path | None = None
) -> RawData:
    """Read a data file.

    Args:
        path: .npz, .npy, .zip of image folders, .csv or .parquet; told apart by their first bytes.
        spec: its `target_column`, `task` and `max_length` matter.
        name: what the report calls the data.
        source: where the data came from.
        tokenizer: a `tokenizer.json` of the Hugging Face `tokenizers` library, for texts.

    Raises:
        DataEmptyError: no bytes or no rows.
        DataFormatError: no such format.
        DataUnsafeError: pickled objects, paths that leave the folder, or too much to unpack.
        DataError: any other defect, see the readers.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(1 << 16)
    except OSError as error:
        raise DataError(f"the data file cannot be read: {error.strerror}") from None
    if not head:
        raise DataEmptyError(f"the data file is empty; send {KINDS}")
    if head.startswith(b"PAR1"):
        from prune_engine.data.tables import read_parquet

        return read_parquet(path, spec, name=name, source=source, tokenizer=tokenizer)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _read_zip(path, spec, name, source, tokenizer)
    if head.startswith(b"\x93NUMPY"):
        from prune_engine.data.npz import read_npy

        return raw_from_arrays(
            {"x": read_npy(path)}, name, source, tokenizer=tokenizer, max_length=spec.max_length
        )
    known = foreign(head)
    if known is None and _looks_like_text(head):
        from prune_engine.data.tables import read_csv

        return read_csv(path, spec, name=name, source=source, tokenizer=tokenizer)
    raise DataFormatError(f"the data file is {known.what if known else 'of no known kind'}; send {KINDS}")


def _read_zip(path: Path, spec: PruneSpec, name: str, source: Source, tokenizer: Path | None) -> RawData:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
    except ARCHIVE_ERRORS as error:
        raise DataError(f"the data file is a damaged .zip or .npz: {error}; it may be cut off") from None
    if not names:
        raise DataEmptyError(f"the archive is empty; send {KINDS}")
    if any(member.endswith(".npy") for member in names):
        from prune_engine.data.npz import read_npz

        return raw_from_arrays(read_npz(path), name, source, tokenizer=tokenizer, max_length=spec.max_length)
    from prune_engine.data.image_zip import read_image_zip

    return read_image_zip(path, name, source)


def _looks_like_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > len(head) - 4 and len(head) == 1 << 16
    return True
