"""Which format a model file has, told from its first bytes and, for a zip, from its directory.

The service never parses, loads or unpickles a model: that is the child's, where there is nothing to steal.
"""

from __future__ import annotations

from typing import Literal

from prune_engine.errors import ModelError, ModelFormatError
from service.sniffing.magic import HEAD_BYTES
from service.sniffing.protobuf import OnnxWalk
from service.sniffing.zip_directory import ReadRange, ZipDamagedError, members

ModelFormat = Literal["onnx", "torchscript"]
_ZIP = b"PK\x03\x04"
_SAVE = "save the model with torch.jit.save, or export it with torch.onnx.export"


class ModelSniffer:
    """Watches the model stream by; `finish` says what it is."""

    def __init__(self, filename: str) -> None:
        self._filename = filename
        self._head = b""
        self._size = 0
        self._walk = OnnxWalk()

    def feed(self, chunk: bytes | memoryview) -> None:
        """Look at the next bytes of the file.

        Raises:
            ModelFormatError: they show that it is no model, so that the rest need not be sent.
        """
        if len(self._head) < HEAD_BYTES:
            self._head += bytes(chunk[: HEAD_BYTES - len(self._head)])
        self._size += len(chunk)
        self._walk.feed(chunk)
        if self._walk.is_foreign and self._size >= HEAD_BYTES and not self._head.startswith(_ZIP):
            self._walk.finish(self._filename)

    def finish(self, read: ReadRange) -> ModelFormat:
        """The format of the file that went by, now stored and readable through `read`.

        Raises:
            ModelEmptyError: it has no bytes.
            ModelFormatError: it is no format that Prunery reads; the message says what it is and what to do.
            ModelError: it is truncated or damaged.
        """
        if self._head.startswith(_ZIP):
            return self._zip(read)
        self._walk.finish(self._filename)
        return "onnx"

    def _zip(self, read: ReadRange) -> ModelFormat:
        has_code = has_constants = has_data = has_export = has_onnx = False
        try:
            for member in members(read, self._size):
                inside = member.name.partition("/")[2]
                has_code |= inside.startswith("code/")
                has_constants |= inside == "constants.pkl"
                has_data |= inside == "data.pkl"
                has_export |= inside == "archive_format" or inside.startswith("models/")
                has_onnx |= member.name.endswith(".onnx")
        except ZipDamagedError as error:
            raise ModelError(
                f"{self._filename} is a damaged zip archive: {error}; send the whole file"
            ) from None
        if has_code and has_constants and has_data:
            return "torchscript"
        if has_export:
            what = f"a torch.export archive (.pt2), which is not read yet; {_SAVE}"
        elif has_data:
            what = f"a Python pickle of weights (torch.save) without a graph; {_SAVE}"
        elif has_onnx:
            what = (
                "a zip archive with an ONNX file in it; send the .onnx file itself, with its weights inside"
            )
        else:
            what = f"a zip archive that is no TorchScript (it has no code/ and constants.pkl); {_SAVE}"
        raise ModelFormatError(f"{self._filename} is {what}")
