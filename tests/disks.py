"""A disk that can be filled: a small tmpfs, where the machine lets one be mounted."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SIZE = 24 * 1024 * 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder that is a disk of 24 MiB."""
    folder = tmp_path / "small-disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount on this machine")
    if mounted.returncode != 0:
        pytest.skip(f"mounting a small disk is not allowed here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, leave: int) -> Path:
    """Fill the disk of a folder until `leave` bytes are free."""
    disk = os.statvfs(folder)
    ballast = folder / "ballast"
    with ballast.open("wb") as file:
        for _ in range((disk.f_bavail * disk.f_frsize - leave) // 65_536):
            file.write(b"\1" * 65_536)
    return ballast
