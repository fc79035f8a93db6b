"""How much data is read at most: bytes in memory, members of an archive, pixels of an image."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib

import psutil

from prune_engine.errors import DataUnsafeError
from prune_engine.memory import memory_limit

ARCHIVE_ERRORS: tuple[type[Exception], ...] = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    IndexError,
)
"""What `zipfile` raises on damaged archives."""

MAX_UNPACKED_BYTES = 16 << 30
MAX_MEMBERS = 1_000_000
MAX_PIXELS = 64 << 20
MAX_IMAGE_BYTES = 256 << 20


def check_unpacked(size: int, what: str) -> None:
    """Refuse what would take more than half of the memory that is free here or allowed, or more than 16 GiB.

    Raises:
        DataUnsafeError: `what` would unpack to `size` bytes.
    """
    allowed = min(MAX_UNPACKED_BYTES, psutil.virtual_memory().available // 2, memory_limit() // 2)
    if size > allowed:
        raise DataUnsafeError(
            f"{what} unpacks to {size} bytes; at most {allowed} are allowed here; send fewer rows or a "
            "smaller dtype"
        )
