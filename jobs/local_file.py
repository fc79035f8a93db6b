"""Writing a file of the local artifact store: seen whole or not at all.

obstore's own writer copies every chunk twice more; for uploads of gigabytes that is what they wait for.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType


class LocalFile:
    """A file that appears under its name when the block ends well, and leaves nothing when it does not.

    Until then it lies beside its place as `<name>#1`, a name that obstore's local store never lists.

    Args:
        path: where the file shall be; its folders are made.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._unfinished = path.with_name(f"{path.name}#1")

    def __enter__(self) -> LocalFile:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._unfinished.open("wb", buffering=0)
        self._written = 0
        return self

    def write(self, chunk: bytes) -> None:
        """Append all of `chunk`. Another thread may do this while the next chunk comes in."""
        rest = memoryview(chunk)
        while rest:
            rest = rest[self._file.write(rest) :]
        if hasattr(os, "posix_fadvise"):
            # The kernel begins to bring it to the disk now and not all at the end.
            os.posix_fadvise(self._file.fileno(), self._written, len(chunk), os.POSIX_FADV_DONTNEED)
        self._written += len(chunk)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None:
            self._unfinished.replace(self._path)
        else:
            with contextlib.suppress(FileNotFoundError):
                self._unfinished.unlink()
