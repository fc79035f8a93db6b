"""Archives that torch will open: looked through without loading, and packed anew with what was looked at.

Two programs may read one zip in two ways (a second directory, names that differ in case, bytes before the
first member). So torch never opens the file that was sent, but a copy of the members that were looked at.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from prune_engine.errors import ModelError, ModelUnsafeError

_LARGEST_RATIO = 20  # unpacked over packed size; torch stores its archives uncompressed
_SMALL = 1 << 20  # bytes that any archive counts as having
_MAX_MEMBERS = 200_000  # a handful for each parameter
_PIECE = 1 << 24
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RecursionError,
)


class PlainArchive:
    """An open archive whose members all lie in one folder, each name once whatever its case.

    Names are given and asked for without that folder. `what` is the file in words: "TorchScript archive".
    """

    def __init__(self, archive: zipfile.ZipFile, packed: int, what: str) -> None:
        self._archive = archive
        entries = archive.infolist()
        if len(entries) > _MAX_MEMBERS:
            raise ModelUnsafeError(f"The {what} has {len(entries)} members; at most {_MAX_MEMBERS} are read.")
        if sum(entry.file_size for entry in entries) > max(packed, _SMALL) * _LARGEST_RATIO:
            raise ModelUnsafeError(f"The {what} unpacks to far more than its size. Save it again.")
        # torch looks members up without regard to case: what is read here must be what torch reads.
        if len({entry.filename.lower() for entry in entries}) < len(entries) or archive.comment:
            raise ModelUnsafeError(f"The {what} has two members of one name. Save it again.")
        self.root = entries[0].filename.partition("/")[0] if entries else ""
        for entry in entries:
            if not entry.filename.startswith(f"{self.root}/"):
                raise ModelUnsafeError(
                    f"The {what} holds {entry.filename[:100]!r}, which lies outside of its folder "
                    f"{self.root[:100]!r}. Save it again."
                )
        self._entries = {entry.filename[len(self.root) + 1 :]: entry for entry in entries}

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of every member."""
        return {name: entry.file_size for name, entry in self._entries.items()}

    def read(self, name: str) -> bytes:
        """A member's content, never more than the directory says."""
        return self._archive.read(self._entries[name])

    def pack(self, names: Iterable[str], target: Path) -> None:
        """Write an archive of these members alone, uncompressed."""
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED, allowZip64=True) as copy:
            for name in names:
                with (
                    self._archive.open(self._entries[name]) as there,
                    copy.open(f"{self.root}/{name}", "w", force_zip64=True) as here,
                ):
                    while piece := there.read(_PIECE):
                        here.write(piece)


@contextmanager
def opened(file: Path | bytes, what: str) -> Iterator[PlainArchive]:
    """The archive, by its path or its content, while the block lasts.

    Raises:
        ModelUnsafeError: two members of one name, members outside of its folder, or far too much to unpack.
        ModelError: the archive is damaged, also where that shows only in the block.
    """
    try:
        size = len(file) if isinstance(file, bytes) else file.stat().st_size
        with zipfile.ZipFile(io.BytesIO(file) if isinstance(file, bytes) else file) as archive:
            yield PlainArchive(archive, size, what)
    except _DAMAGED as error:
        raise ModelError(
            f"The {what} is damaged: a part of it cannot be read ({str(error)[:200]}). Send it again."
        ) from error
