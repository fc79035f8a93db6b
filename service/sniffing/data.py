"""Which format a data file has, and whether its directory and headers are sound; the rows are not read."""

from __future__ import annotations

from typing import Final, Literal

from prune_engine.errors import DataEmptyError, DataError, DataFormatError, DataUnsafeError
from prune_engine.magic import HEAD_BYTES, foreign
from service.sniffing.npy import HEADER_BYTES, NpyDamagedError, inflate_head, read_header
from service.sniffing.zip_directory import (
    Member,
    ReadRange,
    ZipDamagedError,
    escapes,
    local_data,
    members,
)

DataFormat = Literal["npz", "zip", "csv", "parquet"]
_FORMATS: Final = "an .npz, a .zip of image folders, a .csv or a .parquet"
_TEXT_BYTES: Final = 65_536
# An .npz has a handful of arrays; each header costs a read of the stored file.
_MAX_ARRAYS: Final = 1000


class DataSniffer:
    """Watches a data file stream by; `finish` says what it is.

    Args:
        filename: the user's name of the file, for messages.
        max_unpacked: bytes that a zip's members may have together once unpacked.
    """

    def __init__(self, filename: str, *, max_unpacked: int) -> None:
        self._filename = filename
        self._max_unpacked = max_unpacked
        self._head = b""
        self._size = 0

    def feed(self, chunk: bytes | memoryview) -> None:
        """Look at the next bytes of the file."""
        if len(self._head) < _TEXT_BYTES:
            self._head += bytes(chunk[: _TEXT_BYTES - len(self._head)])
        self._size += len(chunk)

    def finish(self, read: ReadRange) -> DataFormat:
        """The format of the file that went by, now stored and readable through `read`.

        Raises:
            DataEmptyError: it has no bytes.
            DataFormatError: it is no format that Prunery reads.
            DataUnsafeError: a name leads out of its folder, an array holds objects, it unpacks to too much.
            DataError: it is truncated or damaged.
        """
        if not self._size:
            raise DataEmptyError(
                f"{self._filename} is empty: 0 bytes came in; check the path after dataset=@"
            )
        if self._head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
            try:
                return self._zip(read)
            except ZipDamagedError as error:
                raise DataError(
                    f"{self._filename} is a damaged zip archive: {error}; send the whole file"
                ) from None
        if self._head.startswith(b"PAR1"):
            return self._parquet(read)
        known = foreign(self._head[:HEAD_BYTES])
        if known:
            raise DataFormatError(
                f"{self._filename} is {known.what}; {known.for_data or 'send ' + _FORMATS}", param="dataset"
            )
        return self._csv()

    def _zip(self, read: ReadRange) -> DataFormat:
        arrays: list[Member] = []
        count = unpacked = 0
        for member in members(read, self._size):
            self._check_member(member)
            count += 1
            unpacked += member.size
            if member.name.endswith(".npy") and len(arrays) <= _MAX_ARRAYS:
                arrays.append(member)
        if unpacked > self._max_unpacked:
            raise DataUnsafeError(
                f"{self._filename} unpacks to {unpacked:,} bytes; at most {self._max_unpacked:,} are taken"
            )
        if not count:
            raise DataEmptyError(f"{self._filename} is an archive without members")
        if len(arrays) < count:
            return "zip"
        if count > _MAX_ARRAYS:
            raise DataFormatError(f"{self._filename} has {count:,} arrays; at most {_MAX_ARRAYS:,} are read")
        for member in arrays:
            self._check_array(member, read)
        return "npz"

    def _check_member(self, member: Member) -> None:
        shown = member.name[:100]
        if escapes(member.name):
            raise DataUnsafeError(
                f"{self._filename} has a member whose name leads out of its folder: {shown!r}; pack it again"
            )
        if member.is_link:
            raise DataUnsafeError(f"{self._filename} has a link, {shown!r}; pack the files themselves")
        if member.encrypted:
            raise DataError(f"{self._filename} is encrypted ({shown!r}); send it without a password")

    def _check_array(self, member: Member, read: ReadRange) -> None:
        where = f"{self._filename}, array {member.name.removesuffix('.npy')[:100]!r}"
        try:
            header = read_header(inflate_head(local_data(read, member, HEADER_BYTES), member.method))
        except NpyDamagedError as error:
            raise DataError(f"{where}: {error}; write the file again with np.savez") from None
        if header.kind == "O":
            raise DataUnsafeError(
                f"{where} holds Python objects, which only unpickling could read; "
                "give it a numeric dtype, such as x.astype('float32')"
            )
        if header.data_bytes is not None and header.header_bytes + header.data_bytes != member.size:
            raise DataError(
                f"{where}: its header promises {header.data_bytes:,} bytes for shape {header.shape}, the "
                f"file has {max(member.size - header.header_bytes, 0):,}; write the file again with np.savez"
            )

    def _parquet(self, read: ReadRange) -> DataFormat:
        if self._size < 12 or read(self._size - 4, 4) != b"PAR1":
            raise DataError(f"{self._filename} is a truncated Parquet file; send the whole file")
        return "parquet"

    def _csv(self) -> DataFormat:
        try:
            text = self._head.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            # The head may end within a character.
            text = "" if error.start < len(self._head) - 4 else self._head[: error.start].decode("utf-8-sig")
        first = text.splitlines()[:1]
        if "\x00" in text or not first or not any(mark in first[0] for mark in ",;\t"):
            raise DataFormatError(
                f"{self._filename} is none of the formats that are read; send {_FORMATS}, or the name of a "
                "data set that GET /datasets lists"
            )
        return "csv"
