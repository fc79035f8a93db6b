"""What every test may ask for: the shared models and data sets, which lie beside the project."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

# One thread for each process of arithmetic: tests run side by side, and fast small nets need no more.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("PRUNERY_CHILD_THREADS", "1")

from tests.browser import browser  # noqa: F401
from tests.disks import small_disk  # noqa: F401
from tests.object_stores import s3, s3_settings, seaweedfs  # noqa: F401
from tests.receivers import authority, ca_file, plain_receiver, receiver  # noqa: F401
from tests.stores import redis_prefix, settings, store, valkey_url  # noqa: F401

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("PRUNERY_TEST_SHARED", ROOT.parent / "shared"))


def _require(path: Path) -> Path:
    if not path.exists():
        reason = (
            f"{path.name} is missing: models and data are looked for in '{SHARED.name}' beside the project"
        )
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@pytest.fixture(scope="session")
def shared_models() -> Path:
    """The folder with `cifar10_resnet/resnet20.onnx` and others."""
    return _require(SHARED / "models")


@pytest.fixture(scope="session")
def shared_datasets() -> Path:
    """A folder that holds mnist, cifar10, california_housing and sst2 as `<name>.npz`; unpacked once."""
    source = _require(SHARED / "data")
    folder = ROOT / ".cache" / "datasets"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "unpacking").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run side by side
        if not (folder.parent / "unpacked").exists():
            subprocess.run([sys.executable, str(source / "unpack.py"), str(folder)], check=True)
            (folder.parent / "unpacked").touch()
    return folder
