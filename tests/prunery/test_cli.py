from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import onnx
import pytest

from tests.prune_engine.inspected import two_layers


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


def ended(*words: str, **environment: str) -> tuple[int, str]:
    """Exit status and stderr of a command."""
    run = subprocess.run(
        [sys.executable, "-m", *words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return run.returncode, run.stderr


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("PRUNERY_PORT", "abc", "a valid integer"),
        ("PRUNERY_ALLOWED_HOSTS", "prunery.example.org", 'a list in JSON, as ["a", "b"]'),
        ("REDIS_URL", "localhost:6379", "redis://"),
        ("PRUNERY_OUTGOING_PROXY", "proxy:3128", "http://proxy:3128"),
    ],
)
@pytest.mark.parametrize(
    "command",
    [
        ("service.server",),
        ("worker",),
        ("worker.health",),
        ("service.health",),
        ("prunery", "keys", "list"),
        ("prunery", "up"),
        ("prunery", "inspect", "no.onnx"),
        ("prunery", "prune", "no.onnx", "--density", "0.1", "--data", "digits"),
    ],
    ids=" ".join,
)
def test_a_setting_that_cannot_be_used_is_named(
    command: tuple[str, ...], variable: str, value: str, said: str
) -> None:
    status, stderr = ended(*command, **{variable: value})
    assert status == (1 if command[0].endswith("health") else 2)
    assert stderr.startswith(f"error: {variable}: "), stderr
    assert said in stderr
    assert stderr.count("\n") == 1


@pytest.mark.parametrize("kind", ["file", "below a file", "read-only"])
def test_a_result_that_could_not_be_written_is_refused_before_the_training(tmp_path: Path, kind: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "read-only").mkdir(0o500)
    out = {"file": "file", "below a file": "file/out", "read-only": "read-only/out"}[kind]
    if kind == "read-only" and os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    status, stderr = ended(
        *("prunery", "prune", "no.onnx", "--density", "0.1", "--data", "digits", "--out", str(tmp_path / out))
    )
    assert status == 2
    assert "--out" in stderr


def test_several_gpus_are_refused_where_there_is_one_process(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    onnx.save(two_layers(), model)
    status, stderr = ended(
        *("prunery", "prune", str(model), "--density", "0.5", "--data", "digits", "--gpus", "2"),
        *("--out", str(tmp_path / "out")),
    )
    assert status == 2
    assert "torchrun --nproc-per-node 2" in stderr
    assert "[device_unavailable]" in stderr
