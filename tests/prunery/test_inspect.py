"""`prunery inspect`: tables for people, JSON for programs, an exit status for scripts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.prune_engine import inspected


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models")
    onnx.save(inspected.two_layers(), made / "sound.onnx")
    onnx.save(inspected.with_a_stranger(), made / "strange.onnx")
    np.savez(made / "wide.npz", x=np.ones((40, 9), np.float32), y=np.arange(40) % 3)
    return made


def prunery(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "prunery", "inspect", *map(str, arguments)]
    environment = os.environ | {"COLUMNS": "160"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


def test_a_sound_model_is_shown_in_tables_and_as_a_page(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = prunery(folder / "sound.onnx", "--density", "0.5", "--html", page)
    assert done.returncode == 0, done.stderr
    for text in ("can be pruned", "Gemm", "w1", "6×4", "keeps 21", "bias", "training time here"):
        assert text in done.stdout
    assert "This model can be pruned." in page.read_text()


def test_json_is_all_there_is_on_stdout(folder: Path) -> None:
    done = prunery(folder / "strange.onnx", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["problems"][0]["code"] == "operator_unsupported"
    assert "[operator_unsupported]" in done.stderr


def test_data_that_do_not_fit_are_told_on_stderr_with_their_code(folder: Path) -> None:
    done = prunery(folder / "sound.onnx", "--data", folder / "wide.npz")
    assert done.returncode == 2
    assert "[data_shape_mismatch]" in done.stderr
    assert "w1" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(("--density", "7"), "spec_invalid"), (("--input-specs", "{"), "spec_invalid")],
)
def test_what_is_asked_wrongly_is_refused_before_anything_is_read(
    folder: Path, arguments: tuple[str, ...], code: str
) -> None:
    done = prunery(folder / "sound.onnx", *arguments)
    assert done.returncode == 2
    assert f"[{code}]" in done.stderr
    assert done.stdout == ""


def test_a_file_that_is_no_model_is_refused(folder: Path) -> None:
    done = prunery(folder / "wide.npz")
    assert done.returncode == 2
    assert "[model_format_unknown]" in done.stderr
