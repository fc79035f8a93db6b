"""What a file is, by its first bytes and, for archives, their table of contents. Loads nothing."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

from prune_engine.errors import ModelEmptyError, ModelError, ModelFormatError
from prune_engine.magic import HEAD_BYTES, SEND_A_MODEL, Archive, foreign, kind_of_archive


def recognise(path: Path) -> Literal["onnx"] | Archive:
    """The format of a model file. "onnx" means: nothing else, and it begins as a protobuf message could.

    Raises:
        ModelEmptyError: no bytes.
        ModelFormatError: something else; the message names it and says what to send.
        ModelError: an archive that is cut off.
    """
    if path.stat().st_size == 0:
        raise ModelEmptyError(
            "The model file is empty. Check that the upload names a file: -F model=@model.onnx"
        )
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    if head.startswith(b"PK"):
        return _archive(path)
    known = foreign(head)
    if known is not None:
        raise _refused(known.what, known.for_model)
    if head.lstrip().startswith((b"{", b"[")):
        raise _refused("a JSON file", SEND_A_MODEL)
    if all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in head):
        raise _refused("a text file", SEND_A_MODEL)
    return "onnx"


def _refused(what: str, instead: str) -> ModelFormatError:
    return ModelFormatError(
        f"The model file is {what}, which is no model format that Prunery reads. {instead}"
    )


def _archive(path: Path) -> Archive:
    try:
        with zipfile.ZipFile(path) as archive:
            found = kind_of_archive(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise ModelError(
            "The model file begins as a zip archive (TorchScript?) but its table of contents cannot "
            "be read: it is "
            "cut off or damaged. Send it again."
        ) from error
    if isinstance(found, tuple):
        raise _refused(*found)
    return found
