from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from jobs.disk import Space, check_room, in_words, is_full, space_of
from jobs.errors import DiskFullError
from tests.disks import SIZE, fill


def test_the_reserve_is_no_room() -> None:
    assert Space(free=10, reserve=4).room == 6
    assert Space(free=3, reserve=4).room == 0


def test_a_folder_that_is_not_there_yet_is_on_the_disk_of_its_parent(tmp_path: Path) -> None:
    assert space_of(tmp_path / "a" / "b", 0).free > 0


def test_room_is_what_is_free_beyond_the_reserve(small_disk: Path) -> None:
    assert check_room(small_disk, 0, SIZE // 2).free <= SIZE
    with pytest.raises(DiskFullError, match="kept for jobs"):
        check_room(small_disk, SIZE // 2, SIZE // 2 + 1)
    ballast = fill(small_disk, 1024 * 1024)
    with pytest.raises(DiskFullError):
        check_room(small_disk, 2 * 1024 * 1024)
    ballast.unlink()
    check_room(small_disk, 2 * 1024 * 1024)


def test_a_full_disk_is_known_by_what_the_system_says(small_disk: Path) -> None:
    with pytest.raises(OSError, match="space") as refusal:
        (small_disk / "file").write_bytes(b"1" * (SIZE + 1))
    assert is_full(refusal.value)
    assert is_full(OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)))
    assert not is_full(OSError(errno.EIO, os.strerror(errno.EIO)))


@pytest.mark.parametrize(
    ("size", "words"), [(0, "0 bytes"), (1500, "1.5 kB"), (24_000_000, "24.0 MB"), (3_210_000_000, "3.2 GB")]
)
def test_sizes_are_said_in_words(size: int, words: str) -> None:
    assert in_words(size) == words
