"""What lies in the artifact store, for the cleaner: all files, unfinished ones, and whose they are."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import obstore
from obstore.exceptions import BaseError

from jobs.errors import ArtifactsUnavailableError
from jobs.object_store import local_folder, open_store, reason
from jobs.settings import Settings

# The file that says which job store the files belong to.
OWNER: Final = "prunery-store"
_UNFINISHED: Final = re.compile(r".+#\d+")


@dataclass(frozen=True)
class ListedFile:
    """A file in the artifact store."""

    key: str
    bytes: int
    modified: datetime


class Listing:
    """The files of an artifact store. Every method raises ArtifactsUnavailableError when the store fails."""

    def __init__(self, settings: Settings) -> None:
        self._folder = local_folder(settings.artifacts)
        self._store = open_store(settings)

    def owner(self, ours: str) -> str:
        """The identity of the job store that the files belong to: `ours`, if nobody has claimed them yet."""
        with _failures():
            with contextlib.suppress(FileNotFoundError):
                return bytes(obstore.get(self._store, OWNER).bytes()).decode()
            obstore.put(self._store, OWNER, ours.encode())
            return bytes(obstore.get(self._store, OWNER).bytes()).decode()

    def batches(self) -> Iterator[list[ListedFile]]:
        """All files, some hundreds at a time."""
        with _failures():
            for batch in obstore.list(self._store, chunk_size=500):
                yield [ListedFile(item["path"], item["size"], item["last_modified"]) for item in batch]

    def delete(self, keys: Iterable[str]) -> None:
        """Delete files; one that is not there is none."""
        for key in keys:
            with _failures(), contextlib.suppress(FileNotFoundError):
                obstore.delete(self._store, key)

    def delete_unfinished(self, before: datetime) -> int:
        """Delete what uploads left in a local folder that were cut off; how many files there were.

        An unfinished upload to a bucket is not among its files; the bucket's own rules remove it.
        """
        if self._folder is None or not self._folder.is_dir():
            return 0
        deleted = 0
        for path in sorted(self._folder.rglob("*"), reverse=True):
            with contextlib.suppress(OSError):
                if path.is_symlink() or path.stat().st_mtime >= before.timestamp():
                    continue
                if path.is_dir():
                    path.rmdir()  # only where it is empty
                elif _UNFINISHED.fullmatch(path.name):
                    path.unlink()
                    deleted += 1
        return deleted


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except (BaseError, OSError) as error:
        raise ArtifactsUnavailableError(
            f"the artifact store could not be cleaned ({reason(error)}); check ARTIFACTS_URL"
        ) from None
