"""`prunery prune`: the engine without a server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from prune_engine.spec import PruneSpec
from tests.end_to_end.pruned import nonzero


def prunery(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "prunery", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_prune_writes_model_report_page_and_masks(digits_onnx: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = prunery(
        "prune", digits_onnx, "--density", "0.1", "--data", "digits", "--epochs", "2", "--out", out
    )
    assert done.returncode == 0, done.stderr
    kept, total = nonzero((out / "model.onnx").read_bytes())
    assert kept == round(0.1 * total)
    assert json.loads((out / "report.json").read_text())["settings"]["epochs"] == 2
    assert "<svg" in (out / "report.html").read_text()
    with np.load(out / "masks.npz") as masks:
        assert sum(int(masks[name].sum()) for name in masks.files) == kept
    assert "accuracy" in done.stdout


def test_every_field_of_the_spec_is_an_option() -> None:
    shown = prunery("prune", "--help").stdout
    for name in PruneSpec.model_fields:
        assert f"--{name.replace('_', '-')}" in shown


def test_bad_input_goes_to_stderr_with_its_code_and_status_2(digits_onnx: Path, tmp_path: Path) -> None:
    for arguments, code in (
        (["--density", "1.5", "--data", "digits"], "spec_invalid"),
        (["--density", "0.5", "--data", "no_such_set"], "dataset_unknown"),
    ):
        done = prunery("prune", digits_onnx, *arguments, "--out", tmp_path / "out")
        assert done.returncode == 2
        assert code in done.stderr
        assert done.stdout == ""
    assert not (tmp_path / "out").exists()


def test_a_missing_model_is_bad_input(tmp_path: Path) -> None:
    done = prunery("prune", tmp_path / "none.onnx", "--density", "0.5", "--data", "digits")
    assert done.returncode == 2
    assert "none.onnx" in done.stderr
