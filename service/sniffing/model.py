"""Which format a model file has, told from its first bytes and, for a zip, from its directory.

The service never parses, loads or unpickles a model: that is the child's, where there is nothing to steal.
"""

from __future__ import annotations

from typing import Literal

from prune_engine.errors import ModelError, ModelFormatError, ModelFormatOffError
from prune_engine.magic import HEAD_BYTES, PAGE, kind_of_archive
from service.sniffing.protobuf import OnnxWalk
from service.sniffing.zip_directory import ReadRange, ZipDamagedError, members

ModelFormat = Literal["onnx", "torchscript", "pt2", "zip"]
_ZIP = b"PK\x03\x04"
_ENOUGH = 64  # bytes that tell most foreign files
_MOST = 200_000  # members; a model has a handful, or one for each of its weights


class ModelSniffer:
    """Watches the model stream by; `finish` says what it is."""

    def __init__(self, filename: str, *, allow_torchscript: bool = True) -> None:
        self._filename = filename
        self._allow_torchscript = allow_torchscript
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
        if self._walk.is_foreign and self._size >= _ENOUGH and not self._head.startswith(_ZIP):
            self._walk.finish(self._filename)

    def finish(self, read: ReadRange) -> ModelFormat:
        """The format of the file that went by, now stored and readable through `read`.

        Raises:
            ModelEmptyError: it has no bytes.
            ModelFormatError: it is no format that Prunery reads; the message says what it is and what to do.
            ModelFormatOffError: it is TorchScript, which is switched off.
            ModelError: it is truncated or damaged.
        """
        if self._head.startswith(_ZIP):
            return self._zip(read)
        self._walk.finish(self._filename)
        return "onnx"

    def _zip(self, read: ReadRange) -> ModelFormat:
        names: list[str] = []
        try:
            for member in members(read, self._size):
                names.append(member.name)
                if len(names) > _MOST:
                    raise ModelFormatError(
                        f"{self._filename} is a zip archive of more than {_MOST:,} members, which no "
                        "model has"
                    )
        except ZipDamagedError as error:
            raise ModelError(
                f"{self._filename} is a damaged zip archive: {error}; send the whole file"
            ) from None
        found = kind_of_archive(names)
        if isinstance(found, tuple):
            raise ModelFormatError(f"{self._filename} is {found[0]}. {found[1]}")
        if found == "torchscript" and not self._allow_torchscript:
            raise ModelFormatOffError(
                f"{self._filename} is a TorchScript archive, which is code; this service has that switched "
                f"off. Send an ONNX export of the model. How to export is in {PAGE}"
            )
        return "zip" if found == "bundle" else found
