from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version


def test_version_is_the_packages() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "prunery", "--version"], capture_output=True, text=True, check=True
    )
    assert told.stdout == f"prunery {version('prunery')}\n"


def test_nothing_heavy_is_imported_before_a_subcommand_runs() -> None:
    code = (
        "import sys, prunery.cli; "
        "print([m for m in ('torch', 'onnx', 'celery', 'fastapi', 'sklearn') if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"
